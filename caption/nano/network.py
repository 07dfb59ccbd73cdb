"""nano: a small image-text model of open_clip's architecture, its tokenizer, and its folder.

The folder is a local directory of open_clip. `open_clip.create_model_and_transforms("local-dir:FOLDER")`
loads the model. The weights are stored as fp16 and are fp32 in memory.
`open_clip.get_tokenizer("local-dir:FOLDER")` loads the tokenizer, by means of transformers. exnihilo itself
builds it from merges.txt.gz, which needs open_clip alone. `transformers.CLIPModel.from_pretrained(FOLDER)`
loads the model too.
"""

import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch.nn.attention import SDPBackend, sdpa_kernel

from caption.encoders import MERGES, EncoderSource
from caption.lean_imports import import_open_clip
from caption.nano import hub_model, hub_tokenizer
from synth.errors import UserError
from synth.sets.storage import reading

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
SIZE = 64  # pixels a side

_MERGES = 2000  # the first ones of open_clip's list
_CHUNKS = 4  # of a batch's texts, by length
_VOCABULARY = 2 * 256 + _MERGES + 2  # bytes, bytes that end a word, merges, start and end of a text

ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": SIZE, "patch_size": 8, "width": 128, "layers": 4, "head_width": 64},
    "text_cfg": {"context_length": 96, "vocab_size": _VOCABULARY, "width": 96, "heads": 3, "layers": 2},
}
PREPROCESSING: dict[str, Any] = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def build() -> Any:
    """Returns a model with random weights from torch's own generator: an open_clip CLIP."""
    import_open_clip()
    from open_clip.model import CLIP

    return CLIP(**ARCHITECTURE)


def carried_on(source: EncoderSource) -> Any:
    """Returns a model with the weights of an encoder, fp32.

    Raises UserError if the encoder has another architecture or tokenizer than nano."""
    # Architecture and tokenizer.
    folder, advice = Path(source.weights).parent, "give --from nano, or a folder that fit-encoder wrote"
    for name, content in ((CONFIG, _config()), (MERGES, merges())):
        file = folder / name
        if not file.is_file() or _decisive(file.read_bytes()) != _decisive(content):
            raise UserError(
                f"fit-encoder cannot start from {source.name}: its {name} is not that of nano; {advice}"
            )

    # Weights.
    model = build()
    try:
        with reading(source.weights):
            tensors = load_file(source.weights)
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (RuntimeError, SafetensorError):
        raise UserError(
            f"{source.weights} does not hold the weights of nano's architecture; {advice}"
        ) from None
    return model


def merges() -> bytes:
    """Returns the tokenizer's list, gzipped: open_clip's header line and its first 2,000 merges."""
    import_open_clip()
    from open_clip.tokenizer import default_bpe

    # A gzip file without its time has the same bytes in every call.
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).split(b"\n")[: _MERGES + 1]
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:
        file.write(b"\n".join(lines))
    return packed.getvalue()


def tokenizer(folder: Path) -> Any:
    """Returns the tokenizer of a folder: texts -> int64 (texts, context length).

    It accepts any text and cuts long ones."""
    import_open_clip()
    from open_clip.tokenizer import SimpleTokenizer

    length = ARCHITECTURE["text_cfg"]["context_length"]
    return SimpleTokenizer(bpe_path=str(folder / MERGES), context_length=length)


def files(model: Any) -> dict[str, bytes]:
    """Returns the files of a model's folder by name: tokenizer, config, and weights as fp16."""
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    ours = {**tokenizer_files(), CONFIG: _config(), WEIGHTS: save(weights)}
    return {**ours, **hub_model.files(ARCHITECTURE, weights)}


def tokenizer_files() -> dict[str, bytes]:
    """Returns the files of the tokenizer by name: its list, and what transformers loads."""
    import_open_clip()
    from open_clip.tokenizer import bytes_to_unicode

    packed = merges()
    pairs = gzip.decompress(packed).decode().split("\n")[1:]
    alphabet = list(bytes_to_unicode().values())
    length = ARCHITECTURE["text_cfg"]["context_length"]
    return {MERGES: packed, **hub_tokenizer.files(pairs, alphabet, length)}


def embed_images(model: Any, pixels: np.ndarray) -> torch.Tensor:
    """Returns unit embeddings of pictures uint8 (B, 64, 64, 3): float32 (B, D)."""
    middle, spread = PREPROCESSING["mean"][0], PREPROCESSING["std"][0]
    planes = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - middle) / spread
    return F.normalize(model.encode_image(planes).float(), dim=-1)


def embed_texts(model: Any, tokens: Any) -> torch.Tensor:
    """Returns unit embeddings of tokens (B, L): float32 (B, D).

    They equal the normalised result of encode_text, without its work on the padding."""
    # Lengths. The token of the end has the greatest number.
    ends = tokens.argmax(dim=1)  # (B,)
    order = ends.argsort(stable=True)

    # Chunks of texts of similar length.
    parts = []
    for rows in order.chunk(_CHUNKS):
        length = int(ends[rows[-1]]) + 1
        embedded = model.token_embedding(tokens[rows, :length])
        x = embedded + model.positional_embedding[:length]  # (rows, length, width)
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        parts.append(x[torch.arange(len(rows)), ends[rows]] @ model.text_projection)
    return F.normalize(torch.cat(parts)[order.argsort()].float(), dim=-1)


@contextmanager
def quick() -> Iterator[None]:
    """Sets bf16 products and unfused attention within the block.

    With so few tokens this is twice as fast on CPUs."""
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        yield


def _config() -> bytes:
    """Returns open_clip_config.json."""
    texts = {**ARCHITECTURE["text_cfg"], **hub_tokenizer.TEXT_CONFIG}
    config = {"model_cfg": {**ARCHITECTURE, "text_cfg": texts}, "preprocess_cfg": PREPROCESSING}
    return f"{json.dumps(config, indent=1)}\n".encode()


def _decisive(file: bytes) -> Any:
    """Returns the content of a file without the entries that name the tokenizer. Older folders lack them."""
    try:
        config = json.loads(file)
        texts = config["model_cfg"]["text_cfg"]
    except (ValueError, LookupError, TypeError):
        return file
    for name in hub_tokenizer.TEXT_CONFIG:
        texts.pop(name, None)
    return config


@contextmanager
def reproducible(count: int) -> Iterator[None]:
    """Sets the number of threads and deterministic operators within the block."""
    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(exact)
