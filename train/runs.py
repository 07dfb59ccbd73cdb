"""DOOR. A run's folder: what the run is (config.json), how it went (log.jsonl, TensorBoard), what it draws (samples/), its checkpoints."""

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from synth.checkout import ROOT
from synth.errors import UserError
from train import config

CONFIG, LOG, SAMPLES = "config.json", "log.jsonl", "samples"
_VERSIONED = ("torch", "open_clip_torch", "numpy", "safetensors")

Json = dict[str, Any]


def describe(run: Path) -> Json:
    """What config.json says. Raises UserError where the folder is no run."""
    try:
        about = json.loads((run / CONFIG).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{run} is no run: it has no {CONFIG}; `python -m train pretrain` makes one") from None
    except ValueError:
        about = None
    if not isinstance(about, dict) or not {"config", "shards", "captions", "encoder"} <= about.keys():
        raise UserError(f"{run / CONFIG} is damaged; give another run")
    return about


def settle(run: Path, about: Json) -> None:
    """Writes what a run is, where none is there yet."""
    if not (run / CONFIG).exists():
        run.mkdir(parents=True, exist_ok=True)
        _write(run / CONFIG, json.dumps({**about, "made_by": _made_by()}, indent=1) + "\n")


def require_same(run: Path, about: Json) -> None:
    """Raises UserError where something else lies in a run's place, telling what differs."""
    if not (run / CONFIG).exists():
        if run.exists() and any(not path.name.startswith(".") for path in run.iterdir()):
            raise UserError(f"{run} is not empty and holds no run; give another --out")
        return
    there = describe(run)
    changed = config.differences(there["config"], about["config"])
    for what in ("shards", "captions", "encoder", "from"):
        old, new = there.get(what) or {}, about.get(what) or {}
        if old.get("digest") != new.get("digest"):
            changed.append(f"the digest of {what} is {str(old.get('digest'))[:12]} there and {str(new.get('digest'))[:12]} here")
    if changed:
        raise UserError(f"{run} holds another run: {'; '.join(changed)}; give another --out, or the same terms as before")


def cut_back(run: Path, images_seen: int) -> None:
    """Takes the lines of images that a resumed run has yet to see off the log."""
    log = run / LOG
    if log.exists():
        lines = [line for line in log.read_text().splitlines() if _images(line) <= images_seen]
        _write(log, "".join(f"{line}\n" for line in lines))


def append(run: Path, line: Json) -> None:
    """Adds a line to the log."""
    with (run / LOG).open("a") as file:
        file.write(json.dumps(line) + "\n")


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Holds a run for one process group. Raises UserError where another one is at work."""
    import fcntl

    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another process trains in {run}; wait for it, or give another --out") from None
        yield


def _images(line: str) -> float:
    """The images seen of a line; a line that was cut by a crash counts as not there."""
    try:
        return float(json.loads(line)["images_seen"])
    except (ValueError, KeyError):
        return float("inf")


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    with part.open() as file:
        os.fsync(file.fileno())
    part.replace(path)


def _made_by() -> Json:
    """Where and by what a run was begun."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in _VERSIONED}}
    return {"argv": sys.argv[1:], "commit": _commit(), "versions": versions}


def _commit() -> str | None:
    """That of this checkout; None where it is none, or git is not here."""
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return asked.stdout.strip() or None
