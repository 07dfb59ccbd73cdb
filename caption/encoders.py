"""DOOR. Frozen CLIP encoders: any of open_clip, by hub name, file or folder, and three shipped ones.

An encoder's name is one of
    MODEL/TAG     a name of open_clip's list, such as ViT-B-32/openai: weights from the hub or its cache
    MODEL=FILE    that architecture with the weights of a local .pt or .safetensors file
    FOLDER        a folder with open_clip_config.json and weights, as open_clip writes them
    nano          data/nano: trained on formula pictures and their attribute sentences only
    nano-emoji    data/nano-emoji: nano, trained further on an emoji font and its names
    nano-scenes   data/nano-scenes: nano, trained further on scenes and their sentences
Axes: N pictures or texts, D dimensions of the embedding, H and W pixels.
"""

import contextlib
import difflib
import functools
import json
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from torch.nn.attention import SDPBackend, sdpa_kernel

from caption import text_towers
from caption.lean_imports import complete_towers, import_open_clip
from caption.text_towers import TextTower
from synth import caches
from synth.checkout import ROOT
from synth.errors import UserError
from synth.sets.storage import reading, sha256_of

DEFAULT = "ViT-B-32/openai"
NANO = "nano"
SHIPPED = (NANO, "nano-emoji", "nano-scenes")  # folders of data/
PRECISIONS = ("fp32", "bf16")

