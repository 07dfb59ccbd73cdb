import importlib
import re
import shlex
import subprocess
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.exceptions import TyperException

import caption.cli
import data.cli
import evaluate.cli
import synth.cli
import train.cli
from evaluate.experiments import demo
from tests.kit import ROOT, SET_UP, commands_of, outside_make, parse

OUTSIDE = {".venv", "shards", "real", "captions", "runs", "fixtures"}  # generated, or of an older commit
PAGES = [p for p in ROOT.rglob("*.md") if not OUTSIDE & set(p.relative_to(ROOT).parts)]
DEMO = "evaluate.experiments.demo"
COMMANDS = {
    stage.__name__.split(".")[0]: commands_of(stage.app)
    for stage in (synth.cli, data.cli, caption.cli, train.cli, evaluate.cli)
}
MODULES = {**{name: importlib.import_module(f"{name}.cli").app for name in COMMANDS}, DEMO: demo.app}
NUMBERS = {"N": "1", "S": "1"}  # words that stand for numbers on the pages
MAPPED = (
    "shards",
    "data",
    "captions",
    "pretrain",
    "finetune",
    "evaluate",
    "encoder",
    "vet",
    "demo",
    "doctor",
)
MAKEFILE = (ROOT / "Makefile").read_text()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def make(*arguments: str) -> str:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def code_lines(page: Path) -> list[str]:
    return [
        line
        for block in re.findall(r"```\w*\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def lines_of(page: Path) -> Iterator[str]:
    """Yields the lines of a page's blocks, continued lines joined, and its texts between backquotes."""
    text = page.read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def commands_in(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields module and words of every command of a page, except `python -m data SET` and its like."""
    for line in lines_of(page):
        for program, rest in re.findall(r"(?:python|torchrun.*?) -m ([\w.]+) ?([^#;|]*)", line):
            if program in MODULES and rest and rest.split()[0] not in ("SET", "COMMAND", "--help"):
                yield program, [word for word in shlex.split(rest) if word != "..."]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_the_docs_are_understood(page: Path) -> None:
    """Each command is parsed as a shell would hand it over. Names such as RUN and DIR count as texts."""
    for program, words in commands_in(page):
        words = [NUMBERS.get(word, word) for word in words]
        try:
            parse(MODULES[program], words)
        except TyperException as error:
            # A command in running text may be named without its arguments.
            assert error.format_message().startswith("Missing"), (program, words, error)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_make_commands_in_the_docs_become_commands_that_are_understood(page: Path, tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s|" "$word"; done; echo\n')
    python.chmod(0o755)
    for line in lines_of(page):
        target, *variables = shlex.split(line.removeprefix("make ")) if line.startswith("make ") else [""]
        if (
            target not in MAPPED
            or any(v.endswith("...") for v in variables)
            or any("=" not in v for v in variables)
        ):
            continue
        command = ["make", "-f", str(ROOT / "Makefile"), *SET_UP, target, *variables]
        run = subprocess.run(
            command, cwd=tmp_path, env=outside_make(), capture_output=True, text=True, check=True
        )
        words = run.stdout.strip().rstrip("|").rpartition("-m|")[2]
        program, *arguments = words.split("|")
        try:
            parse(MODULES[program], arguments)
        except TyperException as error:
            assert error.format_message().startswith(("Missing", "Usage")), (line, error)


def test_every_preparation_stands_in_the_table_of_sets() -> None:
    table = set(
        re.findall(r"^\| (\w+) \|.*`python -m data \1", (ROOT / "data/README.md").read_text(), re.MULTILINE)
    )
    assert table == {path.parent.name for path in (ROOT / "data").glob("*/prepare.py")}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_demos_in_the_docs_have_options_of_the_demo(page: Path) -> None:
    options = {name for p in typer.main.get_command(demo.app).params for name in p.opts} | {"--help"}
    for line in re.findall(r"python -m evaluate.experiments.demo ([^`\n#]+)", page.read_text()) + re.findall(
        r'make demo ARGS="([^"]+)"', page.read_text()
    ):
        assert {word for word in shlex.split(line) if word.startswith("--")} <= options, line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_make_targets_and_variables_in_the_docs_exist(page: Path) -> None:
    for line in [line for line in code_lines(page) if line.startswith("make ")] + re.findall(
        r"`(make [^`]+)`", page.read_text()
    ):
        for word in shlex.split(line)[1:]:
            name, equals, _ = word.partition("=")
            if word.startswith(".venv/."):
                # A stamp of system packages, or of an extra.
                assert word.removeprefix(".venv/.") in {"shaders", "emoji", *EXTRAS}, word
                continue
            assert re.search(rf"\$\({name}[:)]" if equals else rf"^{name}:", MAKEFILE, re.MULTILINE), word


def test_bare_make_lists_every_target_and_all_are_phony() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
    assert targets == set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split())
    assert targets <= set(make().split())


def test_the_python_of_the_readme_runs(undisturbed: Path, captioned: Path) -> None:
    read, joined = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    places = {"data/shards/visual_atoms": undisturbed, "data/captions/visual_atoms/nano-emoji": captioned}
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves closing to the collector
        for script in (read, joined.replace("num_workers=2", "num_workers=0")):
            for place, folder in places.items():
                script = script.replace(f'"{place}', f'"{folder}')
            exec(script, names)
    assert names["parameters"]["index"] == 15
    assert names["pictures"].shape[1:] == (32, 32, 3) and names["vectors"].shape[1:] == (32,)


def test_the_readme_has_a_row_for_each_of_the_five_documents() -> None:
    text = (ROOT / "README.md").read_text()
    table = text[text.index("## The five documents") :].split("\n\n")[2]
    assert len(table.splitlines()) == 2 + 5 and "not yet" in table


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as code hosts form them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_anchors_are_headings(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        assert anchor in anchors(page.parent / target if target else page), (target, anchor)


def test_the_readme_is_short_and_its_images_are_ours() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    assert all(not image.startswith("http") for image in re.findall(r"!\[.*?\]\((.*?)\)", text))


def test_the_versions_of_other_peoples_tools_are_the_pinned_ones() -> None:
    text = (ROOT / "README.md").read_text()
    table = text[text.index("## Other people's tools") :].split("\n\n")[2]
    rows = [line.split(" | ")[:2] for line in table.splitlines()[2:]]
    pins = (ROOT / "tests/constraints.txt").read_text().splitlines()
    assert len(rows) >= 9
    assert not [name for name, version in rows if f"{name.removeprefix('| ')}=={version}" not in pins]


def test_every_dependency_has_an_exact_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "tests" / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    for extra, names in project["optional-dependencies"].items():
        for name in names:
            if name.startswith("exnihilo["):
                continue
            assert re.sub(r"\[.*", "", name).lower().replace("_", "-") in pinned, (extra, name)
