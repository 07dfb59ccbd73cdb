"""The commit protocol: the finished parts of a set, the check that a command may resume it, and the manifest
that closes it.

A set is a place with numbered parts (shards, caption tables). A part has a record, a JSON of the same stem
that is written after it. A part is done exactly if its record exists and agrees with the part's size. When
all records exist the manifest, which holds them all, is written. Readers trust only manifests. The *identity*
of a set is everything that decides its content. Its sha256 is the fingerprint in every record.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any

from synth.errors import UserError
from synth.foreign import parsed_json
from synth.sets.records import Part, Record
from synth.sets.storage import Storage
from synth.settings import canonical, digest

FORMAT = 1
MANIFEST = "manifest.json"
SHARDS = "shards"  # the kind of a set if its identity has none
_NOT_DONE = -1  # bytes of a part that is to be made (again)
_RECORD = re.compile(r"(.+-)?\d{5,}\.json")

# Types of the fields of a record.
_KINDS: dict[str, type[object]] = {
    "file": str,
    "number": int,
    "first": int,
    "count": int,
    "bytes": int,
    "sha256": str,
    "fingerprint": str,
    "identity": dict,
    "content": dict,
    "run": dict,
}
_ELSEWHERE = "give another --out"
_GO_ON = f"{_ELSEWHERE}, or --overwrite to replace what is there"

Json = dict[str, Any]


@dataclass(frozen=True)
class State:
    """The state of a place: its files, records and manifest."""

    sizes: dict[str, int]  # bytes, by file
    records: dict[str, Record]  # by part file, whether its size agrees or not
    manifest: Json | None

    def done(self, part: Part, fingerprint: str) -> bool:
        """Returns True if a part of this set exists, whole, with the planned samples and content."""
        # Whole, and a part of this set.
        record = self.records.get(part.file)
        if record is None or (record.fingerprint, record.bytes) != (fingerprint, self.sizes.get(part.file)):
            return False

        # As planned. The count of a part may be unknown before it is made.
        if part.counted and record.planned != part.count:
            return False
        return part.content.items() <= record.content.items()


def load(storage: Storage) -> State:
    """Returns the state of a place, from its manifest or else from the records one by one. Raises UserError
    for a file that has a record's name and is none."""
    sizes = storage.sizes()

    # A closed set.
    if MANIFEST in sizes:
        manifest = read_manifest(storage, advice=_ELSEWHERE)
        identity, name = manifest["identity"], storage.join(MANIFEST)
        records = [_record({**entry, "identity": identity}, name) for entry in manifest["parts"]]
        return State(sizes, {r.file: r for r in records}, manifest)

    # A set in progress, or none.
    files = storage.read_many(name for name in sizes if _RECORD.fullmatch(name))
    records = [_record(_parsed(data), storage.join(name)) for name, data in files.items()]
    return State(sizes, {r.file: r for r in records}, None)


def require_kind(state: State, storage: Storage, identity: Json) -> None:
    """Raises UserError if a place holds another kind of set, which nothing may replace. Tables must not take
    the place of their shards."""
    for record in state.records.values():
        kinds = [i.get("kind", SHARDS) for i in (record.identity, identity)]
        if kinds[0] != kinds[1]:
            raise UserError(f"{storage.url} holds {kinds[0]} and no {kinds[1]}; give another --out")


def adopted(identity: Json) -> bool:
    """Returns True if the parts are files of other people, described in place. exnihilo never changes or
    removes them."""
    return bool(identity.get("adopted"))


