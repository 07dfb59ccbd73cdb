import re
import shlex
import subprocess
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest
import typer

import caption.cli
import data.cli
import evaluate.cli
import synth.cli
import train.cli
from evaluate.experiments.demo import cli as demo
from tests.kit import ROOT, commands_of

OUTSIDE = {".venv", "shards", "real", "captions", "runs", "fixtures"}  # generated, or of an older commit
PAGES = [p for p in ROOT.rglob("*.md") if not OUTSIDE & set(p.relative_to(ROOT).parts)]
COMMANDS = {
    stage.__name__.split(".")[0]: commands_of(stage.app)
    for stage in (synth.cli, data.cli, caption.cli, train.cli, evaluate.cli)
}
MAKEFILE = (ROOT / "Makefile").read_text()


def make(*arguments: str) -> str:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def code_lines(page: Path) -> list[str]:
    return [
        line
        for block in re.findall(r"```\w*\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
    ]


def require_options(command: Any, line: str) -> None:
    """Every option of a line is the command's."""
    options = {name for p in command.params for name in p.opts} | {"--help"}
    assert {w for w in shlex.split(line) if w.startswith("--")} <= options, line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_the_docs_are_commands(page: Path) -> None:
    for package, line in re.findall(
        r"python -m (synth|data|caption|train|evaluate) ([^`\n#]+)", page.read_text()
    ):
        words = [w for w in shlex.split(line) if w != "\\"]
        if words[0] == "SET":  # stands for the name of a real set
            continue
        command = COMMANDS[package][words[0]]
        require_options(command, line)


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
            assert re.search(rf"\$\({name}[:)]" if equals else rf"^{name}:", MAKEFILE, re.MULTILINE), word


def test_bare_make_lists_every_target_and_all_are_phony() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert targets == set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split())
    assert targets <= set(make().split())


def test_the_python_of_the_readme_runs(undisturbed: Path) -> None:
    [script] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves closing to the collector
        exec(script.replace("data/shards/visual_atoms", str(undisturbed)), names)
    assert isinstance(names["how"], dict) and names["how"]["index"] == 15


def test_the_readme_is_short_and_its_images_are_ours() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    assert all(not image.startswith("http") for image in re.findall(r"!\[.*?\]\((.*?)\)", text))


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
