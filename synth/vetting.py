"""Vetting: which programs compile, end, are quick enough and show something. It comes before classes are numbered.

Programs are compiled and drawn in child processes, `python -m synth.vetting`, which take one task a line (JSON) and answer with one line.
A child that does not answer by the deadline is killed, and the program that it was at is left out as endless.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from synth import console, seeds, shader_programs
from synth.errors import UserError
from synth.programs import Programs

Json = dict[str, Any]

LAW = 1  # raised when other programs are accepted
SLOWEST = 60.0  # CPU milliseconds that one of our pictures may take, 256 x 256 on one core
ATTEMPTS = 12  # parameter vectors that a class may try
_DEADLINE = 20.0  # seconds for a program to compile and be drawn a few times
_CLASS_DEADLINE = 300.0  # seconds for all classes of a structure
_SIZE = 128  # pixels a side of what is judged
_TIMED = 256  # of what is timed
_TIMES = (0.7, 2.9, 5.3, 8.8)  # seconds that a program is looked at
_OFTEN = 0.5  # share of a structure's trial classes that may have nothing to show
_TRIALS = 12  # classes that a structure is tried with


def structures(count: int, classes: int, device: str = "software") -> Programs:
    """Vets our own programs until so many are accepted, then the first parameter vectors of so many classes."""
    accepted: list[Json] = []
    left_out: list[Json] = []
    with _Children(device) as children:
        for first in range(0, 100 * count, 64):
            batch = range(first, first + 64)
            tasks = [{"do": "structure", "structure": number} for number in batch]
            for number, answer in zip(batch, children.run(tasks, _DEADLINE, lambda t: f"structure {t['structure']}"), strict=True):
                if len(accepted) == count:
                    break
                name = f"{number:05d}"
                if answer["fault"]:
                    left_out.append({"name": name, "reason": answer["fault"]})
                else:
                    accepted.append({"name": name, "structure": number, "sha256": shader_programs.compose(number).sha256})
            if len(accepted) == count:
                break
            console.note(f"{len(accepted)} of {count} structures accepted")
        else:
            raise UserError(f"of {100 * count} structures only {len(accepted)} could be drawn here; python -m synth doctor says more")
        tasks = [{"do": "classes", "structure": a["structure"], "classes": [*range(i, classes, count)]} for i, a in enumerate(accepted)]
        attempts: dict[str, int] = {}
        for answer in children.run(tasks, _CLASS_DEADLINE, lambda t: f"classes of structure {t['structure']}"):
            if answer["fault"]:
                raise UserError(f"vetting the classes failed: {answer['fault']}; give the command again")
            attempts.update(answer["attempts"])
        renderer = children.renderer()
    content = {"law": LAW, "asked": {"structures": count}, "classes": classes, "renderer": renderer, "programs": accepted}
    return Programs.made({**content, "attempts": attempts, "left_out": left_out})


def class_values(structure: int, number: int, attempt: int) -> tuple[float, ...]:
    """The parameter vector of a class at an attempt. It is the same under every seed, as a program of other people's would be: the
    seed chooses where and when it is looked at."""
    return shader_programs.compose(structure).sample(seeds.stream(0, "shaders/classes", number, attempt))


class _Children:
    """As many child processes as there are cores, each with a context of its own."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._count = len(os.sched_getaffinity(0))
        self._idle: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "_Children":
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._idle:
            child.kill()
            child.communicate()

    def run(self, tasks: Iterable[Json], deadline: float, describe: Callable[[Json], str]) -> Iterator[Json]:
        """The answers to tasks, in their order. One that was not given in time, or whose child died, has a `fault`."""
        with ThreadPoolExecutor(self._count) as pool:
            begun, done = time.monotonic(), 0
            for answer in pool.map(lambda task: self._ask(task, deadline), tasks):
                done += 1
                if time.monotonic() - begun > 10:
                    console.note(f"vetting: {done:,} done")
                    begun = time.monotonic()
                yield answer

    def renderer(self) -> str:
        """What the children draw with."""
        return str(self._ask({"do": "renderer"}, _DEADLINE)["renderer"])

    def _ask(self, task: Json, deadline: float) -> Json:
        child = self._idle.pop() if self._idle else self._start()
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(task).encode() + b"\n")
            child.stdin.flush()
        ready, _, _ = select.select([child.stdout], [], [], deadline)
        line = child.stdout.readline() if ready else b""
        if line:
            self._idle.append(child)
            answer: Json = json.loads(line)
            if "sentence" in answer:
                raise UserError(answer["sentence"])
            return answer
        child.kill()
        child.communicate()
        return {"fault": "ended the process that drew it" if ready else "endless"}

    def _start(self) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
        command = [sys.executable, "-m", "synth.vetting", self._device]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)


def _serve(device: str) -> None:
    """A child: answers a line with a line until its input ends."""
    from synth import gl

    answers, sys.stdout = sys.stdout, sys.stderr
    gl.choose(device)
    for line in sys.stdin:
        task = json.loads(line)
        try:
            answer = _DO[task.pop("do")](**task)
        except gl.ProgramError as error:
            answer = {"fault": f"does not compile: {str(error)[:300]}"}
        except UserError as error:
            answer = {"sentence": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _judge_structure(structure: int) -> Json:
    """A structure, tried with a few parameter vectors of no class."""
    import numpy as np

    from synth import judging, shaders

    faults: list[str] = []
    slowest = 0.0
    for trial in range(_TRIALS):
        params = shaders.look(structure, class_values(structure, trial, ATTEMPTS), _TIMES[trial % 4])
        pixels = shaders.draw(params, _SIZE)
        faults += filter(None, [judging.fault(pixels)])
        slowest = max(slowest, _milliseconds(lambda params=params: shaders.draw(params, _TIMED)))  # type: ignore[misc]
        later = shaders.draw(shaders.look(structure, params.values, _TIMES[(trial + 1) % 4]), _SIZE)
        if trial == 0 and np.array_equal(pixels, later):
            return {"fault": "still: time does not move it"}
    if slowest > SLOWEST:
        return {"fault": f"too slow: more than {SLOWEST:.0f} ms"}
    often = max(set(faults), key=lambda f: (faults.count(f), f)) if len(faults) > _OFTEN * _TRIALS else None
    return {"fault": often}


def _judge_classes(structure: int, classes: list[int]) -> Json:
    """The first attempt of each class, but where that is 0, whose parameter vector shows something at two times, quickly enough."""
    attempts: dict[int, int] = {}
    for number in classes:
        attempt = next((a for a in range(ATTEMPTS) if _shows(structure, class_values(structure, number, a))), 0)
        if attempt:
            attempts[number] = attempt
    return {"fault": None, "attempts": attempts}


def _shows(structure: int, values: tuple[float, ...]) -> bool:
    from synth import judging, shaders

    return not any(judging.fault(shaders.draw(shaders.look(structure, values, moment), _SIZE)) for moment in _TIMES[1:3])


def _milliseconds(action: Callable[[], object]) -> float:
    """CPU time of a call, the better of two."""
    best = float("inf")
    for _ in range(2):
        begun = time.process_time()
        action()
        best = min(best, 1000 * (time.process_time() - begun))
    return best


def _renderer() -> Json:
    from synth import gl

    return {"renderer": gl.renderer()}


_DO: dict[str, Callable[..., Json]] = {"structure": _judge_structure, "classes": _judge_classes, "renderer": _renderer}

if __name__ == "__main__":
    _serve(*sys.argv[1:])
