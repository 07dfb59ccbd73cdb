import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIPELINE = ["synth", "data", "caption", "train", "evaluate", "demo"]  # a package imports only itself and what stands before it
DOORS = {
    "synth": {
        "shards",
        "storage",
        "parallel",
        "ledger",
        "completion",
        "config",
        "console",
        "errors",
        "codecs",
        "pictures",
        "croissant",
        "stopwatch",
    },
    "caption": {"table", "encoders", "pseudo", "attributes"},
    "train": {"checkpoint"},
}
PRESENT = [name for name in PIPELINE if (ROOT / name).is_dir()]


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


@pytest.mark.parametrize("package", PRESENT)
def test_packages_import_only_to_the_left_and_through_doors(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for name in imports(path):
            top, _, rest = name.partition(".")
            assert top not in PIPELINE[PIPELINE.index(package) + 1 :], f"{path} imports {name}"
            if top in DOORS and top != package:
                assert rest.split(".")[0] in DOORS[top], f"{path} imports {name}, which is no door"


def test_synth_knows_neither_torch_nor_webdataset() -> None:
    for path in (ROOT / "synth").rglob("*.py"):
        assert not {"torch", "webdataset"} & {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("package", PRESENT)
def test_doors_say_so(package: str) -> None:
    for path in (ROOT / package).glob("*.py"):
        assert path.read_text().startswith('"""DOOR.') == (path.stem in DOORS.get(package, set())), path
