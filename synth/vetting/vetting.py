"""Vetting of programs before classes are numbered: they must compile, end, be quick enough and show
something.

Child processes, `python -m synth.vetting.trials`, compile and draw the programs. They take one task a line
(JSON) and answer with one line. A child that misses the deadline is killed, and its program is left out as
endless.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from synth import console
from synth.checkout import ROOT
from synth.errors import UserError
from synth.glsl import composer
from synth.vetting.programs import Programs
from synth.vetting.shader_folders import Candidate

Json = dict[str, Any]

LAW = 1  # raised when other programs are accepted
_DEADLINE = 20.0  # seconds for a program to compile and be drawn a few times
_CLASS_DEADLINE = 300.0  # seconds for all classes of a structure
_START_DEADLINE = 300.0  # seconds for a child to start
_FIRST = {"do": "renderer"}  # the first task of a child
_NO_CHILD = (
    "a process that tries programs does not start here; free memory or cores, and run the command again"
)


def structures(count: int, classes: int, device: str = "software") -> Programs:
    """Vets our own programs until `count` are accepted, then the first parameter vectors of `classes`
    classes."""
    accepted: list[Json] = []
    left_out: list[Json] = []
    with _Children(device) as children:
        # Structures, in batches until there are enough.
        step = min(64, count + 4)
        for first in range(0, 100 * count, step):
            batch = range(first, first + step)
            tasks = [{"do": "structure", "structure": number} for number in batch]
            for number, answer in zip(batch, children.run(tasks, _DEADLINE), strict=True):
                # The rest of the last batch does not count, whatever its answers.
                if len(accepted) == count:
                    break
                name = f"{number:05d}"
                if answer["fault"]:
                    left_out.append({"name": name, "reason": answer["fault"]})
                else:
                    sha256 = composer.compose(number).sha256
                    accepted.append({"name": name, "structure": number, "sha256": sha256})
            if len(accepted) == count:
                break
            console.note(f"{len(accepted)} of {count} structures accepted")
        else:
            fault = f"of {100 * count} structures only {len(accepted)} could be drawn here"
            raise UserError(f"{fault}; check the renderer: python -m synth doctor")

        # The first parameter vectors of classes: class c has accepted structure c mod P.
        numbers = [a["structure"] for a in accepted]
        tasks = [
            {"do": "classes", "structure": number, "classes": [*range(i, classes, count)]}
            for i, number in enumerate(numbers)
        ]
        attempts: dict[str, int] = {}
        for answer in children.run(tasks, _CLASS_DEADLINE):
            if answer["fault"]:
                raise UserError(f"vetting the classes failed: {answer['fault']}; run the command again")
            attempts.update(answer["attempts"])
        renderer = children.renderer()

    inputs = {"structures": count, "law": LAW}
    content = {"asked": inputs, "classes": classes, "renderer": renderer, "programs": accepted}
    return Programs.from_content({**content, "attempts": attempts, "left_out": left_out})


def sources(candidates: list[Candidate], inputs: Json, slowest: float, device: str = "software") -> Programs:
    """Vets the programs of a folder. Takes the first wrapping of each that compiles and shows something.
    Raises UserError if none does."""
    accepted: list[Json] = []
    left_out = [{"name": c.name, "reason": c.fault} for c in candidates if c.fault]
    usable = [c for c in candidates if not c.fault]

    with _Children(device) as children:
        # Programs, each in all its wrappings.
        texts = [[source.text for source in program.sources] for program in usable]
        tasks = [{"do": "sources", "texts": wrappings, "slowest": slowest} for wrappings in texts]
        for program, answer in zip(usable, children.run(tasks, _DEADLINE), strict=True):
            if answer["fault"]:
                left_out.append({"name": program.name, "reason": answer["fault"]})
                continue
            wrapper, text = program.sources[answer["chosen"]]
            terms = {"licence": program.licence, "author": program.author}
            accepted.append({"name": program.name, "wrapper": wrapper, **terms, "source": text})

        if not accepted:
            reasons = "; ".join(f"{entry['name']}: {entry['reason']}" for entry in left_out[:3])
            fault = f"none of the {len(candidates):,} programs can be used ({reasons})"
            raise UserError(f"{fault}; give another folder")
        renderer = children.renderer()

    counts = f"{len(accepted):,} of {len(candidates):,}"
    console.note(f"{counts} programs accepted; programs.json holds the reasons against the others")
    content = {"asked": {**inputs, "law": LAW}, "renderer": renderer, "programs": accepted}
    left_out.sort(key=lambda entry: str(entry["name"]))
    return Programs.from_content({**content, "attempts": {}, "left_out": left_out})


class _Children:
    """Child processes, one a core, each with a context of its own."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._count = len(os.sched_getaffinity(0))
        self._idle: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "_Children":
        return self

    def __exit__(self, *_: object) -> None:
        # communicate closes the pipes and collects the process.
        for child in self._idle:
            child.kill()
            child.communicate()

    def run(self, tasks: Iterable[Json], deadline: float) -> Iterator[Json]:
        """Yields the answers to tasks, in their order. A task without an answer in time, or with a dead
        child, has a `fault`."""
        # A thread for each child, which waits for its answers. Progress is printed every ten seconds.
        with ThreadPoolExecutor(self._count) as pool:
            begun = time.monotonic()
            for done, answer in enumerate(pool.map(lambda task: self._answer(task, deadline), tasks), 1):
                if time.monotonic() - begun > 10:
                    console.note(f"vetting: {done:,} done")
                    begun = time.monotonic()
                yield answer

    def renderer(self) -> str:
        """Returns the renderer of the children."""
        answer = self._answer(_FIRST, _START_DEADLINE)
        if "renderer" not in answer:
            raise UserError(_NO_CHILD)
        return str(answer["renderer"])

    def _answer(self, task: Json, deadline: float) -> Json:
        """Returns the answer of a child to a task. Raises UserError if no child starts, or it has a
        sentence for the user."""
        # Another thread may take the last idle child.
        try:
            child = self._idle.pop()
        except IndexError:
            child = self._start()
        answer = self._ask(child, task, deadline)
        if child.returncode is None:
            self._idle.append(child)
        if "sentence" in answer:
            raise UserError(answer["sentence"])
        return answer

    def _ask(self, child: subprocess.Popen[bytes], task: Json, deadline: float) -> Json:
        """Returns the answer of this child to a task. Ends a child that gives none in time."""
        # The task. A dead child has closed its end, and gives an empty line below.
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(task).encode() + b"\n")
            child.stdin.flush()

        # Its answer.
        ready, _, _ = select.select([child.stdout], [], [], deadline)
        line = child.stdout.readline() if ready else b""
        if line:
            answer: Json = json.loads(line)
            return answer

        child.kill()
        child.communicate()
        return {"fault": "ended the process that drew it" if ready else "endless"}

    def _start(self) -> subprocess.Popen[bytes]:
        """Starts a child and waits for its first answer, so that its start takes no time of a program.

        Raises UserError if it does not start, or has no renderer."""
        # The checkout is not installed, so the child gets its folder.
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-m", "synth.vetting.trials", self._device]
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment)
        answer = self._ask(child, _FIRST, _START_DEADLINE)
        if "renderer" not in answer:
            if child.returncode is None:
                child.kill()
                child.communicate()
            raise UserError(answer.get("sentence", _NO_CHILD))
        return child
