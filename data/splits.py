"""Held-out pictures, by the owner's lists or by a seed, and splits.json, which lists them."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from data.originals import Original
from synth.errors import UserError
from synth.foreign import parsed_json
from synth.sets.storage import open_storage

FILE, CARD = "splits.json", "README.md"  # of a set as a whole


def held_out(groups: Iterable[str], share: float, seed: int) -> set[str]:
    """Returns the held-out groups (pictures that belong together, by name).

    They have the least blake2b of seed and name. They are at least one and never all. Raises UserError for a
    share outside (0, 1), or a single group."""
    # Options.
    if not 0 < share < 1:
        raise UserError(f"--test-share is {share:g}; it must be between 0 and 1")
    if seed < 0:
        raise UserError(f"--seed is {seed}; it must be at least 0")

    # Order by hash.
    def digest(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()

    ordered = sorted(set(groups), key=digest)
    if len(ordered) < 2:
        raise UserError(f"{len(ordered)} group of pictures cannot be split; give at least 2")
    return set(ordered[: min(max(1, round(share * len(ordered))), len(ordered) - 1)])


def require_place(out: str) -> None:
    """Raises UserError if the place holds a splits.json or a card that nothing may replace.

    A README.md without splits.json beside it is not exnihilo's: a command writes splits.json first."""
    storage = open_storage(out)
    names = storage.sizes().keys()
    if FILE not in names:
        if CARD in names:
            raise UserError(f"{storage.join(CARD)} is not exnihilo's; give another --out")
        return
    try:
        content = parsed_json(storage.read(FILE))
    except ValueError:
        content = None
    if not isinstance(content, dict) or not {"set", "law", "splits"} <= content.keys():
        raise UserError(f"{storage.join(FILE)} is not exnihilo's; give another --out")


def write(out: str, dataset: str, law: str, splits: Mapping[str, Sequence[Original]]) -> None:
    """Writes splits.json next to the sets: the originals of each split, and the law of the split.

    Leaves a file with the same content alone."""
    names = {split: [o.name for o in originals] for split, originals in splits.items()}
    content = {"set": dataset, "law": law, "splits": names}
    data = json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"
    storage = open_storage(out)
    if storage.sizes().get(FILE) != len(data) or storage.read(FILE) != data:
        storage.write(FILE, data)
