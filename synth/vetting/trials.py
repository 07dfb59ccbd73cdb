"""The child side of vetting: it reads tasks from standard input, one a line, and answers each with a line.

A task is JSON with an action `do`. `structure` tries one of our programs with parameter vectors of no class.
`classes` finds for each class of a structure the first attempt that shows something. `sources` takes the
first of several texts that compiles. Answers of these three have a `fault`, or None there.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from synth.errors import UserError
from synth.families import shaders
from synth.glsl import gl, wrappers
from synth.vetting import judging

Json = dict[str, Any]

SLOWEST = 60.0  # CPU milliseconds that one of our pictures may take, 256 x 256 on one core
ATTEMPTS = 12  # parameter vectors that a class may try
SIZE = 128  # pixels a side of judged pictures
TIMED = 256  # pixels a side of timed pictures
TIMES = (0.7, 2.9, 5.3, 8.8)  # seconds that a program is looked at
TRIALS = 12  # parameter vectors that a structure is tried with
OFTEN = 0.5  # share of them that may have nothing to show


def _serve(device: str) -> None:
    """Answers a line with a line until the input ends, as a child."""
    # Prints of libraries must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    gl.choose(device)
    for line in sys.stdin:
        task = json.loads(line)
        try:
            answer = _DO[task.pop("do")](**task)
        except gl.ProgramError as error:
            answer = {"fault": f"does not compile: {gl.first_error(str(error))}"}
        except UserError as error:
            answer = {"sentence": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _judge_structure(structure: int) -> Json:
    """Tries a structure with a few parameter vectors of no class."""
    faults: list[str] = []
    slowest = 0.0
    for trial in range(TRIALS):
        # Attempt ATTEMPTS is one that no class has.
        params = shaders.look(structure, shaders.class_values(structure, trial, ATTEMPTS), TIMES[trial % 4])
        pixels = shaders.draw(params, SIZE)
        faults += filter(None, [judging.fault(pixels)])
        slowest = max(slowest, _milliseconds(partial(shaders.draw, params, TIMED), SLOWEST))

        # Movement.
        later = shaders.draw(shaders.look(structure, params.values, TIMES[(trial + 1) % 4]), SIZE)
        if trial == 0 and np.array_equal(pixels, later):
            return {"fault": "still: time does not move it"}

    # Time, and the most frequent fault of many trials.
    if slowest > SLOWEST:
        return {"fault": f"too slow: more than {SLOWEST:.0f} ms"}
    often = max(set(faults), key=lambda f: (faults.count(f), f)) if len(faults) > OFTEN * TRIALS else None
    return {"fault": often}


def _judge_classes(structure: int, classes: list[int]) -> Json:
    """Returns the first attempt of each class with a parameter vector that shows something at two times.
    Leaves out attempts of 0. A class without such an attempt counts as 0."""
    attempts: dict[int, int] = {}
    for number in classes:
        vectors = (shaders.class_values(structure, number, attempt) for attempt in range(ATTEMPTS))
        attempt = next((i for i, values in enumerate(vectors) if _shows(structure, values)), 0)
        if attempt:
            attempts[number] = attempt
    return {"fault": None, "attempts": attempts}


def _judge_sources(texts: list[str], slowest: float) -> Json:
    """Returns the number of the first text that compiles, if it is quick enough and shows something at half
    of the times or more."""
    fault = ""
    for chosen, text in enumerate(texts):
        # Pictures at several times, and the time of one.
        try:
            moments = [wrappers.bindings(text, moment, SIZE) for moment in TIMES]
            pictures = [gl.draw(text, values, SIZE, "this") for values in moments]
            timed = wrappers.bindings(text, 1.0, TIMED)
            took = _milliseconds(partial(gl.draw, text, timed, TIMED, "this"), slowest)
        except gl.ProgramError as error:
            fault = fault or f"does not compile: {gl.first_error(str(error))}"
            continue

        # The first text that compiles decides.
        faults = [f for f in map(judging.fault, pictures) if f]
        if 2 * len(faults) <= len(pictures) and took <= slowest:
            return {"fault": None, "chosen": chosen}
        fault = f"too slow: more than {slowest:g} ms" if took > slowest else faults[0]
        break
    return {"fault": fault}


def _shows(structure: int, values: tuple[float, ...]) -> bool:
    """Returns True if the pictures of a parameter vector have no fault at two times."""
    looks = (shaders.look(structure, values, moment) for moment in TIMES[1:3])
    return not any(judging.fault(shaders.draw(params, SIZE)) for params in looks)


def _milliseconds(action: Callable[[], object], limit: float) -> float:
    """Returns the CPU time of a call: the better of two, or the best of up to eight if that is near the
    limit."""
    best, calls = float("inf"), 0
    while calls < 2 or (calls < 8 and best > 0.6 * limit):
        calls += 1
        begun = time.process_time()
        action()
        best = min(best, 1000 * (time.process_time() - begun))
    return best


def _renderer() -> Json:
    return {"renderer": gl.renderer()}


_DO: dict[str, Callable[..., Json]] = {
    "structure": _judge_structure,
    "classes": _judge_classes,
    "sources": _judge_sources,
    "renderer": _renderer,
}

if __name__ == "__main__":
    _serve(*sys.argv[1:])
