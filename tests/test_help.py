"""Every --help of the product: an example at its end, 100 columns, and no heavy imports."""

import importlib
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from tests.kit import ROOT, invoke, parse

PROGRAMS = {
    **{f"python -m {name}": f"{name}.cli" for name in ("synth", "data", "caption", "train", "evaluate")},
    "python -m evaluate.experiments.demo": "evaluate.experiments.demo",
    "python -m evaluate.experiments.formula": "evaluate.experiments.formula",
    "python -m evaluate.experiments.speedrun": "evaluate.experiments.speedrun",
}
HEAVY = ("torch", "ray", "pyarrow", "matplotlib", "rich")


def app_of(program: str) -> typer.Typer:
    return importlib.import_module(PROGRAMS[program]).app


def pages() -> Iterator[tuple[str, list[str]]]:
    """Yields every program with the words that lead to one of its commands."""
    for program in PROGRAMS:
        command: Any = typer.main.get_command(app_of(program))
        yield program, []
        for name in getattr(command, "commands", ()):
            yield program, [name]


PAGES = [pytest.param(program, words, id=" ".join([program, *words])) for program, words in pages()]


def example(text: str) -> str:
    """Returns the example at the end of a help text, on one line."""
    _, mark, last = text.rstrip().rpartition("Example:\n")
    assert mark, "no example"
    return last.replace("\\\n", " ").strip()


@pytest.mark.parametrize(("program", "words"), PAGES)
def test_help_ends_with_an_example_of_the_command(program: str, words: list[str]) -> None:
    text = invoke(app_of(program), *words, "--help").output
    line = example(text)
    assert line.startswith(program) or (
        line.startswith("torchrun") and program.removeprefix("python ") in line
    )
    assert not words or f" {words[0]} " in f"{line} "
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(("program", "words"), PAGES)
def test_the_example_is_understood(program: str, words: list[str]) -> None:
    """The example's arguments are parsed by the command; nothing is run."""
    line = example(invoke(app_of(program), *words, "--help").output)
    module = program.removeprefix("python ")
    arguments = shlex.split(line.partition(module)[2])
    parse(app_of(program), arguments)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_light(program: str) -> None:
    """No heavy package is imported, and program and help take at most 8 times the CPU time of typer's import.

    The best of three runs counts, as other processes slow a short one down."""
    lines = [
        "import sys, time",
        "import typer",
        "first = time.process_time()",
        f"from {PROGRAMS[program]} import app",
        "command = typer.main.get_command(app)",
        "names = [[n] for n in getattr(command, 'commands', ())] or [[]]",
        "for words in names:",
        "    try: command.main([*words, '--help'])",
        "    except SystemExit: pass",
        f"print([m for m in {HEAVY} if m in sys.modules], time.process_time() < 8 * first, file=sys.stderr)",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    for _ in range(3):
        run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        if run.stderr == "[] True\n":
            break
    assert run.stderr == "[] True\n"
