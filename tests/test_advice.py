"""All advice in texts of the product can be typed: options, settings, targets of make, commands."""

import dataclasses
import functools
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

import caption.cli
import data.cli
import evaluate.cli
import synth.cli
import train.cli
from evaluate.experiments import demo, formula, speedrun
from synth import datasets
from tests.kit import ROOT, Advice, advice, commands_of, python_files
from train import presets
from train.config import RunConfig, with_settings

PACKAGES = ("synth", "data", "caption", "train", "evaluate")
FILES = [path for package in PACKAGES for path in python_files(package)]
MAKEFILE = (ROOT / "Makefile").read_text()
PREPARE = commands_of(data.cli.app)
EXPERIMENTS: dict[str, Any] = {  # by the module's last name
    "demo": typer.main.get_command(demo.app),
    "formula": typer.main.get_command(formula.app),
    "speedrun": typer.main.get_command(speedrun.app),
}
MODELS = {preset.model for preset in presets.PRESETS.values()}
DRAWN_BY = [importlib.import_module(f"train.models.{name}") for name in MODELS]
DRAWING = {
    f"--{field.name.replace('_', '-')}"
    for m in DRAWN_BY
    if hasattr(m, "Options")
    for field in dataclasses.fields(m.Options)
}
COMMANDS: dict[str, Mapping[str, Any]] = {
    "synth": commands_of(synth.cli.app),
    "data": PREPARE,
    "caption": commands_of(caption.cli.app),
    "train": commands_of(train.cli.app),
    "evaluate": commands_of(evaluate.cli.app),
}
# Of img2dataset, torchrun, open_clip, and every command.
FOREIGN = {"--output_format", "--nproc-per-node", "--dataset-type", "--train-data", "--model", "--help"}
ENGLISH = {"a", "an", "it", "one", "room", "the", "them", "true"}  # as in "make room"


@functools.cache
def everything() -> list[Advice]:
    """All advice of the product."""
    return [item for path in FILES for item in advice(path)]


def of_kind(kind: str) -> list[Advice]:
    """The advice of one kind, each once a line."""
    items = {(a.place, a.words): a for a in everything() if a.kind == kind}
    assert items, f"no advice of the kind {kind} is left: does the search still work?"
    return list(items.values())


def options(commands: list[Any]) -> set[str]:
    """The options of commands, with the models' drawing options if one of them passes these on."""
    names = {name for command in commands for p in command.params for name in (*p.opts, *p.secondary_opts)}
    passed_on = any("ignore_unknown_options" in command.context_settings for command in commands)
    return names | (DRAWING if passed_on else set())


@functools.cache
def reached_from(place: str) -> list[Any]:
    """The commands that can show a text: of its package, and of later ones that import the file."""
    file = Path(place.partition(":")[0])
    package, name = file.parts[0], file.parts[1]
    if package == "data" and name in PREPARE:
        return [PREPARE[name]]
    if file.is_relative_to("evaluate/experiments"):
        name = file.parts[2].removesuffix(".py")
        return [EXPERIMENTS.get(name, COMMANDS["evaluate"]["experiment"])]
    module = ".".join(file.with_suffix("").parts[:2])
    right = [
        p
        for p in PACKAGES[PACKAGES.index(package) + 1 :]
        if any(module in path.read_text() for path in python_files(p))
    ]
    return [command for p in (package, *right) for command in COMMANDS[p].values()]


def test_options_are_those_of_a_command_that_says_so() -> None:
    wrong = [a for a in of_kind("option") if a.words not in options(reached_from(a.place)) | FOREIGN]
    assert not wrong


def test_settings_are_taken() -> None:
    known = {
        field.name
        for dataset in datasets.DATASETS.values()
        for field in dataclasses.fields(dataset.module.Config)
    }
    for given in of_kind("setting"):
        key, _, value = given.words.partition("=")
        if not given.place.startswith(("train/", "evaluate/experiments/speedrun")):
            assert key in known, given
        elif key != "GROUP.KEY":
            # Advice on a model's setting is given for this model alone.
            group, _, name = key.partition(".")
            takers = [m for m in MODELS if hasattr(RunConfig.of(m).by_group.get(group), name)]
            assert takers, given
            number = "1000000" if name == "decay_to" else "1"
            for model in takers:
                with_settings(RunConfig.of(model), [f"{key}={value.replace('{}', number)}"])


def test_targets_and_variables_are_those_of_the_makefile() -> None:
    for given in of_kind("make"):
        target, *more = given.words.split(" ")
        if target not in ENGLISH:
            assert "=" in target or re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), given
            for name, equals, _ in (word.partition("=") for word in (target, *more)):
                assert not equals or re.search(rf"\$\({name}[:)]", MAKEFILE), given


def test_commands_are_there_with_their_options() -> None:
    for given in of_kind("command"):
        module, *words = given.words.split(" ")
        package, *rooms = module.split(".")
        experiment = "experiments" in rooms
        chosen: Any = (
            EXPERIMENTS[rooms[1]] if experiment else COMMANDS[package][rooms[0] if rooms else words[0]]
        )
        while getattr(chosen, "commands", None) and not experiment:
            # A group of commands: the next word names one of them.
            words = words[1:]
            chosen = chosen.commands[words[0]]
        assert {word.strip(",.)") for word in words if word.startswith("--")} <= options(
            [chosen]
        ) | FOREIGN, given


def test_bad_advice_would_be_found(tmp_path: Path) -> None:
    error = 'raise UserError(f"give --set cache_gb={n}, or --big, or `make all`: python -m synth draw")'
    (tmp_path / "module.py").write_text(f'"""Not this --docstring."""\n{error}\nNAME = "--name"\n')
    items = {(a.kind, a.words) for a in advice(tmp_path / "module.py")}
    assert items == {
        ("setting", "cache_gb={}"),
        ("option", "--set"),
        ("option", "--big"),
        ("make", "all"),
        ("command", "synth draw"),
    }
