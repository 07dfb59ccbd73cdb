"""The pace of this machine: seconds per image of short training runs, and the length of a demo's arms.

Everything else in a demo is foreseen in images too, so a slower machine is slower at all of it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from synth.checkout import ROOT
from synth.errors import UserError
from synth.sets.storage import Folder
from synth.settings import canonical

PRESET, SHIPPED = "emoji-32-diffusion", "formula-32"
ARMS = 4
LOOKS = 8  # checkpoints of an arm
BATCH = 16  # half of the preset's: short runs need the steps
LEAST = 2 * BATCH * LOOKS  # images of an arm: two steps between two checkpoints
WHOLE = 450.0  # seconds of a demo; ten minutes have room for the set-up of .venv too

_ONCE = 3_000  # images that could be trained while the emoji, their captions and the report are made
_EACH = 1_700  # and while an arm starts, and its loss and its grid are measured
_TRIAL = 192  # images of a trial run
_NAME = "demo.json"  # in the folder of a demo
_TRAIN = ("finetune", PRESET, "--from", SHIPPED, "--live", "scenes_flat")
_RUN = ("--text", "blend:1,plain", "--images", str(_TRIAL), "--precision", "fp32", "--device", "cpu")
_PERIODS = (f"run.tick={2 * BATCH}", f"run.checkpoint={_TRIAL}", f"run.samples={2 * _TRIAL}")
_SETTINGS = (f"training.batch={BATCH}", "run.workers=0", *_PERIODS)


@dataclass(frozen=True)
class Pace:
    """The measured speed, and the lengths that follow from it."""

    seconds: float  # per image of a run, with all workers busy
    workers: int
    minutes: float | None  # for all training, as given; None: the rest of the whole
    images: int  # that each arm sees

    def __str__(self) -> str:
        """Returns the choice in a sentence."""
        rate, minutes = 1 / self.seconds, self.images * self.seconds / 60
        speed = f"A run trains {_short(rate, 3)} images a second here, with {self.workers} at once"
        length = f"{self.images:,}, in {_short(minutes, 2)} minutes"
        return f"{speed}. So each arm sees {length}."


def chosen(seconds: float, workers: int, minutes: float | None) -> Pace:
    """Returns the pace with the images of each arm: a multiple of LEAST.

    Arms run at once, or in rounds of as many as there are workers. All rounds train for `minutes` in sum, by
    default for what everything else leaves of the whole."""
    at_once = min(max(workers, 1), ARMS)
    rounds = -(-ARMS // at_once)
    spare = WHOLE / seconds - _ONCE - rounds * _EACH if minutes is None else 60 * minutes / seconds
    images = max(1, int(spare / rounds / LEAST)) * LEAST
    return Pace(seconds, at_once, minutes, images)


def measured(runs: int) -> float:
    """Returns the seconds per image of training runs at once, the mean of the slowest run.

    The runs fine-tune formula-32 as the demo does, on live scenes. Waiting for these is left out. Raises
    UserError if a run fails."""
    with tempfile.TemporaryDirectory() as scratch:
        places = [Path(scratch) / str(i) for i in range(runs)]
        settings = (*_SETTINGS, *sizes())
        started: list[subprocess.Popen[str]] = []
        try:
            started += (_start(place, settings) for place in places)
            ended = [(run.communicate()[1], run.returncode) for run in started]
        finally:
            # Runs of an interrupted command must not write to the folder while it is removed.
            for run in started:
                with run:
                    run.kill()
        for errors, code in ended:
            if code:
                last = (errors.strip().splitlines() or ["it printed nothing"])[-1]
                raise UserError(f"the trial run ended with {code}: {last.removeprefix('error: ')}")
        return max(_seconds((place / "log.jsonl").read_text(encoding="utf-8")) for place in places)


def sizes() -> tuple[str, ...]:
    """Returns the settings that give the preset the sizes of the shipped model, which may be older."""
    from train import runs

    usual = runs.law(PRESET, ())["config"]["model"]
    model = json.loads(canonical(runs.find(SHIPPED).config.groups.model))
    changes = {name: value for name, value in model.items() if value != usual[name] and name != "text_dim"}
    return tuple(f"model.{name}={_text(value)}" for name, value in changes.items())


def read(out: Path) -> Pace | None:
    """Returns the pace of the demo in a folder, or None if it has none yet.

    Raises UserError if the file is damaged."""
    path = out / _NAME
    try:
        return Pace(**json.loads(path.read_bytes())) if path.is_file() else None
    except (ValueError, TypeError):
        raise UserError(f"{path} is damaged; remove it, or give another --out") from None


def write(out: Path, pace: Pace) -> None:
    """Writes the pace of a demo, so that a resumed one keeps its lengths."""
    Folder(str(out)).write(_NAME, (json.dumps(asdict(pace)) + "\n").encode())


def _short(value: float, digits: int) -> str:
    """Returns a number to some digits, and a large one to whole numbers: 2.7, 16, 1,250."""
    return f"{value:,.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _text(value: object) -> str:
    """Returns the value of a setting as a user types it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()


def _start(place: Path, settings: Sequence[str]) -> "subprocess.Popen[str]":
    """Starts a trial run of one thread."""
    changes = [word for change in settings for word in ("--set", change)]
    command = [sys.executable, "-m", "train", *_TRAIN, *_RUN, *changes, "--out", str(place)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )


def _seconds(log: str) -> float:
    """Returns the mean seconds per image of a log, without its first line and without waiting for data."""
    rows: Sequence[dict[str, float]] = [json.loads(line) for line in log.splitlines()][1:]
    return sum(row["seconds_per_kimg"] * (1 - row["waited"]) for row in rows) / len(rows) / 1000
