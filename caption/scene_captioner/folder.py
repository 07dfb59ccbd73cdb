"""The folder of a captioner that fit-captioner wrote, and the captioner that it holds.

captioner.json       the encoder, the shape of the decoder, the options of the fit, the figures
vocabulary.json      the words
short.safetensors    weights that name the main object, fp16
long.safetensors     weights that state everything, fp16
README.md            the card
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from caption import encoders
from caption.scene_captioner.decoder import Decoder, Seen, Shape
from caption.scene_captioner.vocabulary import Vocabulary
from synth.errors import UserError
from synth.sets.storage import reading

CONFIG, VOCABULARY, CARD = "captioner.json", "vocabulary.json", "README.md"
KIND, LAW = "exnihilo captioner of scenes", 1
TUNINGS = ("short", "long")
AT_ONCE = 64  # pictures

Json = dict[str, Any]


@dataclass(frozen=True)
class Describer:
    """A decoder with its encoder and vocabulary, ready to write captions."""

    decoder: Decoder
    encoder: encoders.Encoder
    vocabulary: Vocabulary

    def captions(self, pictures: Sequence[np.ndarray]) -> list[str]:
        """Returns a caption of each picture, uint8 (H, W, 3). Decoding is greedy."""
        # Each picture is encoded alone, so that sizes may differ.
        seen = [look(self.encoder, picture[None], self.decoder.shape) for picture in pictures]
        patches = [picture.patches for picture in seen if picture.patches is not None]
        vectors = torch.cat([picture.vectors for picture in seen])
        both = Seen(vectors, torch.cat(patches) if patches else None)
        return [self.vocabulary.decode(numbers) for numbers in self.decoder.write(both)]


def look(encoder: encoders.Encoder, pictures: np.ndarray, shape: Shape) -> Seen:
    """Returns the encoder's output on pictures, uint8 (N, H, W, 3), as a decoder of this shape reads it."""
    if not shape.patches:
        return Seen(torch.from_numpy(encoder.images(pictures)).to(encoder.device), None)
    vectors, patches = (torch.from_numpy(array).to(encoder.device) for array in encoder.patches(pictures))
    return Seen(vectors, patches)


def config(encoder: str, sha256: str, shape: Shape, fit: Json, figures: Json) -> bytes:
    """Returns captioner.json."""
    entries = {
        "kind": KIND,
        "law": LAW,
        "encoder": {"name": encoder, "sha256": sha256},
        "shape": asdict(shape),
        "fit": fit,
        "figures": figures,
    }
    return f"{json.dumps(entries, indent=1)}\n".encode()


def words(vocabulary: Vocabulary) -> bytes:
    """Returns vocabulary.json."""
    return f"{json.dumps(list(vocabulary.words), indent=0)}\n".encode()


def weights(decoder: Decoder) -> bytes:
    """Returns the weights of a decoder as fp16, a safetensors file."""
    return save({name: tensor.half().contiguous() for name, tensor in decoder.state_dict().items()})


def is_captioner(folder: str) -> bool:
    """Returns True if a folder holds a captioner of fit-captioner."""
    return (Path(folder) / CONFIG).is_file()


def described(folder: str) -> Json:
    """Returns captioner.json of a folder. Raises UserError if it is not of this version."""
    entries = _json(Path(folder) / CONFIG)
    if not isinstance(entries, dict) or entries.get("kind") != KIND or entries.get("law") != LAW:
        problem = f"{folder}/{CONFIG} does not describe a captioner of this version"
        raise UserError(f"{problem}; `python -m caption fit-captioner --out FOLDER` writes one")
    return entries


def load(folder: str, tuning: str, device: str) -> Describer:
    """Returns the captioner of a folder. Raises UserError if a file is missing, damaged, or of another
    encoder."""
    path, entries = Path(folder), described(folder)

    # Encoder.
    try:
        name, sha256 = entries["encoder"]["name"], entries["encoder"]["sha256"]
        shape = Shape(**entries["shape"])
    except (KeyError, TypeError):
        raise UserError(f"{folder}/{CONFIG} is damaged; copy the whole folder again") from None
    source = encoders.find(name)
    if source.sha256 != sha256:
        problem = f"the captioner {folder} reads the encoder {name}, but {source.weights} holds other weights"
        raise UserError(f"{problem}; put the encoder's old files back, or fit the captioner again")

    # Vocabulary and weights.
    listed, file = _json(path / VOCABULARY), path / f"{tuning}.safetensors"
    decoder = Decoder(shape)
    try:
        with reading(str(file)):
            tensors = load_file(file)
        decoder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except FileNotFoundError:
        raise UserError(f"{file} is missing; copy the whole folder of the captioner again") from None
    except (RuntimeError, SafetensorError):
        raise UserError(f"{file} does not hold the weights of {CONFIG}; copy the folder again") from None
    vocabulary = Vocabulary(tuple(listed)) if isinstance(listed, list) else None
    if vocabulary is None or len(vocabulary) != shape.words:
        raise UserError(f"{path / VOCABULARY} is not the vocabulary of {CONFIG}; copy the folder again")
    encoder = encoders.load(source, device, "fp32")
    return Describer(decoder.to(encoder.device).eval().requires_grad_(False), encoder, vocabulary)


def _json(path: Path) -> Any:
    """Returns the content of a JSON file. Raises UserError if it is missing or no JSON."""
    try:
        with reading(str(path)):
            return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; copy the whole folder of the captioner again") from None
    except ValueError:
        raise UserError(f"{path} is no JSON; copy the captioner's folder again") from None
