"""Captions of shards that are not finished. A stopped command resumes within a shard, and pays for no
caption twice.

A draft lies beside the records, as `NAME-000000.draft.json`. The command that finishes the set removes it.
"""

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from caption import captioners
from caption.captioners import Captioner
from synth.errors import UserError
from synth.sets.records import Part
from synth.sets.shards import Sample
from synth.sets.storage import Storage
from synth.settings import digest

SECONDS = 10.0  # between two versions of a draft

_SUFFIX = ".draft.json"

Json = dict[str, Any]


def captions(
    captioner: Captioner, samples: Iterable[Sample], storage: Storage, part: Part
) -> Iterator[tuple[Sample, str]]:
    """Yields each sample of a shard and its caption, as `captioners.captions` does.

    Starts with the captions of the draft. Writes it at times, and if the captions end early."""
    # Draft. Batches of a local model begin at multiples of their size.
    name = part.file.rsplit(".", 1)[0] + _SUFFIX
    fingerprint = digest({"captioner": captioner.identity, "shard": part.content["shard"]})
    texts = _read(storage, name, fingerprint)
    del texts[len(texts) // captioners.AT_ONCE * captioners.AT_ONCE :]

    # Captions of the draft, then those of the captioner.
    coming, written, since = iter(samples), len(texts), time.monotonic()
    yield from zip(islice(coming, len(texts)), tuple(texts), strict=True)
    try:
        for sample, text in captioners.captions(captioner, coming):
            texts.append(text)
            if time.monotonic() - since >= SECONDS:
                _write(storage, name, fingerprint, texts)
                written, since = len(texts), time.monotonic()
            yield sample, text
    finally:
        # The error that ended the captions is the one to show.
        if written < len(texts) < part.count:
            with contextlib.suppress(UserError, OSError):
                _write(storage, name, fingerprint, texts)


def remove(storage: Storage) -> None:
    """Removes all drafts."""
    storage.remove([name for name in storage.sizes() if name.endswith(_SUFFIX)])


def _read(storage: Storage, name: str, fingerprint: str) -> list[str]:
    """Returns the captions of a draft. They are none if it is of other terms, damaged, or missing."""
    try:
        draft = json.loads(storage.read(name))
        return list(draft["captions"]) if draft["fingerprint"] == fingerprint else []
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError):
        return []


def _write(storage: Storage, name: str, fingerprint: str, texts: list[str]) -> None:
    draft: Json = {"fingerprint": fingerprint, "captions": texts}
    storage.write(name, json.dumps(draft, ensure_ascii=False, indent=1).encode())