def require_same(state: State, storage: Storage, identity: Json, samples: int | None) -> None:
    """Raises UserError if the set at a place is not the beginning of the requested one. `samples` is None if
    they are not counted yet."""
    # A place with claims alone has nothing to lose.
    fingerprint = digest(identity)
    if state.sizes.keys() <= {r.name for r in state.records.values()}:
        return

    # Another set.
    for record in state.records.values():
        if record.fingerprint != fingerprint:
            differences = "; ".join(_differences(record.identity, identity))
            advice = _ELSEWHERE if adopted(record.identity) and not adopted(identity) else _GO_ON
            raise UserError(f"{storage.url} holds another set: {differences}; {advice}")

    # The files of an adopted set are other people's, whatever their names and number.
    if adopted(identity):
        return

    # Foreign files.
    if not state.records and state.sizes:
        example = f"{sorted(state.sizes)[0]} lies there"
        raise UserError(
            f"{storage.url} is not empty and holds no set of exnihilo ({example}); give another --out"
        )

    # A larger set.
    held = max((r.first + r.count for r in state.records.values()), default=0)
    if samples is not None and held > samples:
        counts = f"{held:,} samples, more than the {samples:,} asked for"
        raise UserError(f"{storage.url} already holds {counts}; sets only grow: {_GO_ON}")


def require_replaceable(state: State, storage: Storage, identity: Json) -> None:
    """Raises UserError if the set at a place may not be replaced by another. Files of other people are never
    replaced. A set of exnihilo's own is never replaced by a description of it."""
    for record in state.records.values():
        if adopted(record.identity) and not adopted(identity):
            tars = "tars that exnihilo has not made and does not replace"
            raise UserError(f"{storage.url} holds {tars}; {_ELSEWHERE}")
        if adopted(identity) and not adopted(record.identity):
            raise UserError(f"{storage.url} holds a set that exnihilo made; it needs no preparation")


def begin(state: State, storage: Storage, claim: Record, files: Iterable[str]) -> None:
    """Prepares a place for making these parts of a set. Removes the manifest and marks the existing records
    of the parts as not done. Writes the `claim` if the place has no record of this set, and removes claims of
    other sets, which have no data."""
    # The manifest goes first, as readers trust it.
    if state.manifest:
        storage.remove([MANIFEST])

    # The new claim first, so that the place has an owner at every moment.
    others = [r for r in state.records.values() if r.fingerprint != claim.fingerprint]
    if len(others) == len(state.records):
        write_record(storage, claim)
    storage.remove(r.name for r in others if r.name != claim.name)

    # Records lose their size and checksum alone.
    for file in files:
        record = state.records.get(file)
        if record and record.fingerprint == claim.fingerprint:
            write_record(storage, replace(record, bytes=_NOT_DONE, sha256=""))


def replace_by(state: State, storage: Storage, claim: Record, companions: Iterable[str]) -> None:
    """Removes a set to make room for another: the files that the records name, the manifest and its
    companions, and no other file. Of an adopted set, it removes the records but no parts. It writes the claim
    of the new set first, so that the place has an owner at every moment."""
    storage.remove([MANIFEST, *companions])
    write_record(storage, claim)

    # The claim may have the name of an old record, and has taken its place.
    records = [r.name for r in state.records.values()]
    parts = [r.file for r in state.records.values() if not adopted(r.identity)]
    storage.remove(name for name in [*records, *parts] if name != claim.name)


def claim(file: str, identity: Json, parts: int = 1) -> Record:
    """Returns a record that claims a place for a set. It holds the number of parts, and its own part is not
    done."""
    return Record(file, 0, 0, 0, _NOT_DONE, "", digest(identity), identity, run={"parts": parts})


def write_record(storage: Storage, record: Record) -> None:
    """Marks a part as done."""
    storage.write(record.name, _readable(asdict(record)))


def manifest(records: Iterable[Record], identity: Json, entries: Json, run: Json) -> Json:
    """Returns the manifest of a set: parts in order, the identity once, and the stage's `entries`. Numbers
    the samples, so that samples left out leave no gap."""
    # Parts, with their first samples.
    ordered = sorted(records, key=lambda r: r.number)
    firsts = accumulate((r.count for r in ordered), initial=0)
    numbered = [replace(r, first=first) for r, first in zip(ordered, firsts, strict=False)]
    parts = [_without(asdict(r), "identity") for r in numbered]

    samples = sum(p["count"] for p in parts)
    head = {"format": FORMAT, "samples": samples, "fingerprint": digest(identity), "identity": identity}
    return {**head, **entries, "parts": parts, "run": run}


def write_manifest(storage: Storage, manifest: Json) -> None:
    """Closes a set."""
    storage.write(MANIFEST, _readable(manifest))


