"""Captions of a set's pictures by any image-to-text model of transformers.

The model is a local folder of transformers: BLIP, BLIP-2, GIT, a vision encoder with a text decoder, or a
model that chats about pictures, such as LLaVA or Qwen-VL. The last kind gets a prompt by its chat template.
Nothing is fetched, and no code from the folder runs. Decoding is greedy, and thus deterministic.
"""

import contextlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from caption import encoders
from caption.lean_imports import import_torchvision
from synth.errors import UserError
from synth.sets import shards
from synth.sets.shards import ShardSet
from synth.sets.storage import reading

MOST_WORDS = 40  # tokens of a caption
MOST_OF_CHAT = 160  # tokens of a caption by a model that chats
PROMPT = "Describe this picture in one sentence."  # for such a model
AT_ONCE = 16  # pictures

_SHARDS = 8  # read at most; every shard has all classes, and must be read whole


class Captioner(NamedTuple):
    """An image-to-text model, ready."""

    name: str  # its folder's
    prepare: Any  # pictures to tensors; of a model that chats: conversations to tensors
    network: Any
    tokenizer: Any
    chats: bool = False


def load(path: str, device: str) -> Captioner:
    """Returns the model of a folder. Raises UserError if there is none, or transformers is missing."""
    folder, device = Path(path), encoders.choose_device(device)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"--captioner {folder} holds no config.json;"
            " give the folder of an image-to-text model as transformers writes it"
        )

    # transformers may import torchvision, which needs its operators declared first.
    import_torchvision()
    try:
        import transformers
    except ImportError:
        raise UserError(
            "--captioner needs the package transformers; install it with pip install transformers"
        ) from None

    # Network, preprocessor and tokenizer.
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with _quiet(transformers):
        try:
            with reading(str(folder)):
                network: Any = transformers.AutoModelForImageTextToText.from_pretrained(folder, **local)
                prepare: Any = _chat_processor(transformers, folder, local)
                if chats := prepare is not None:
                    tokenizer = prepare.tokenizer
                else:
                    prepare = transformers.AutoImageProcessor.from_pretrained(folder, **local)
                    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
        except UserError:
            raise
        # transformers raises many kinds of errors for unknown folders.
        except Exception as error:
            raise UserError(
                f"--captioner {folder} holds no image-to-text model of transformers ({_line(error)});"
                " give BLIP, BLIP-2, GIT, LLaVA, Qwen-VL or a vision encoder with a text decoder,"
                " with its preprocessor and tokenizer"
            ) from None
    return Captioner(folder.resolve().name, prepare, network.to(device).eval(), tokenizer, chats)


def captions(model: Captioner, shard_set: ShardSet, *, pictures: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yields key and caption of a seeded choice of a set's pictures, batch by batch.

    Raises UserError if the set is damaged, or the model needs more than pictures."""
    chosen = _chosen(shard_set, pictures, seed)
    while batch := list(islice(chosen, AT_ONCE)):
        yield from described(model, batch)


def described(
    model: Captioner, pictures: list[tuple[str, np.ndarray]], prompt: str = PROMPT
) -> Iterator[tuple[str, str]]:
    """Yields key and caption of some pictures. Only a model that chats reads the prompt.

    Raises UserError if the model cannot caption pictures in this way."""
    import torch
    import transformers
    from PIL import Image

    # Greedy decoding.
    images = [Image.fromarray(pixels) for _, pixels in pictures]
    with _quiet(transformers), torch.inference_mode():
        try:
            inputs = _conversations(model, images, prompt) if model.chats else _pixels(model, images)
            inputs = inputs.to(model.network.device, dtype=model.network.dtype)
            most = MOST_OF_CHAT if model.chats else MOST_WORDS
            tokens = model.network.generate(**inputs, max_new_tokens=most, do_sample=False, num_beams=1)
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise UserError(
                f"--captioner {model.name} does not caption a picture by itself ({_line(error)});"
                " give a model that needs no prompt, or has a chat template"
            ) from None

    # Texts, without the prompts.
    begin = inputs["input_ids"].shape[1] if model.chats else 0
    texts = model.tokenizer.batch_decode(tokens[:, begin:], skip_special_tokens=True)
    for (key, _), text in zip(pictures, texts, strict=True):
        yield key, " ".join(text.split())


def _chosen(shard_set: ShardSet, pictures: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields keys and pictures, uint8 (H, W, 3), of a seeded choice from a seeded choice of shards."""
    # Shards, then numbers of pictures within them.
    random = np.random.default_rng([seed, 2])
    chosen = [shard_set.shards[i] for i in sorted(random.permutation(len(shard_set.shards))[:_SHARDS])]
    numbers = set(random.permutation(sum(shard.count for shard in chosen))[:pictures].tolist())

    # Pictures.
    number = 0
    for shard in chosen:
        for key, files in shard_set.verified(shard):
            if number in numbers:
                yield key, shards.decode(key, files, shard_set.storage.join(shard.file)).pixels
            number += 1


def _chat_processor(transformers: Any, folder: Path, local: dict[str, Any]) -> Any:
    """Returns the processor of a model that chats about pictures, or None for any other model."""
    try:
        processor = transformers.AutoProcessor.from_pretrained(folder, **local)
    except Exception:
        # Only models that chat need one.
        return None
    if not isinstance(processor, transformers.ProcessorMixin) or not processor.chat_template:
        return None
    processor.tokenizer.padding_side = "left"
    return processor


def _pixels(model: Captioner, images: list[Any]) -> Any:
    """Returns the input of a model that needs no prompt."""
    from transformers import BatchFeature

    return BatchFeature({"pixel_values": model.prepare(images, return_tensors="pt")["pixel_values"]})


def _conversations(model: Captioner, images: list[Any], prompt: str) -> Any:
    """Returns the input of a model that chats: a conversation for each picture."""
    text = {"type": "text", "text": prompt}
    conversations = [
        [{"role": "user", "content": [{"type": "image", "image": image}, text]}] for image in images
    ]
    return model.prepare.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )


def _line(error: Exception) -> str:
    """Returns the class of an error and the first line of its text."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:160]}" if text else type(error).__name__


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Silences transformers within the block: no bars, log lines or warnings."""
    import warnings

    # Log lines and bars.
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()

    # Warnings.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
