"""The commands that make runs, printed by a stand-in for Python: every variable becomes an option."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.kit import ROOT, SET_UP, outside_make

MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which each command prints its words on one line."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s|" "$word"; done; echo\n')
    python.chmod(0o755)
    return tmp_path


def make(checkout: Path, *words: str, **environment: str) -> str:
    """Returns the words of the command that make runs, without `-m`, separated by spaces."""
    command = ["make", "-f", str(ROOT / "Makefile"), *SET_UP, *words]
    run = subprocess.run(
        command,
        cwd=checkout,
        env={**outside_make(), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = run.stdout.splitlines()
    return " ".join(line.rstrip("|").split("|")[1:])


CASES = {
    "shards": "synth shards",
    "shards DATASET=fractals N=5 OUT=s3://b/x": "synth shards fractals --n 5 --out s3://b/x",
    "shards DATASET='a b' OUT='x y' SIZE=32": "synth shards a b --out x --out y --size 32",
    "shards SEED=1 WORKERS=2 SHARD_SIZE=64 CODEC=webp ARGS=--dry-run": "synth shards --seed 1 --workers 2 "
    "--shard-size 64 --codec webp --dry-run",
    "data SET=coco ROOT='my pictures' SIZE=64": "data coco --root my pictures --size 64",
    "data": "data",
    "captions": "caption captions",
    "captions SET=a ENCODER=x XI=3 WORKERS=0": "caption captions a --encoder x --xi 3 --workers 0",
    "captions DATASET='a b' CAPTIONS='x y'": "caption captions a b --out x --out y",
    "captions DATASET=a OUT=s3://b/a": "caption captions s3://b/a",
    "pretrain": "train pretrain",
    "pretrain PRESET=tiny-32 DATASET='a b' ENCODER=x": "train pretrain tiny-32 --on a --on b --encoder x",
    "pretrain OUT='x y' CAPTIONS='t u'": "train pretrain --on x --on y --captions t --captions u",
    "pretrain NAME=n": "train pretrain --out runs/n",
    "pretrain GPUS=8": "torch.distributed.run --standalone --nproc-per-node 8 -m train pretrain",
    "finetune SET=coco FROM=runs/atoms": "train finetune --from runs/atoms --on coco",
    "finetune SET=a PRESET=p FROM=none FRACTION=0.5": "train finetune p --from none --fraction 0.5 --on a",
    "evaluate": "evaluate metrics",
    "evaluate RUN=r SET=coco CAPTIONS=t ARGS='--n 8'": "evaluate metrics r --on coco --captions t --n 8",
    "encoder": "caption fit-encoder --recipe nano",
    "encoder ENCODER=nano-emoji": "caption fit-encoder --recipe nano-emoji",
    "encoder ENCODER=nano-scenes": "caption fit-encoder --recipe nano-scenes",
    "judge": "evaluate fit-judge --out data/judge",
    "formula-32": "evaluate.experiments.formula",
    "vet": "synth vet shaders --out data/shaders",
    "demo ARGS='--minutes 1'": "evaluate.experiments.demo --minutes 1",
}


@pytest.mark.parametrize(("words", "command"), CASES.items())
def test_variables_become_options_and_defaults_are_the_commands(
    checkout: Path, words: str, command: str
) -> None:
    arguments = [word.replace("'", "") for word in re.findall(r"(?:[^\s']|'[^']*')+", words)]
    assert make(checkout, *arguments) == command


def test_an_exported_variable_changes_nothing(checkout: Path) -> None:
    assert make(checkout, "shards", N="5", DATASET="fractals", OUT="x") == "synth shards"


def test_a_command_that_fails_fails_make(checkout: Path) -> None:
    (checkout / ".venv/bin/python").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(subprocess.CalledProcessError):
        make(checkout, "shards")


def test_every_stage_installs_its_own_extra_in_one_call(checkout: Path) -> None:
    """A render node gets no torch: `make shards` installs an extra that does not contain it."""
    for stage in ("data", "caption", "train", "evaluate", "demo", "test"):
        (checkout / "pyproject.toml").touch()
        (checkout / "tests").mkdir(exist_ok=True)
        (checkout / "tests" / "constraints.txt").touch()
        run = subprocess.run(
            ["make", "-f", str(ROOT / "Makefile"), f".venv/.{stage}"],
            cwd=checkout, env=outside_make(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        installed, compiled = (line.rstrip("|") for line in run.stdout.splitlines()[-2:])
        assert installed.endswith(f"|.[{stage}]") and compiled.startswith("-m|compileall|")
        assert (checkout / ".venv" / f".{stage}").exists() and (checkout / ".venv" / ".synth").exists()
    assert re.search(r"^shards: \.venv/\.shaders ", MAKEFILE, re.MULTILINE)
    assert re.search(r"^\.venv/\.shaders \.venv/\.emoji: \.venv/\.data$", MAKEFILE, re.MULTILINE)


def test_the_makefile_stays_small() -> None:
    assert len(MAKEFILE.splitlines()) <= 70
    assert "$(foreach" not in MAKEFILE and "$(call" not in MAKEFILE
