"""The origin of a run: the data that it saw with their licences, its commands, its time, and its figures."""

import json
from pathlib import Path
from typing import Any

from synth import datasets, settings
from synth.errors import UserError
from synth.sets.shards import ShardSet
from train import checkpoint, runs
from train.runs import Run

UNKNOWN = "unknown"
LOG, FIGURES = "log.jsonl", "metrics.jsonl"
_CC0 = "CC0-1.0"
_SHARED = (
    "The weights are CC0-1.0 as far as they are ours to give. The training data have licences of their own,"
    " which the card lists."
)

Json = dict[str, Any]


def data_of(run: Run) -> list[Json]:
    """Returns a row for each set: name, digest of its manifest, licence, and for mixtures how it was read.

    A set that has moved or changed has an unknown licence. An export keeps its rows in config.json."""
    # Exports and imports.
    metadata = run.metadata
    if "data" in metadata:
        return list(metadata["data"])
    if imported := metadata.get("imported"):
        name = f"the training data of {imported['from']}, which the file does not name"
        return [{"name": name, "digest": None, "licence": UNKNOWN}]

    # Sets of this run, and of the run before.
    shards = metadata["shards"]
    rows = [
        {"name": row["dataset"], "digest": row["digest"], "licence": _licence(row), **_reading(row)}
        for row in shards.get("sets", [shards])
    ]
    if metadata["from"]:
        rows += [row for row in _earlier(metadata["from"]) if row not in rows]
    return rows


def licence_of(rows: list[Json]) -> str:
    """Returns the licence of weights that were trained on these data."""
    licences = {row["licence"] for row in rows}
    if licences == {_CC0}:
        return _CC0
    return UNKNOWN if any(licence.startswith(UNKNOWN) for licence in licences) else _SHARED


def portable(metadata: Json) -> Json:
    """Returns config.json with the places below the working directory relative to it."""
    here = f"{Path.cwd()}/"

    def relative(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: v.removeprefix(here) if key == "url" and isinstance(v, str) else relative(v)
                for key, v in value.items()
            }
        return [relative(each) for each in value] if isinstance(value, list) else value

    return {name: relative(value) for name, value in metadata.items()}


def measured(run: Run, images_seen: int) -> Json:
    """Returns the entries of an export on the run up to a checkpoint: `commands`, `images` and `cpu_seconds`
    of training, with those of the run that it started from, and `figures`. Leaves out what is unknown."""
    if run.exported:
        names = ("commands", "images", "cpu_seconds", "figures")
        return {name: run.metadata[name] for name in names if name in run.metadata}
    entries = _training(run, images_seen)
    figures = [row for row in _rows(run.path / FIGURES) if row.get("images_seen") == images_seen]
    return {**entries, **({"figures": figures} if figures else {})}


def _training(run: Run, images_seen: int) -> Json:
    """Returns commands, images and CPU seconds of a run, together with the run that it started from."""
    log = [row for row in _rows(run.path / LOG) if row["images_seen"] <= images_seen]
    argv, seconds = run.metadata.get("made_by", {}).get("argv"), [row.get("cpu_seconds", 0.0) for row in log]
    commands = [argv] if argv else []
    entries: Json = {"commands": commands, "images": images_seen, "cpu_seconds": round(sum(seconds), 1)}
    if source := run.metadata["from"]:
        if not (origin := _origin(source)):
            return entries
        base, folder = origin
        clock = base.images_seen(folder)
        before = measured(base, clock) if base.exported else _training(base, clock)
        entries["commands"] = [*before.get("commands", ()), *commands]
        entries["images"] += before.get("images", 0)
        entries["cpu_seconds"] = round(entries["cpu_seconds"] + before.get("cpu_seconds", 0.0), 1)
    return entries


def _rows(path: Path) -> list[Json]:
    """Returns the rows of a file of JSON lines, or none if there is no file. Leaves a torn last line out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line.strip()]


def _reading(row: Json) -> Json:
    """Returns the entry `read`: how a run with live sets read this set. Empty for other runs."""
    parts = [f"share {row['share']:.4g}"] if "share" in row else []
    if drawn := row.get("live"):
        dataset = datasets.get(drawn["dataset"])
        usual = json.loads(settings.canonical(vars(dataset.module.Config(**dataset.config))))
        changes = [f"{key}={_written(v)}" for key, v in drawn["config"].items() if usual.get(key) != v]
        count = f"{drawn['pictures']:,} pictures" if drawn["pictures"] else "a new picture at every visit"
        size = f"{drawn['size']} pixels a side"
        parts = ["drawn while training", *parts, count, f"seed {drawn['seed']}", size, *changes]
    return {"read": ", ".join(parts)} if parts else {}


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _licence(row: Json) -> str:
    """Returns the licence in the manifest of a set, or `unknown` if the set is not as the run saw it.

    Live sets are drawn by exnihilo's own laws."""
    if "live" in row:
        return _CC0
    try:
        shards = ShardSet(row["url"])
    except UserError:
        return UNKNOWN
    known = shards.digest == row["digest"]
    return str(shards.manifest.get("licence", UNKNOWN)) if known else UNKNOWN


def _earlier(source: Json) -> list[Json]:
    """Returns the rows of the run that training started from, or one row for it if it has moved."""
    if origin := _origin(source):
        return data_of(origin[0])
    name = f"the training data of {source['run']}, where training started"
    return [{"name": name, "digest": None, "licence": UNKNOWN}]


def _origin(source: Json) -> tuple[Run, Path] | None:
    """Returns the run that training started from, and its checkpoint, or None if they have moved or
    changed."""
    try:
        run = runs.find(source["run"])
        [folder] = [each for each in run.checkpoints() if run.exported or each.name == source["checkpoint"]]
        same = checkpoint.digest(folder) == source["digest"]
    except (UserError, ValueError):
        return None
    return (run, folder) if same else None
