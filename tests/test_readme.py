"""The README's commands, run in their order by make, at sizes of a test."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import synth.cli
from tests.kit import ROOT, SET_UP, invoke, outside_make
from tests.kit_font import write_font

ELSEWHERE = {"demo", "test", "setup"}  # test_demo.py, this, test_formula.py
SMALLER = {
    "shards": ["N=64", "SIZE=32"],
    "captions": ["WORKERS=0"],
    "data": ["WORKERS=0", "ARGS=--font made.ttf --test-share 0.3"],
    "pretrain": ["ARGS=--images 32 --set run.checkpoint=32"],
    "finetune": ["ARGS=--images 32 --set run.checkpoint=32"],
    "evaluate": ["ARGS=--detector efficientnet-lite0 --metrics kid --n 8"],
}


def commands() -> list[list[str]]:
    """The words of every make command in the README's blocks."""
    blocks = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [
        shlex.split(line) for _, block in blocks for line in block.splitlines() if line.startswith("make ")
    ]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which make finds the files of a checkout, and a font of twenty emoji.

    Its Python prints its arguments, or runs them if the environment has EXECUTE."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    runs = f'[ "$EXECUTE" ] && exec "{sys.executable}" "$@"'
    python.write_text(f'#!/bin/sh\n{runs}\nfor word in "$@"; do printf "%s|" "$word"; done; echo\n')
    python.chmod(0o755)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "emoji").symlink_to(ROOT / "data" / "emoji")
    write_font(
        tmp_path / "made.ttf",
        {e: (250 - 9 * i, 10 + 9 * i, 60) for i, e in enumerate("😀🍎🍏🍐🍊🍋🍌🍉🍇🍓🍈🍒🍑🥭🍍🥥🥝🍅🍆🥑")},
    )
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_every_command_of_the_readme_runs(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one in a process of its own, with its default workers, the others in this process."""
    monkeypatch.chdir(checkout)
    environment = {**outside_make(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran: list[str] = []
    for words in commands():
        target = words[1]
        if target in ELSEWHERE:
            continue
        alone = {} if ran else {"EXECUTE": "1"}
        command = [*words, *SMALLER[target]]  # the last value counts
        run = subprocess.run(
            [command[0], "-f", str(ROOT / "Makefile"), *SET_UP, *command[1:]],
            env={**environment, **alone},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, (words, run.stderr)
        if not alone:
            program, *arguments = run.stdout.strip().rstrip("|").removeprefix("-m|").split("|")
            invoke(importlib.import_module(f"{program}.cli").app, *arguments, raising=True)
        ran.append(target)
    assert ran == ["shards", "captions", "pretrain", "data", "captions", "finetune", "evaluate"]
    assert (checkout / "data/real/emoji/splits.json").exists()
    assert (checkout / "runs/emoji-emoji-32-from-visual_atoms-tiny-32/metrics.jsonl").exists()


@pytest.mark.slow
def test_what_the_readme_says_appears_on_disk_does(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text()
    [tree] = re.findall(r"```\ndata/shards/visual_atoms/\n(.*?)```", text, re.DOTALL)
    named = {
        name
        for line in tree.splitlines()
        for name in line.split()
        if re.fullmatch(r"[\w.-]+\.(tar|json|md|png)|SHA256SUMS", name)
    }
    monkeypatch.chdir(checkout)
    words = ["--n", "8", "--size", "32", "--out", "set", "--workers", "0"]
    invoke(synth.cli.app, "shards", "visual_atoms", *words, raising=True)
    there = {p.name for p in (checkout / "set").iterdir()}
    inside = {"000000000.png", "000000000.json", "000000001.png"}  # members of the tar
    assert named - inside == there
