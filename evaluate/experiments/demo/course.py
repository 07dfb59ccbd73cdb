"""The course of a demo: from its beginning, or from its last finished step, to its report."""

import contextlib
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from evaluate.experiments.demo import workers
from evaluate.experiments.demo.journal import WHOLE, Journal
from evaluate.experiments.demo.plan import DemoStep, Plan, steps
from synth.errors import UserError
from synth.sets import locks
from synth.sets.storage import Folder
from synth.settings import digest

PAGE, FIGURES = "report.html", "figures.json"

_PLAN = "plan.json"
_LOGS = "logs"
_SHADERS = "shaders"
_PATIENCE = 70  # seconds until the workers of a killed start have ended
_PERIOD = 15.0  # seconds between two lines about running steps
_DIGEST = re.compile(r'<meta name="digest" content="([0-9a-f]{64})">')

Json = dict[str, Any]


@dataclass(frozen=True)
class Runnable:
    """A plan that this machine can run."""

    plan: Plan
    left_out: dict[str, str]  # family -> reason, in a sentence


def run(plan: Plan, out: Path) -> Generator[str, None, None]:
    """Runs the missing steps of a demo. Yields progress lines for a person.

    Raises UserError if the folder holds something else, or if a step fails."""
    # Plan, and the demo that may exist.
    begun = time.perf_counter()
    _require_place(out)
    runnable = _runnable(plan, out)
    commands = steps(runnable.plan, out)
    if _finished(runnable, commands, Journal(out), out):
        yield f"{out} is finished: nothing to do"
        return

    # Missing steps, then the report. Another start may have ended while this one waited for the lock.
    (out / _LOGS).mkdir(exist_ok=True)
    with (out / ".lock").open("wb") as lock:
        yield from _hold(lock, out)
        journal = Journal(out)
        diary = _Diary(journal, commands, begun)
        with contextlib.closing(workers.do(commands, journal, out / _LOGS, lock.fileno())) as events:
            yield from (line for event in events if (line := diary.line(event)))
        _report(runnable, commands, journal, out, diary)


def _report(
    runnable: Runnable, commands: Sequence[DemoStep], journal: Journal, out: Path, diary: "_Diary"
) -> None:
    """Writes the figures and, last, the page."""
    from evaluate.experiments.demo import page

    content = page.gather(runnable.plan, runnable.left_out, commands, journal, out)
    diary.note()
    _write(out / FIGURES, json.dumps(content.figures.row(), indent=1) + "\n")
    inputs = _digest(runnable, commands)
    _write(out / PAGE, page.render(content, journal.seconds(WHOLE), journal.starts, inputs))


def _finished(runnable: Runnable, commands: Sequence[DemoStep], journal: Journal, out: Path) -> bool:
    """Returns True if every step is done and the report matches their results."""
    reported = (out / PAGE).exists() and (out / FIGURES).exists()
    if not reported or not all(journal.done(step) for step in commands):
        return False
    match = _DIGEST.search((out / PAGE).read_text(encoding="utf-8"))
    return match is not None and match[1] == _digest(runnable, commands)


def _digest(runnable: Runnable, commands: Sequence[DemoStep]) -> str:
    """Returns the sha256 of the plan, of the steps' results, and of the page's code."""
    left = {step.name: [_sha256(path) for path in step.marks] for step in commands}
    sources = [path for path in sorted(Path(__file__).parent.iterdir()) if path.suffix in (".py", ".html")]
    code = [_sha256(path) for path in sources]
    return digest({"plan": asdict(runnable.plan), "left_out": runnable.left_out, "left": left, "code": code})


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require_place(out: Path) -> None:
    """Raises UserError if the folder has other content than a demo."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder as --out")
    if out.is_dir() and not (out / _PLAN).exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no demo; give another --out")


def _runnable(plan: Plan, out: Path) -> Runnable:
    """Returns the plan of the existing demo, or of a new one. Leaves out shaders if nothing can draw them.

    Raises UserError if the existing demo has another plan."""
    # A new demo.
    place = out / _PLAN
    if not place.exists():
        out.mkdir(parents=True, exist_ok=True)
        _write(place, json.dumps({"plan": asdict(plan), "left_out": _left_out(plan)}, indent=1) + "\n")

    # The same plan.
    stored = json.loads(place.read_text(encoding="utf-8"))
    old, new = stored["plan"], json.loads(json.dumps(asdict(plan)))
    changes = [f"--{name} {old.get(name)}" for name in new if old.get(name) != new[name]]
    if changes:
        raise UserError(f"{out} holds a demo with {' '.join(changes)}; give the same again, or another --out")
    families = tuple(family for family in plan.families if family not in stored["left_out"])
    return Runnable(replace(plan, families=families), stored["left_out"])


def _left_out(plan: Plan) -> dict[str, str]:
    """Returns the families that this machine cannot draw, each with the reason."""
    if _SHADERS not in plan.families:
        return {}
    command, environment = [sys.executable, "-m", "synth", "doctor"], workers.environment()
    doctor = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    errors = doctor.stderr.strip()
    if doctor.returncode not in (0, 2):
        raise UserError(f"`python -m synth doctor` ended with {doctor.returncode}: {errors[-200:]}")
    return {_SHADERS: errors.splitlines()[-1].removeprefix("error: ")} if doctor.returncode else {}


def _hold(lock: BinaryIO, out: Path) -> Iterator[str]:
    """Locks a demo for this process and its workers, which inherit the lock.

    Yields a line if another start holds it. Raises UserError if that start does not end."""
    until, waiting = time.monotonic() + _PATIENCE, False
    while True:
        # Workers of a killed start hold the lock until they have ended.
        try:
            if not locks.lock(lock.fileno()):
                yield locks.note(str(out))
            return
        except BlockingIOError:
            if time.monotonic() > until:
                problem = f"another demo is running in {out}"
                raise UserError(f"{problem}; wait for it, or give another --out") from None
        if not waiting:
            yield f"waiting for another start in {out} to end"
            waiting = True
        time.sleep(0.2)


def _write(path: Path, text: str) -> None:
    Folder(str(path.parent)).write(path.name, text.encode())


@dataclass
class _Diary:
    """The progress lines of a start."""

    journal: Journal
    steps: Sequence[DemoStep]
    begun: float
    last: float = field(default_factory=time.perf_counter)  # time of the last line about running steps

    def line(self, event: workers.Alive | workers.StepEnded) -> str | None:
        """Returns the line about an event, or None if it needs none."""
        self.note()
        match event:
            case workers.StepEnded(step, seconds):
                left = sum(not self.journal.done(s) for s in self.steps)
                rest = f" ({left} steps to go)" if left else ""
                return f"{self._clock()}  {step.what}: {seconds:.0f} s{rest}"
            case workers.Alive(busy) if time.perf_counter() - self.last > _PERIOD:
                self.last = time.perf_counter()
                return f"{self._clock()}  … {'; '.join(step.what + _seen(step) for step in busy)}"
        return None

    def note(self) -> None:
        """Writes the duration of this start to the journal."""
        self.journal.note(WHOLE, "", time.perf_counter() - self.begun)

    def _clock(self) -> str:
        minutes, seconds = divmod(round(time.perf_counter() - self.begun), 60)
        return f"{minutes:2}:{seconds:02}"


def _seen(step: DemoStep) -> str:
    """Returns the progress of a run by the last line of its log, or nothing for other steps."""
    log = step.makes / "log.jsonl"
    if not step.images or not log.exists():
        return ""
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return f", {json.loads(lines[-1])['images_seen']:,} of {step.images:,} pictures" if lines else ""
