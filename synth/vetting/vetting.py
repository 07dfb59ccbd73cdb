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


def structures(count: int, classes: int, device: str = "software") -> Programs:
    """Vets our own programs until `count` are accepted, then the first parameter vectors of `classes`
    classes."""
    accepted: list[Json] = []
    left_out: list[Json] = []
    with _Children(device) as children:
        step = min(64, count + 4)
        for first in range(0, 100 * count, step):
            batch = range(first, first + step)
            tasks = [{"do": "structure", "structure": number} for number in batch]
            for number, answer in zip(batch, children.run(tasks, _DEADLINE), strict=True):
                if len(accepted) == count:
                    break
                name = f"{number:05d}"
                if answer["fault"]:
                    left_out.append({"name": name, "reason": answer["fault"]})
                else:
                    accepted.append(
                        {"name": name, "structure": number, "sha256": composer.compose(number).sha256}
                    )
            if len(accepted) == count:
                break
            console.note(f"{len(accepted)} of {count} structures accepted")
        else:
            raise UserError(
                f"of {100 * count} structures only {len(accepted)} could be drawn here; python -m synth doctor says more"
            )
        tasks = [
            {"do": "classes", "structure": a["structure"], "classes": [*range(i, classes, count)]}
            for i, a in enumerate(accepted)
        ]
        attempts: dict[str, int] = {}
        for answer in children.run(tasks, _CLASS_DEADLINE):
            if answer["fault"]:
                raise UserError(f"vetting the classes failed: {answer['fault']}; give the command again")
            attempts.update(answer["attempts"])
        renderer = children.renderer()
    asked = {"structures": count, "law": LAW}
    content = {"asked": asked, "classes": classes, "renderer": renderer, "programs": accepted}
    return Programs.made({**content, "attempts": attempts, "left_out": left_out})


def sources(found: list[Candidate], asked: Json, slowest: float, device: str = "software") -> Programs:
    """Vets the programs of a folder. Takes the first wrapping of each that compiles and shows something.
    Raises UserError if none does."""
    accepted: list[Json] = []
    left_out = [{"name": one.name, "reason": one.fault} for one in found if one.fault]
    usable = [one for one in found if not one.fault]
    with _Children(device) as children:
        tasks = [
            {"do": "sources", "texts": [s.text for s in one.sources], "slowest": slowest} for one in usable
        ]
        for one, answer in zip(usable, children.run(tasks, _DEADLINE), strict=True):
            if answer["fault"]:
                left_out.append({"name": one.name, "reason": answer["fault"]})
                continue
            wrapper, text = one.sources[answer["chosen"]]
            accepted.append(
                {
                    "name": one.name,
                    "wrapper": wrapper,
                    "licence": one.licence,
                    "author": one.author,
                    "source": text,
                }
            )
        if not accepted:
            reasons = "; ".join(f"{one['name']}: {one['reason']}" for one in left_out[:3])
            raise UserError(
                f"none of the {len(found):,} programs can be used ({reasons}); give another folder"
            )
        renderer = children.renderer()
    console.note(
        f"{len(accepted):,} of {len(found):,} programs accepted; programs.json says why not the others"
    )
    content = {"asked": {**asked, "law": LAW}, "renderer": renderer, "programs": accepted}
    return Programs.made(
        {**content, "attempts": {}, "left_out": sorted(left_out, key=lambda one: str(one["name"]))}
    )


class _Children:
    """Child processes, one a core, each with a context of its own."""

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

    def run(self, tasks: Iterable[Json], deadline: float) -> Iterator[Json]:
        """Yields the answers to tasks, in their order. A task without an answer in time, or with a dead
        child, has a `fault`."""
        with ThreadPoolExecutor(self._count) as pool:
            begun = time.monotonic()
            for done, answer in enumerate(pool.map(lambda task: self._ask(task, deadline), tasks), 1):
                if time.monotonic() - begun > 10:
                    console.note(f"vetting: {done:,} done")
                    begun = time.monotonic()
                yield answer

    def renderer(self) -> str:
        """Returns the renderer of the children."""
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
        root = str(ROOT)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        command = [sys.executable, "-m", "synth.vetting.trials", self._device]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
