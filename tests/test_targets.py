"""Targets on this machine: refused before any work, by every command that writes one file or folder."""

from pathlib import Path

import pytest
import typer

import caption.cli
import evaluate.cli
import synth.cli
import train.cli
from evaluate.experiments import demo, formula, speedrun
from tests.kit import refusal

FILES = {  # commands that write one file, without --out
    "grid.png": (train.cli.app, ["sample", "nowhere", "a star"]),
    "maps.png": (train.cli.app, ["attention", "nowhere", "a star"]),
    "edit.png": (train.cli.app, ["edit", "nowhere", "a star", "a ring"]),
    "g.safetensors": (train.cli.app, ["export", "nowhere"]),
    "pairs.png": (evaluate.cli.app, ["grid", "nowhere", "--on", "nowhere"]),
    "curve.png": (evaluate.cli.app, ["curve", "nowhere", "--on", "nowhere"]),
    "table.md": (evaluate.cli.app, ["table", "1"]),
    "plot.png": (evaluate.cli.app, ["concepts", "nowhere"]),
    "prompts.jsonl": (evaluate.cli.app, ["prompts", "export"]),
    "audit.html": (caption.cli.app, ["audit", "nowhere"]),
    "preview.png": (synth.cli.app, ["preview", "fractals"]),
}
FOLDERS = {  # likewise
    "export": (train.cli.app, ["export", "nowhere"]),
    "word": (train.cli.app, ["invert", "nowhere", "--pictures", "p", "--word", "<a>", "--init", "a"]),
    "run": (train.cli.app, ["pretrain", "tiny-32", "--on", "/nowhere"]),
    "tuned": (train.cli.app, ["finetune", "tiny-32", "--on", "/nowhere", "--from", "none"]),
    "imported": (train.cli.app, ["import", "nowhere.pkl", "--encoder", "nano"]),
    "judge": (evaluate.cli.app, ["fit-judge"]),
    "examined": (evaluate.cli.app, ["examine-judge"]),
    "families": (evaluate.cli.app, ["experiment", "families"]),
    "demo": (demo.app, []),
    "formula": (formula.app, []),
    "speedrun": (speedrun.app, []),
    "classes": (synth.cli.app, ["classes", "fractals"]),
    "programs": (synth.cli.app, ["vet", "shaders"]),
    "encoder": (caption.cli.app, ["fit-encoder", "/nowhere"]),
    "captioner": (caption.cli.app, ["fit-captioner"]),
}


def refused(command: tuple[typer.Typer, list[str]], out: object) -> str:
    app, words = command
    return refusal(app, "program", *words, "--out", out)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_none_of_a_bucket_and_no_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = refused(FILES[name], f"s3://bucket/{name}")
    assert sentence.startswith(f"error: --out is s3://bucket/{name}; give the name of a ")
    assert sentence.endswith(" on this machine")
    (tmp_path / name).mkdir()
    assert f"--out is {name}, and {name} is a folder; give the name of a" in refused(FILES[name], name)
    (tmp_path / "file").write_text("")
    assert "file is a file; give a folder" in refused(FILES[name], f"file/{name}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["file", name])


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_none_of_a_bucket_and_no_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = f"--out is s3://bucket/{name}; give a folder on this machine"
    assert sentence in refused(FOLDERS[name], f"s3://bucket/{name}")
    (tmp_path / name).write_text("")
    assert f"--out is {name}, which is a file; give a folder" in refused(FOLDERS[name], name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["config.json", "thesis.tex"])
def test_a_word_and_an_export_replace_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    sentence = f"--out is {tmp_path}, which holds something else, such as {name}; give a new folder"
    assert sentence in refused(FOLDERS["word"], tmp_path)
    exported = (train.cli.app, ["export", "formula-32"])
    assert "already holds files; give another folder" in refused(exported, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
