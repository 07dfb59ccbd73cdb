"""The commands that make runs, printed by a stand-in for Python."""

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tests.kit import ROOT, SET_UP, outside_make


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which commands say their words, one command a line."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        '#!/bin/sh\nfor word in "$@"; do printf "%s|" "$word"; done; echo; case "$*" in *broken*) exit 3;; esac\n'
    )
    python.chmod(0o755)
    return tmp_path


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-f", str(ROOT / "Makefile"), *SET_UP, *words]
    return subprocess.run(
        command, cwd=checkout, env=outside_make(), capture_output=True, text=True, check=False
    )


def asked(checkout: Path, *words: str) -> list[list[str]]:
    """The words of each command, without `-m`."""
    ended = make(checkout, *words)
    assert ended.returncode == 0, ended.stderr
    return [line.rstrip("|").split("|")[1:] for line in ended.stdout.splitlines()]


def refused(checkout: Path, *words: str) -> str:
    """The one sentence of what is wrong; nothing is begun."""
    ended = make(checkout, *words)
    assert ended.returncode == 2 and not ended.stdout
    [sentence] = [line for line in ended.stderr.splitlines() if not line.startswith("make")]
    return sentence


def options(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairwise(words):
        if name.startswith("--"):
            found.setdefault(name, []).append(value)
    return found


def test_one_set_goes_where_it_went(checkout: Path) -> None:
    assert asked(checkout, "shards") == [
        ["synth", "shards", "visual_atoms", "--n", "10000", "--out", "data/shards/visual_atoms"]
    ]
    [words] = asked(checkout, "shards", "DATASET=fractals", "OUT=a place", "N=5")
    assert words == ["synth", "shards", "fractals", "--n", "5", "--out", "a place"]
    [words] = asked(checkout, "captions", "OUT=a place", "ENCODER=nano")
    assert words == ["caption", "captions", "a place", "--encoder", "nano", "--xi", "0.25"]
    [words] = asked(checkout, "pretrain", "OUT=a place", "CAPTIONS=its tables", "PRESET=tiny-32")
    assert words == [
        *("train", "pretrain", "tiny-32", "--shards", "a place", "--captions", "its tables"),
        *("--out", "runs/visual_atoms-tiny-32"),
    ]


def test_several_sets_are_made_one_after_another_and_read_as_one(checkout: Path) -> None:
    several = "DATASET=visual_atoms fractals"
    drawn = asked(checkout, "shards", several, "SIZE=32")
    assert [(w[2], *options(w)["--out"]) for w in drawn] == [
        (n, f"data/shards/{n}") for n in ("visual_atoms", "fractals")
    ]
    assert [w[2] for w in asked(checkout, "captions", several)] == [
        "data/shards/visual_atoms",
        "data/shards/fractals",
    ]
    placed = asked(checkout, "captions", several, "OUT=x y", "CAPTIONS=tx ty")
    assert [(w[2], *options(w)["--out"]) for w in placed] == [("x", "tx"), ("y", "ty")]
    [words] = asked(checkout, "pretrain", several, "ENCODER=nano", "PRESET=tiny-32")
    assert options(words) == {
        "--shards": ["data/shards/visual_atoms", "data/shards/fractals"],
        "--captions": ["data/captions/visual_atoms/nano", "data/captions/fractals/nano"],
        "--out": ["runs/visual_atoms-fractals-tiny-32"],
    }
    [words] = asked(checkout, "pretrain", several, "OUT=x y", "CAPTIONS=tx ty")
    assert options(words)["--shards"] == ["x", "y"] and options(words)["--captions"] == ["tx", "ty"]


def test_the_first_set_that_fails_ends_it(checkout: Path) -> None:
    ended = make(checkout, "shards", "DATASET=visual_atoms broken fractals")
    assert ended.returncode == 2 and "fractals" not in ended.stdout


def test_lists_that_do_not_fit_are_refused(checkout: Path) -> None:
    assert refused(checkout, "shards", "DATASET=a b", "OUT=x").startswith(
        "error: OUT names one place and DATASET several sets"
    )
    assert "OUT names 2 sets of shards and CAPTIONS 1 places" in refused(
        checkout, "captions", "DATASET=a b", "CAPTIONS=x"
    )


@pytest.mark.parametrize(
    ("real", "preset", "part"),
    [
        ("coco", "coco-256", "0.1"),
        ("cub", "cub-256", "0.1"),
        ("celeba_hq", "celeba_hq-256", "0.1"),
        ("emoji", "emoji-32", "1"),
    ],
)
def test_a_real_set_is_fine_tuned_on_with_the_papers_settings(
    checkout: Path, real: str, preset: str, part: str
) -> None:
    [words] = asked(checkout, "finetune", f"SET={real}", "FROM=runs/atoms/", "ENCODER=nano")
    assert words[:3] == ["train", "finetune", preset]
    expected = {
        "--set": [f"data.fraction={part}"],
        "--shards": [f"data/real/{real}/train"],
        "--captions": [f"data/captions/{real}-train/nano"],
    }
    assert options(words) == {
        "--from": ["runs/atoms/"],
        **expected,
        "--out": [f"runs/{real}-{preset}-from-atoms"],
    }
    for nothing in ("FROM=", "FROM=none"):
        [words] = asked(checkout, "finetune", f"SET={real}", nothing, "ENCODER=nano")
        assert words[:3] == ["train", "pretrain", preset]
        assert options(words) == {**expected, "--out": [f"runs/{real}-{preset}-from-scratch"]}


def test_what_is_given_for_a_real_set_goes_before_its_settings(checkout: Path) -> None:
    given = ("PRESET=small-64", "FRACTION=0.5", "NAME=mine", "OUT=my shards", "CAPTIONS=t")
    [words] = asked(checkout, "finetune", "SET=coco", "FROM=runs/atoms", *given)
    found = options(words)
    assert (
        words[2] == "small-64" and found["--set"] == ["data.fraction=0.5"] and found["--out"] == ["runs/mine"]
    )
    assert found["--shards"] == ["my shards"] and found["--captions"] == ["t"]
    [words] = asked(checkout, "finetune", "SET=own", "FROM=runs/atoms", "PRESET=small-64")
    assert options(words)["--set"] == ["data.fraction=1"] and options(words)["--out"] == [
        "runs/own-small-64-from-atoms"
    ]


def test_without_a_real_set_fine_tuning_is_on_a_data_set(checkout: Path) -> None:
    [words] = asked(
        checkout, "finetune", "DATASET=fractals", "FROM=runs/atoms", "PRESET=tiny-32", "ENCODER=nano"
    )
    assert words[:3] == ["train", "finetune", "tiny-32"]
    assert options(words) == {
        "--from": ["runs/atoms"],
        "--shards": ["data/shards/fractals"],
        "--captions": ["data/captions/fractals/nano"],
        "--out": ["runs/fractals-tiny-32"],
    }


def test_fine_tuning_has_to_be_told_from_what_and_how(checkout: Path) -> None:
    assert refused(checkout, "finetune", "SET=coco").startswith("error: finetune needs FROM=RUN")
    assert refused(checkout, "finetune").startswith("error: finetune needs FROM=RUN")
    assert refused(checkout, "finetune", "SET=own", "FROM=none").startswith(
        "error: no preset is known for SET=own; give PRESET"
    )


def test_a_run_is_measured_on_what_a_real_set_holds_out(checkout: Path) -> None:
    assert refused(checkout, "evaluate", "RUN=runs/x").startswith("error: evaluate needs SET")
    [words] = asked(checkout, "evaluate", "RUN=runs/x", "SET=data/real/coco/val")
    assert words == ["evaluate", "metrics", "runs/x", "--reference", "data/real/coco/val"]
    (checkout / "data/real/coco/train").mkdir(parents=True)
    assert options(asked(checkout, "evaluate", "SET=coco")[0]) == {"--reference": ["coco"]}
    for name in ("test", "val"):
        (checkout / "data/real/coco" / name).mkdir()
        assert options(asked(checkout, "evaluate", "SET=coco")[0]) == {
            "--reference": [f"data/real/coco/{name}"]
        }
    tables = checkout / "data/captions/coco-val/nano"
    tables.mkdir(parents=True)
    assert "--captions" not in asked(checkout, "evaluate", "SET=coco", "ENCODER=nano")[0]  # not finished
    (tables / "manifest.json").write_text("{}")
    assert options(asked(checkout, "evaluate", "SET=coco", "ENCODER=nano")[0])["--captions"] == [
        "data/captions/coco-val/nano"
    ]
    assert "--captions" not in asked(checkout, "evaluate", "SET=coco")[0]


def test_a_real_set_is_prepared_and_captioned_by_its_name(checkout: Path) -> None:
    place = checkout / "data" / "folder" / "prepare.py"
    place.parent.mkdir(parents=True)
    place.touch()
    [words] = asked(checkout, "data", "SET=folder", "ROOT=my pictures", "SIZE=64", "ARGS=--licence CC0-1.0")
    assert words[:3] == ["data.folder.prepare", "--root", "my pictures"]
    assert options(words) == {"--root": ["my pictures"], "--size": ["64"], "--licence": ["CC0-1.0"]}
    assert refused(checkout, "data", "SET=nothing") == "error: SET is 'nothing'; give one of folder"
    assert "make data prepares them: those of SET=folder under the name of the folder" in refused(
        checkout, "captions", "SET=folder"
    )
    for split in ("test", "train"):
        (checkout / "data" / "real" / "folder" / split).mkdir(parents=True)
        (checkout / "data" / "real" / "folder" / split / "manifest.json").touch()
    found = asked(checkout, "captions", "SET=folder", "ENCODER=nano")
    assert sorted(w[2] for w in found) == ["data/real/folder/test", "data/real/folder/train"]
    assert "CAPTIONS names one place and SET=folder has 2 splits" in refused(
        checkout, "captions", "SET=folder", "CAPTIONS=x"
    )