def read_manifest(storage: Storage, *, advice: str = "give a folder that holds a set of exnihilo") -> Json:
    """Returns the manifest of a finished set.

    Raises UserError, which ends with the advice, if there is none, or it is another program's or damaged."""
    try:
        manifest = _parsed(storage.read(MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        fault = f"{storage.url} {_unfinished(storage)}"
        raise UserError(f"{fault}; run the command that makes it, or give another place") from None
    if not _is_manifest(manifest):
        raise UserError(f"{storage.join(MANIFEST)} {_fault(manifest)}; {advice}")
    return manifest


def _fault(content: Any) -> str:
    """Returns a phrase about a file that has the name of a manifest and is none.

    The file may be another program's, so no sentence advises to remove it."""
    if content is None:
        return "is not exnihilo's, or is damaged"
    ours = isinstance(content, dict) and {"format", "fingerprint"} <= content.keys()
    return "is damaged or of another version of exnihilo" if ours else "is not exnihilo's"


def _is_manifest(content: Any) -> bool:
    """Returns True if the content of a file is a manifest of this version."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return False
    kinds = {"parts": list, "identity": dict, "samples": int, "fingerprint": str}
    whole = all(isinstance(content.get(name), kind) for name, kind in kinds.items())
    return whole and all(_is_part(p) for p in content["parts"])


def _unfinished(storage: Storage) -> str:
    """Returns the end of a sentence about a place without a manifest."""
    if not storage.sizes():
        return "is missing or empty: it holds no finished set"

    # Every record holds the number of planned parts.
    records = load(storage).records.values()
    parts = max((r.run.get("parts", 0) for r in records), default=0)
    if not parts:
        return f"has no {MANIFEST}: it holds no finished set"

    # Parts that agree with their records are done.
    sizes = storage.sizes()
    missing = parts - sum(r.bytes == sizes.get(r.file) for r in records)
    return f"holds no finished set: {missing:,} of {parts:,} parts are missing"


def manifest_digest(manifest: Json) -> str:
    """Returns the sha256 of the manifest's canonical JSON without its `run` parts. Later stages pin it."""
    parts = [_without(part, "run") for part in manifest["parts"]]
    return digest(_without({**manifest, "parts": parts}, "run"))


def _differences(old: Json, new: Json) -> list[str]:
    """Returns a phrase for each setting in which two identities differ."""
    old, new = _flat(old), _flat(new)
    rows = [(key, old.get(key, "not set"), new.get(key, "not set")) for key in {**old, **new}]
    return [f"{key} is {there} there and {here} here" for key, there, here in rows if there != here]


def _flat(tree: Json, prefix: str = "") -> Json:
    """Returns the leaves of a tree by their paths, such as config.classes."""
    flat: Json = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def _record(values: Any, name: str) -> Record:
    """Returns a record from its JSON. `name` is its file's. Raises UserError if it is none."""
    try:
        record = Record(**values)
    except TypeError:
        record = None
    if record is None or not _is_part(vars(record)) or not isinstance(record.identity, dict):
        fault = f"{name} is no record that this version of exnihilo reads"
        raise UserError(f"{fault}; move it to another folder, or {_ELSEWHERE}")
    return record


def _is_part(entry: Any) -> bool:
    """Returns True if an entry of a manifest is a record without its identity."""
    kinds = ((name, kind) for name, kind in _KINDS.items() if name != "identity")
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), kind) for name, kind in kinds):
        return False

    # A record names no file of another folder, which --overwrite would remove.
    if not entry["file"] or "/" in entry["file"]:
        return False
    counts = isinstance(entry["run"].get("parts", 0), int)
    return counts and isinstance(entry["content"].get("left_out", []), list)


def _parsed(data: bytes) -> Any:
    try:
        return parsed_json(data)
    except ValueError:
        return None


def _without(tree: Json, key: str) -> Json:
    return {k: v for k, v in tree.items() if k != key}


def _readable(tree: Json) -> bytes:
    """Returns the JSON of a record or manifest, one value a line."""
    text = json.dumps(json.loads(canonical(tree)), indent=1, sort_keys=True, ensure_ascii=False)
    return text.encode() + b"\n"
