"""One file with the code that a function needs, from several modules."""

import ast
import builtins
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synth.errors import UserError
from tests.kit import write
from train import bundle, handover, model
from train.bundle import Name

MODULES = {
    "a": "import math\nfrom functools import cache\nfrom train.models import b\n"
    "from train.models.c import other\n\n# The sum of é and both.\n@cache\ndef total(x: float) -> float:\n"
    "    return b.half(math.pi) + other(b.half(x))  # é\n\n\ndef unused() -> None:\n    missing()\n",
    "b": '"""Halves."""\n_TWO = 2\n_THREE = 3\n\n\ndef half(x: float) -> float:\n    return x / _TWO\n',
    "c": "from train.models.b import half\n\ndef other(x: float) -> float:\n    return -half(x)\n",
    "clash": "from train.models.b import half\n_TWO = 1\ndef f(): return half(_TWO)\n",
    "foreign": "import pandas as pd\ndef f(): return pd\n",
    "hidden": "def f():\n    from train.models import b\n",
    "hiding": "from train.models import b\ndef f(b): return b.half\n",
    "local": "from train.models import b\ndef f(half): return b.half(half)\n",
    "renaming": "from train.models.b import half as cut\ndef f(): return cut\n",
    "acting": "def f(): return TABLE\nTABLE = {}\nTABLE.update(a=1)\n",
    "absent": "from train.models.b import third\ndef f(): return third\n",
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in MODULES.items():
        write(tmp_path / f"train/models/{name}.py", source)
    monkeypatch.setattr(bundle, "ROOT", tmp_path)


@pytest.mark.usefixtures("modules")
def test_a_bundle_holds_what_is_reached_once_and_its_comments() -> None:
    code = bundle.bundle([Name("train.models.a", "total")])
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["total"](3.0) == math.pi / 2 - 0.75
    assert "# The sum of é and both.\n@cache" in code and "# Halves." in code and code.count("def half") == 1
    assert not {"unused", "_THREE"} & names.keys() and "missing" not in code and "train." not in code


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("clash", "_TWO means two things, of train.models.b and of train.models.clash; rename one"),
        ("foreign", "'import pandas as pd' is none of the packages torch, safetensors, numpy; do without it"),
        ("hidden", "train.models.hidden imports inside f; import at its top"),
        ("local", "train.models.local has a variable half, which hides an import; rename it"),
        ("hiding", "train.models.hiding has a variable b, which hides its import; rename one"),
        (
            "renaming",
            "train.models.renaming imports train.models.b.half as cut; import it under its own name",
        ),
        ("acting", "train.models.acting has a statement in line 3 that defines nothing"),
        ("absent", "train.models.b defines no third"),
    ],
)
def test_code_that_does_not_stand_alone_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        bundle.bundle([Name(f"train.models.{name}", "f")])
    assert str(error.value) == sentence


@pytest.mark.parametrize("name", [name for name in model.names() if hasattr(model.find(name), "draw")])
def test_every_model_that_draws_stands_alone(name: str) -> None:
    """Its code needs no other name than its own, Python's and those of three packages."""
    tree = ast.parse(handover.source_of(name))
    defined = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    defined |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    defined |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    defined |= {a.asname or a.name.split(".")[0] for n in imports(tree) for a in n.names}
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    assert read - defined - set(dir(builtins)) == {"__file__"}


def imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


@pytest.mark.usefixtures("modules")
def test_a_model_with_such_code_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"train/models/foreign.py cannot be handed over as one file: .* no "):
        handover.source_of("foreign")
