"""Faults that reports about other people's tools taught us to look for: the machine around the commands.

Homes, caches, locks, failing disks, umasks, encodings, places and numbers. Each test covers a kind of fault.
"""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from caption.cli import app as caption_app
from data.cli import app as data_app
from evaluate.cli import app as evaluate_app
from evaluate.experiments.demo.cli import app as demo_app
from synth import options
from synth.cli import app as synth_app
from synth.errors import UserError
from tests.kit import commands_of, invoke, make_small, parse, refusal
from train.cli import app as train_app

APPS = {
    "synth": synth_app,
    "data": data_app,
    "caption": caption_app,
    "train": train_app,
    "evaluate": evaluate_app,
}

# Numbers.


def numbers() -> Iterator[tuple[str, str, Any]]:
    """Yields package, command and parameter of every option that takes a number."""
    for package, app in APPS.items():
        for command, program in commands_of(app).items():
            for parameter in program.params:
                if parameter.metavar in ("N", "X") and parameter.opts[0] != "--xi":
                    yield package, command, parameter


def words_of(command: Any) -> list[str]:
    """Returns words for all that a command requires."""
    words = []
    for parameter in command.params:
        if parameter.required:
            words += [parameter.opts[0], "x"] if parameter.opts[0].startswith("-") else ["x"]
    return words


@pytest.mark.parametrize("value", ["-1", "1" + "0" * 40])
def test_every_number_of_every_command_has_a_range_that_is_checked_before_anything_is_written(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checked = 0
    for package, command, parameter in numbers():
        words = words_of(commands_of(APPS[package])[command])
        sentence = refusal(APPS[package], package, command, *words, parameter.opts[0], value)
        assert f"{parameter.opts[0]} is {value}" in sentence.replace(f"{float(value)}", value), sentence
        checked += 1
    assert checked > 40 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("synth shards --n 0", "--n is 0; it must be 1 to 1,000,000,000"),
        ("synth preview fractals --n 1025", "--n is 1025; it must be 1 to 1,024"),
        ("synth shards --size 4097", "--size is 4097; it must be 1 to 4,096"),
        ("caption audit t --sample 31", "--sample is 31; it must be 32 to 16,384"),
        ("data emoji --test-share 1", "--test-share is 1.0; it must be between 0 and 1"),
        ("data folder --root x --test-share 1", "--test-share is 1.0; it must be at least 0 and below 1"),
        ("data img2dataset --root x --size 0", "--size is 0; it must be 1 to 4,096"),
    ],
)
def test_the_sentence_about_a_number_names_its_range(words: str, sentence: str) -> None:
    package, *rest = words.split()
    assert refusal(APPS[package], package, *rest) == f"error: {sentence}"


def test_the_ends_of_a_range_are_allowed_unless_excluded() -> None:
    for words in (
        "preview fractals --n 1",
        "preview fractals --n 1024",
        "shards --seed 0",
        f"shards --seed {2**64 - 1}",
    ):
        parse(synth_app, words.split())
    parse(data_app, ["folder", "--root", "x", "--test-share", "0"])


# Places.

PLACES = ("PLACE", "FILE", "DIR", "FOLDER", "PATH", "SET", "SHARDS", "TABLES", "RUN", "A", "B")


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and the one of another user, ada."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    entry = pwd.struct_passwd(("ada", "x", 7, 7, "", str(tmp_path / "ada"), "/bin/sh"))
    known = {"ada": entry}
    monkeypatch.setattr(pwd, "getpwnam", known.__getitem__)
    return tmp_path


def test_every_option_that_names_a_place_knows_home_folders(homes: Path) -> None:
    """Also arguments, options that may be repeated, and options that take a name or a place."""
    named, checked = ("--encoder", "--detector", "--clip", "--set"), 0
    programs = [*(p for app in APPS.values() for p in commands_of(app).values()), get_command(demo_app)]
    for program in programs:
        for parameter in program.params:
            if parameter.metavar in PLACES or parameter.opts[0] in named:
                values = ["~/x", "~ada/x"] if parameter.multiple or parameter.nargs == -1 else "~/x"
                expected = [str(homes / "me/x"), str(homes / "ada/x")]
                converted = parameter.process_value(program.context_class(program), values)
                assert converted == (expected if isinstance(values, list) else expected[0]), parameter.opts
                checked += 1
    assert checked > 60


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("~", "me"),
        ("~/a b/c", "me/a b/c"),
        ("~ada", "ada"),
        ("ViT-B-32=~/clip.pt", "ViT-B-32={}me/clip.pt"),
        ("table=~ada/tables", "table={}ada/tables"),
    ],
)
def test_a_home_folder_is_replaced_at_the_beginning_and_after_a_models_name(
    homes: Path, text: str, place: str
) -> None:
    expected = place.format(f"{homes}/") if "{}" in place else f"{homes}/{place}"
    assert options.located("--out", text) == expected


def test_other_texts_are_places_as_they_are(homes: Path) -> None:
    for text in ("a~b", "./~", "x/~/y", "s3://bucket/~x", "a=b", "x/k=~v", "ViT-B-32=/clip.pt", "key=1,2"):
        assert options.located("--out", text) == text


def test_a_home_folder_that_nobody_knows_is_no_folder_of_that_name(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError, match=r"--out is ~bob/x, and the home folder ~bob is unknown; write \./~bob/x"
    ):
        options.located("--out", "~bob/x")

    # A user without an entry in passwd.
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for text in ("~", "~/x", "ViT-B-32=~/x.pt"):
        with pytest.raises(UserError, match="the home folder ~ is unknown"):
            options.located("--out", text)


def test_commands_write_to_the_home_folder(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (homes / "work").mkdir()
    monkeypatch.chdir(homes / "work")
    make_small(homes / "me/atoms", samples=1)
    assert invoke(synth_app, "verify", "~/atoms", "--redraw", 0).exit_code == 0
    assert (
        invoke(synth_app, "preview", "visual_atoms", "--n", 1, "--size", 16, "--out=~/p.png").exit_code == 0
    )
    words = ["classes", "fractals", "--set", "classes=2", "--out=~ada/classes"]
    assert invoke(synth_app, *words).exit_code == 0
    words = [
        "preview",
        "fractals",
        "--n",
        "1",
        "--size",
        "16",
        "--set",
        "table=~ada/classes",
        "--out=~/t.png",
    ]
    assert invoke(synth_app, *words).exit_code == 0
    assert (homes / "me/p.png").is_file() and (homes / "me/t.png").is_file()
    assert not os.listdir(homes / "work")
