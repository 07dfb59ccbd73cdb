"""Captions of shards that are not finished, so that a stopped command resumes within a shard.

The whole batches of a draft are used again: every answer of an endpoint, in order, and the finished batches
of a local model. Requests without an answer are sent again. A draft is written every ten seconds at most, and
when the captions end early. It lies beside the records, as `NAME-000000.draft.json`. The command that
finishes the set removes it.
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

SECONDS = 10.0  # between two versions of a draft, at least

_SUFFIX = ".draft.json"

Json = dict[str, Any]


def captions(
    captioner: Captioner, samples: Iterable[Sample], storage: Storage, part: Part
) -> Iterator[tuple[Sample, str]]:
    """Yields each sample of a shard and its caption, as `captioners.captions` does.

    Starts with the captions of the draft. Writes it at the ends of batches, and if the captions end early."""
    # Draft. A batch is repeated whole, so that its captions do not depend on the stop.
    name = part.file.rsplit(".", 1)[0] + _SUFFIX
    fingerprint = digest({"captioner": captioner.identity, "shard": part.content["shard"]})
    texts = _read(storage, name, fingerprint)
    del texts[len(texts) // captioner.at_once * captioner.at_once :]

    # Captions of the draft, then those of the captioner.
    coming, written, since = iter(samples), len(texts), time.monotonic()
    yield from zip(islice(coming, len(texts)), tuple(texts), strict=True)
    try:
        for sample, text in captioners.captions(captioner, coming):
            texts.append(text)
            if len(texts) % captioner.at_once == 0 and time.monotonic() - since >= SECONDS:
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
    """Returns the captions of a draft: none if it is missing, damaged, or of another captioner or shard."""
    try:
        draft = json.loads(storage.read(name))
        return list(draft["captions"]) if draft["fingerprint"] == fingerprint else []
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError):
        return []


def _write(storage: Storage, name: str, fingerprint: str, texts: list[str]) -> None:
    draft: Json = {"fingerprint": fingerprint, "captions": texts}
    storage.write(name, json.dumps(draft, ensure_ascii=False, indent=1).encode())
