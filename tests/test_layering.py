import ast
import functools
from pathlib import Path

import pytest

from tests.kit import ROOT, python_files

PIPELINE = [
    "synth",
    "data",
    "caption",
    "train",
    "evaluate",
]  # a package imports only itself and the packages before it
DOORS = {  # folders and modules that other packages may import; everything else is private
    "synth": {
        "families",
        "sets",
        "images",
        "settings",
        "options",
        "console",
        "errors",
        "stopwatch",
        "checkout",
        "caches",
        "foreign",
        "seeds",
        "datasets",
        "allocator",
    },
    "caption": {
        "table",
        "join",
        "pseudo",
        "encoders",
        "lean_imports",
        "blending",
        "contrast",
        "endpoint",
        "labels",
        "sentences",
        "upsampling",
    },
    "train": {"runs", "checkpoint", "sampling"},
}


@functools.cache
def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", PIPELINE)
def test_packages_import_only_to_the_left_and_through_doors(package: str) -> None:
    for path in python_files(package):
        for name in imports(path):
            top, _, rest = name.partition(".")
            assert top not in PIPELINE[PIPELINE.index(package) + 1 :], f"{path} imports {name}"
            if top in DOORS and top != package:
                assert rest.split(".")[0] in DOORS[top], f"{path} imports {name}, which is no door"


def test_synth_knows_neither_torch_nor_webdataset() -> None:
    for path in python_files("synth"):
        assert not {"torch", "webdataset"} & {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("package", PIPELINE)
def test_doors_say_so(package: str) -> None:
    """A door's docstring begins with the word, and no other module or folder's does."""
    for path in python_files(package):
        name = path.relative_to(ROOT / package).with_suffix("")
        door = name.parent if name.name == "__init__" else name
        assert path.read_text().startswith('"""DOOR.') == (str(door) in DOORS.get(package, set())), path


@pytest.mark.parametrize("package", PIPELINE)
def test_no_room_has_more_modules_than_can_be_held_in_the_head(package: str) -> None:
    for folder in {path.parent for path in python_files(package)}:
        assert len([path for path in folder.glob("*.py") if not path.name.startswith("__")]) <= 24, folder


def test_test_modules_share_through_the_kit_alone() -> None:
    """No test module is imported, not even by code of a subprocess: a renamed test breaks nothing else."""
    modules = {
        path.stem
        for path in (ROOT / "tests").glob("*.py")
        if path.stem == "conftest" or path.stem.startswith("test_")
    }
    for path in python_files("tests"):
        assert not {
            name
            for name in imports(path)
            if name.partition(".")[0] == "tests" and name.split(".")[1] in modules
        }, path
