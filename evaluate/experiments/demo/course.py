"""A demo from its beginning, or from its last finished step, to its report."""

import contextlib
import fcntl
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
from evaluate.experiments.demo.plan import Plan, Step, steps
from synth.errors import UserError
from synth.sets.storage import Folder
from synth.settings import digest

PAGE, FIGURES = "report.html", "figures.json"

_PLAN = "plan.json"
_LOGS = "logs"
_SHADERS = "shaders"
_LOCK_WAITS = 70  # seconds for the workers of a start that was killed to end
_TELLS = 15.0  # seconds between two lines on running steps
_DIGEST = re.compile(r'<meta name="digest" content="([0-9a-f]{64})">')

Json = dict[str, Any]


@dataclass(frozen=True)
class Settled:
    """A plan that this machine can run."""

    plan: Plan
    left_out: dict[str, str]  # family -> reason, in a sentence


def run(asked: Plan, out: Path) -> Generator[str, None, None]:
    """Runs the missing steps of a demo. Yields progress lines for a person. Raises UserError."""
    begun = time.perf_counter()
    _require_place(out)
    settled = _settled(asked, out)
    made = steps(settled.plan, out)
    journal = Journal(out)
    if _finished(settled, made, journal, out):
        yield f"{out} is finished: nothing to do"
        return
    (out / _LOGS).mkdir(exist_ok=True)
    with (out / ".lock").open("wb") as lock:
        yield from _hold(lock, out)
        journal = Journal(out)
        diary = _Diary(journal, made, begun)
        with contextlib.closing(workers.do(made, journal, out / _LOGS, lock.fileno())) as events:
            yield from (line for event in events if (line := diary.line(event)))
        _report(settled, made, journal, out, diary)


def _report(settled: Settled, made: Sequence[Step], journal: Journal, out: Path, diary: "_Diary") -> None:
    """Writes the figures and, last, the page."""
    from evaluate.experiments.demo import page

    content = page.gather(settled.plan, settled.left_out, made, journal, out)
    diary.note()
    _write(out / FIGURES, json.dumps(content.figures.row(), indent=1) + "\n")
    _write(out / PAGE, page.render(content, journal.seconds(WHOLE), journal.starts, _digest(settled, made)))


def _finished(settled: Settled, made: Sequence[Step], journal: Journal, out: Path) -> bool:
    """Returns True if every step is done and the report matches their results."""
    if not ((out / PAGE).exists() and (out / FIGURES).exists()) or not all(
        journal.done(step) for step in made
    ):
        return False
    there = _DIGEST.search((out / PAGE).read_text())
    return there is not None and there[1] == _digest(settled, made)


def _digest(settled: Settled, made: Sequence[Step]) -> str:
    """Returns the sha256 of the plan, of the steps' results, and of the page's code."""
    left = {
        step.name: [hashlib.sha256(path.read_bytes()).hexdigest() for path in step.marks] for step in made
    }
    sources = [path for path in sorted(Path(__file__).parent.iterdir()) if path.suffix in (".py", ".html")]
    code = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources]
    return digest({"plan": asdict(settled.plan), "left_out": settled.left_out, "left": left, "code": code})


def _require_place(out: Path) -> None:
    """Raises UserError if the folder has other content than a demo."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder as --out")
    if out.is_dir() and not (out / _PLAN).exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no demo; give another --out")


def _settled(asked: Plan, out: Path) -> Settled:
    """Returns the plan of the existing demo, or of a new one, without shaders if nothing can draw them.

    Raises UserError if the existing demo has another plan."""
    place = out / _PLAN
    if not place.exists():
        out.mkdir(parents=True, exist_ok=True)
        _write(place, json.dumps({"plan": asdict(asked), "left_out": _left_out(asked)}, indent=1) + "\n")
    there = json.loads(place.read_text())
    begun, now = there["plan"], json.loads(json.dumps(asdict(asked)))
    changed = [f"--{name} {begun.get(name)}" for name in now if begun.get(name) != now[name]]
    if changed:
        raise UserError(f"{out} holds a demo with {' '.join(changed)}; give the same again, or another --out")
    families = tuple(f for f in asked.families if f not in there["left_out"])
    return Settled(replace(asked, families=families), there["left_out"])


def _left_out(asked: Plan) -> dict[str, str]:
    """Returns the families that this machine cannot draw, each with the reason."""
    if _SHADERS not in asked.families:
        return {}
    tried = subprocess.run(
        [sys.executable, "-m", "synth", "doctor"],
        env=workers.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode not in (0, 2):
        raise UserError(
            f"`python -m synth doctor` ended with {tried.returncode}: {tried.stderr.strip()[-200:]}"
        )
    return (
        {_SHADERS: tried.stderr.strip().splitlines()[-1].removeprefix("error: ")} if tried.returncode else {}
    )


def _hold(lock: BinaryIO, out: Path) -> Iterator[str]:
    """Locks a demo for this process and its workers, which inherit the lock.

    Yields a line if another start holds it. Raises UserError if that start does not end."""
    until, waiting = time.monotonic() + _LOCK_WAITS, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > until:
                raise UserError(
                    f"another demo is at work in {out}; wait for it, or give another --out"
                ) from None
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
    steps: Sequence[Step]
    begun: float
    last: float = field(default_factory=time.perf_counter)  # time of the last line about steps under way

    def line(self, event: workers.Alive | workers.Ended) -> str | None:
        """Returns the line about an event. Running steps have one now and then."""
        self.note()
        match event:
            case workers.Ended(step, seconds):
                left = sum(not self.journal.done(s) for s in self.steps)
                return f"{self._clock()}  {step.what}: {seconds:.0f} s" + (
                    f" ({left} steps to go)" if left else ""
                )
            case workers.Alive(busy) if time.perf_counter() - self.last > _TELLS:
                self.last = time.perf_counter()
                return f"{self._clock()}  … {'; '.join(step.what + _seen(step) for step in busy)}"
        return None

    def note(self) -> None:
        """Writes the duration of this start to the journal."""
        self.journal.note(WHOLE, "", time.perf_counter() - self.begun)

    def _clock(self) -> str:
        minutes, seconds = divmod(round(time.perf_counter() - self.begun), 60)
        return f"{minutes:2}:{seconds:02}"


def _seen(step: Step) -> str:
    """Returns the progress of a run, from the last line of its log."""
    log = step.makes / "log.jsonl"
    if not step.images or not log.exists():
        return ""
    lines = [line for line in log.read_text().splitlines() if line.endswith("}")]
    return f", {json.loads(lines[-1])['images_seen']:,} of {step.images:,} pictures" if lines else ""