_DATA = ROOT / "data"
_CONFIG = "open_clip_config.json"
MERGES = "merges.txt.gz"  # of the byte-pair tokeniser in an encoder's folder
_LOCAL = "local-dir:"  # open_clip's schema of folders
_FOREIGN = ("hf_model_name", "timm_model_name")  # keys of towers that other packages build
_WEIGHTS = (".pt", ".pth", ".bin", ".safetensors")
# Weights in a folder. open_clip takes the first of these names, else any, safetensors first.
_PREFERRED = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    *("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
_ENDINGS = (".safetensors", ".bin", ".pth")
_CONTEXT = 77  # tokens, if a config has no number
_TEXTS_AT_ONCE = 256

Json = dict[str, Any]


@dataclass(frozen=True)
class EncoderSource:
    """The origin of an encoder: names and a weights file, without a built model."""

    name: str  # in tables
    model: str  # in open_clip
    weights: str  # file
    options: tuple[tuple[str, Any], ...] = ()  # further arguments of open_clip

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the weights file, in hex."""
        return sha256_of(self.weights)


def find(name: str) -> EncoderSource:
    """Returns the source of an encoder, after fetching hub weights.

    Raises UserError if the name is unknown."""
    # Shipped encoders. Ray puts data/ on a node's path.
    if name in SHIPPED:
        folders = (_DATA / name, *(Path(place) / name for place in sys.path))
        return _in_folder(next((f for f in folders if (f / _CONFIG).is_file()), _DATA / name), name)

    # Folders and files.
    if name and Path(name).is_dir():
        folder = Path(os.path.abspath(name))
        return _in_folder(folder, folder.name)
    model, equals, file = name.partition("=")
    if equals:
        return _of_file(model, Path(file))
    if name.endswith(_WEIGHTS):
        raise UserError(
            f"the encoder {name} has no architecture; write one before the file, such as ViT-B-32={name}"
        )
    return _on_hub(name)


def absolute(name: str) -> str:
    """Returns the name of an encoder for workers in another working folder: with the whole path of a folder
    or file."""
    if name in ("", *SHIPPED):
        return name
    if Path(name).is_dir():
        return os.path.abspath(name)
    model, equals, file = name.partition("=")
    return f"{model}={os.path.abspath(file)}" if equals else name


@functools.lru_cache(maxsize=2)
def load(source: EncoderSource, device: str = "cpu", precision: str = "fp32") -> "Encoder":
    """Returns the encoder, ready on a device. Caches it, so that a worker loads it once.

    Raises UserError if the weights do not fit."""
    return Encoder(source, device, precision)


class Encoder:
    """A frozen image and text encoder."""

    def __init__(self, source: EncoderSource, device: str, precision: str) -> None:
        self.source, self.device, self.precision = source, torch.device(device), precision
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32

        # Frozen model.
        with _open_clip() as open_clip:
            model = _built(open_clip, source)
            self._tokenizer = _tokenizer(open_clip, source)
        self.preprocessing: Json = {**model.visual.preprocess_cfg, "antialias": True}
        self._model = model.to(self.device, self._dtype).eval().requires_grad_(False)

        # Its input and output.
        size = self.preprocessing["size"]
        self.size = int(size[0] if isinstance(size, Sequence) else size)  # pixels a side of the model's input
        self._mean, self._std = (self._channels("mean"), self._channels("std"))
        self.dimensions = int(self.features(torch.zeros(1, 3, 8, 8, device=self.device)).shape[1])  # D

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """Returns embeddings float32 (N, D) of unit length, from float (N, 3, H, W) around 0..1, H = W.

        Nothing is clamped, so gradients reach every pixel."""
        size = (self.size, self.size)
        sized = F.interpolate(pictures.float(), size, mode="bicubic", antialias=True, align_corners=False)

        # The gradient of fused attention in bf16 takes six times as long on a CPU.
        if self.device.type == "cpu" and self._dtype == torch.bfloat16:
            with sdpa_kernel(SDPBackend.MATH):
                return self._embed(sized)
        return self._embed(sized)

    @torch.inference_mode()
    def images(self, pixels: np.ndarray | torch.Tensor) -> np.ndarray:
        """Returns embeddings float32 (N, D) of unit length, from uint8 (N, H, W, 3), H = W.

        The pictures are resized and normalised on the device."""
        return self._embed(self._planes(pixels)).cpu().numpy()

    @torch.inference_mode()
    def patches(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the embeddings of `images`, and float32 (N, P, W), the vectors of the P patches.

        The latter enter the last block. Raises UserError if the encoder is no vision transformer."""
        # The last block's output for patches was never trained: only the class token leaves it.
        visual = self._model.visual
        layers = len(getattr(getattr(visual, "transformer", None), "resblocks", ()))
        if layers < 2:
            raise UserError(f"the encoder {self.source.name} has no vectors of patches; give --reads vector")
        normal = self._normal(self._planes(pixels))
        read = visual.forward_intermediates(normal, indices=[layers - 2], output_fmt="NLC")
        [patches] = read["image_intermediates"]
        return _unit(read["image_features"].float()).cpu().numpy(), patches.float().cpu().numpy()

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns embeddings float32 (N, D) of unit length.

        The tokeniser cuts texts longer than the context: see `cut`."""
        parts = [torch.zeros(0, self.dimensions)]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            tokens = self._tokenizer(list(texts[start : start + _TEXTS_AT_ONCE])).to(self.device)
            parts.append(_unit(self._model.encode_text(tokens).float()).cpu())
        return torch.cat(parts).numpy()

    def text_tower(self) -> TextTower:
        """Returns the text transformer as plain tensors. Raises UserError if it is not of CLIP's kind."""
        if self.precision != "fp32":
            return load(self.source, "cpu", "fp32").text_tower()
        return text_towers.read(self.source.name, self._model, self._tokenizer)

    def cut(self, text: str) -> str:
        """Returns the text, without its last words if it is longer than the context."""
        if self._fits(text):
            return text

        # Bisection over the number of words. If not even one fits, the tokeniser cuts it.
        words = text.split()
        least, most = 1, len(words)
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if self._fits(" ".join(words[:middle])) else (least, middle)
        return " ".join(words[:least])

    def _fits(self, text: str) -> bool:
        """Returns True if the tokeniser keeps all of a text.

        With room for one more token, it then returns the same tokens and padding."""
        length = self._tokenizer.context_length
        tight = self._tokenizer([text])[0]
        loose, empty = self._tokenizer([text, ""], context_length=length + 1)
        return torch.equal(tight, loose[:length]) and bool(loose[length] == empty[length])

    def _channels(self, name: str) -> torch.Tensor:
        """Returns a preprocessing value per channel, (1, 3, 1, 1)."""
        return torch.tensor(self.preprocessing[name], device=self.device).view(1, 3, 1, 1)

    def _planes(self, pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Returns pictures uint8 (N, H, W, 3) at the model's size, (N, 3, S, S) in 0..1."""
        planes = torch.as_tensor(pixels).to(self.device, non_blocking=True).permute(0, 3, 1, 2)  # N 3 H W
        if planes.shape[2:] != (self.size, self.size):
            planes = _resized(planes, self.size)
        return planes.float() / 255

    def _embed(self, pictures: torch.Tensor) -> torch.Tensor:
        """Returns embeddings float32 (N, D) of pictures (N, 3, S, S) in 0..1."""
        return _unit(self._model.encode_image(self._normal(pictures)).float())

    def _normal(self, pictures: torch.Tensor) -> torch.Tensor:
        """Returns pictures in 0..1 as the model reads them."""
        return ((pictures - self._mean) / self._std).to(self._dtype)


def choose_device(name: str) -> str:
    """Returns the torch device of `auto`, `cpu` or `cuda`. Raises UserError if it is not available."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; known are auto, cpu and cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "this machine has no CUDA device, or this torch is built without CUDA; give --device cpu"
        )
    return name


def has_bf16(device: str) -> bool:
    """Returns True if a device computes in bfloat16 natively."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def is_folder(folder: Path) -> bool:
    """Returns True for the folder of an encoder."""
    return (folder / _CONFIG).is_file()


def _in_folder(folder: Path, name: str) -> EncoderSource:
    """Returns the source of an encoder's folder, with the weights file that open_clip loads.

    Raises UserError if a file is missing."""
    files = sorted(folder.glob("*")) if folder.is_dir() else []
    weights = [path for path in files if path.suffix in _ENDINGS]
    named = any(path.name.startswith("open_clip_") for path in weights)
    if not (folder / _CONFIG).is_file() or not named:
        raise UserError(
            f"{folder} holds no encoder: it needs {_CONFIG} and open_clip_model.safetensors,"
            " as open_clip writes them"
        )
    return EncoderSource(name, f"{_LOCAL}{folder}", str(min(weights, key=_place_in_open_clip)))


def _place_in_open_clip(file: Path) -> tuple[bool, int, bool, str]:
    """Returns the sorting key of a weights file: open_clip loads the least one of a folder."""
    preferred = file.name in _PREFERRED
    place = _PREFERRED.index(file.name) if preferred else 0
    return not preferred, place, file.suffix != ".safetensors", str(file)


def _of_file(model: str, file: Path) -> EncoderSource:
    """Returns the source of a known architecture with the weights of a file."""
    if not file.is_file():
        raise UserError(f"the encoder's file {file} does not exist; give --encoder {model}=FILE")
    if file.suffix not in _WEIGHTS:
        raise UserError(f"{file} is no weights file; its name must end in {', '.join(_WEIGHTS)}")
    with _open_clip() as open_clip:
        _require_known(model, open_clip.list_models(), "architecture")
    return EncoderSource(f"{model}/{file.stem}", model, str(file.absolute()))


def _on_hub(name: str) -> EncoderSource:
    """Returns the source of a model of open_clip's list, with its weights in the local cache."""
    with _open_clip() as open_clip:
        # Name.
        names = [f"{model}/{tag}" for model, tag in open_clip.list_pretrained()]
        _require_known(name, names, "encoder")
        model, tag = name.split("/")
        config = open_clip.get_pretrained_cfg(model, tag)

        # Weights.
        _do_not_wait_for_the_hub()
        try:
            # By itself, open_clip uses ~/.cache whatever the variables say.
            folder = None if caches.home_holds(".cache") else caches.folder("clip")
            moved = {"cache_dir": str(folder)} if folder else {}
            weights = open_clip.download_pretrained(config, **moved)
        except Exception as error:
            raise UserError(_no_weights(name, config, error)) from None

    # The activation that the weights were trained with belongs to the tag, not to the architecture.
    options = (("force_quick_gelu", True),) if config.get("quick_gelu") else ()
    return EncoderSource(name, model, weights, options)


def _no_weights(name: str, config: Json, error: Exception) -> str:
    """Returns the sentence of an error: the weights of a hub model can not be fetched."""
    # Address.
    address = config.get("url")
    if config.get("hf_hub"):
        address = f"https://huggingface.co/{config['hf_hub']}".rstrip("/")

    # Architecture.
    model = name.split("/")[0]
    if config.get("quick_gelu") and "quickgelu" not in name:
        model += "-quickgelu"

    ways = f"run this once with a network, or download them from {address} and give --encoder {model}=FILE"
    return (
        f"the weights of {name} are not in the cache and cannot be fetched ({type(error).__name__}): {ways};"
        f" --encoder {NANO} needs neither"
    )


def _do_not_wait_for_the_hub() -> None:
    """Sets the hub's client offline if the hub does not answer within 5 s.

    The client would retry for a minute."""
    from huggingface_hub import constants

    # A direct connection is no test of a proxy.
    address = urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or getproxies():
        return

    # One connection.
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError:
        constants.HF_HUB_OFFLINE = True


def _require_known(name: str, names: Sequence[str], kind: str) -> None:
    """Raises UserError, with similar names, if a name is none of the names."""
    if name not in names:
        near = difflib.get_close_matches(name, [*names, *SHIPPED], n=5, cutoff=0.3)
        hint = f"known are {', '.join(SHIPPED)}, {DEFAULT} and the models of open_clip's list"
        if near:
            hint = f"similar names are {', '.join(near)}"
        raise UserError(f"unknown {kind} {name!r}; {hint}; give a file as MODEL=FILE, a folder by its path")


def _built(open_clip: Any, source: EncoderSource) -> Any:
    """Returns the model with its weights, float32 on the CPU. Raises UserError if they do not fit."""
    try:
        schema = source.model.startswith(_LOCAL)
        pretrained = None if schema else source.weights
        if _has_foreign_tower(open_clip, source):
            complete_towers(open_clip)
        with reading(source.weights):
            return open_clip.create_model(
                source.model, pretrained=pretrained, require_pretrained=True, **dict(source.options)
            )
    except UserError:
        raise
    # open_clip and torch raise many kinds of errors for unknown weights.
    except Exception as error:
        model = source.model.removeprefix(_LOCAL)
        raise UserError(
            f"{source.weights} does not hold the weights of {model} ({_line(error)});"
            " give the architecture of these weights as MODEL=FILE"
        ) from None


def _line(error: Exception) -> str:
    """Returns the first line of an error's text, else the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(": ") if lines else type(error).__name__


def _has_foreign_tower(open_clip: Any, source: EncoderSource) -> bool:
    """Returns True if a tower of the model comes from transformers or timm."""
    if not source.model.startswith(_LOCAL):
        config = open_clip.get_model_config(source.model) or {}
    else:
        config = json.loads((Path(source.model.removeprefix(_LOCAL)) / _CONFIG).read_bytes())["model_cfg"]
    towers = {**config.get("text_cfg", {}), **config.get("vision_cfg", {})}
    return any(towers.get(key) for key in _FOREIGN)


def _tokenizer(open_clip: Any, source: EncoderSource) -> Any:
    """Returns the tokeniser, with the merges of the encoder's folder if it has any.

    Raises UserError if its files are missing or damaged."""
    folder = Path(source.model.removeprefix(_LOCAL))
    try:
        with reading(str(folder)):
            if not (folder / MERGES).is_file():
                return open_clip.get_tokenizer(source.model)

            # open_clip alone would take the tokenizer.json beside the merges, which needs transformers.
            config = json.loads((folder / _CONFIG).read_bytes())
            length = config["model_cfg"]["text_cfg"].get("context_length", _CONTEXT)
            return open_clip.SimpleTokenizer(bpe_path=str(folder / MERGES), context_length=length)
    except UserError:
        raise
    # open_clip, transformers and gzip raise many kinds of errors for missing or damaged files.
    except Exception as error:
        advice = "run this once with a network, which fetches its files"
        if source.model.startswith(_LOCAL):
            advice = "copy the whole folder of the encoder again, with its tokeniser's files"
        problem = f"the tokeniser of the encoder {source.name} cannot be made ({_line(error)})"
        raise UserError(f"{problem}; {advice}") from None


def _resized(planes: torch.Tensor, size: int) -> torch.Tensor:
    """Returns pictures uint8 (N, 3, H, W) as (N, 3, S, S) in 0..255, antialiased bicubic as in Pillow."""
    # On a CPU, bytes are ten times as fast as floats.
    if planes.device.type == "cpu":
        return F.interpolate(planes, (size, size), mode="bicubic", antialias=True, align_corners=False)

    # Other devices resize floats only.
    sized = F.interpolate(planes.float(), (size, size), mode="bicubic", antialias=True, align_corners=False)
    return sized.clamp(0, 255).round()


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


@contextlib.contextmanager
def _open_clip() -> Iterator[Any]:
    """Yields open_clip, importable on any machine, without its log lines and warnings."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield import_open_clip()
    finally:
        logging.disable(previous)
