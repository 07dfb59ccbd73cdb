import re
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import pytest

from synth import datasets
from synth.errors import UserError
from synth.families import (
    Family,
    Vetted,
    draw,
    fractal_scenes,
    fractaldb,
    fractals,
    imported_shaders,
    noise,
    scenes,
    shaders,
    visual_atoms,
)
from synth.images.codecs import rgb
from synth.recipe import redraw
from synth.sets.shards import ShardSet
from synth.settings import with_settings
from tests.kit import make_small

# The type checker holds these modules against the contract.
FRACTALS: list[Family] = [fractals, fractal_scenes, fractaldb]
FAMILIES: list[Family] = [*FRACTALS, visual_atoms, shaders, imported_shaders, noise, scenes]
VETTED: list[Vetted] = [shaders, imported_shaders]


def test_every_data_set_is_of_a_family_that_keeps_the_contract() -> None:
    assert {id(d.module) for d in datasets.DATASETS.values()} == set(map(id, FAMILIES))
    assert {id(f) for f in FAMILIES if hasattr(f, "ready")} == set(map(id, VETTED))
    for family in FAMILIES:
        assert {"classes"} <= set(family.Config.__dataclass_fields__) and hasattr(family.Config, "channels")
        assert "redraws" in family.Params.__dataclass_fields__ or family is visual_atoms


# The programs of shaders21k cannot be shipped.
@pytest.mark.parametrize("name", [name for name in datasets.DATASETS if name != "shaders21k"])
def test_pictures_drawn_alone_are_those_of_shards(tmp_path: Path, name: str) -> None:
    make_small(tmp_path, dataset=name, settings=("classes=3",), samples=8, shard_size=5, seed=4)
    shard_set = ShardSet(str(tmp_path))
    config = with_settings(datasets.get(name).module.Config(**datasets.get(name).config), ["classes=3"])
    drawn = list(draw(name, config, 4, range(8), size=32))
    stored = [sample for shard in shard_set.shards for sample in shard_set.read(shard)]
    assert len(drawn) == len(stored) == 8
    for (pixels, sample), at_rest in zip(drawn, stored, strict=True):
        assert (rgb(pixels) == at_rest.pixels).all() and pixels.shape[:2] == (32, 32)
        assert sample == {k: v for k, v in at_rest.metadata.items() if k != "crc32"}
        assert (redraw(sample) == pixels).all()


def test_indices_may_come_in_any_order_and_without_end() -> None:
    [(first, sample)] = draw("visual_atoms", None, 0, [10**8], size=16)
    backwards = [pixels.tobytes() for pixels, _ in draw("visual_atoms", None, 0, [10**8, 3], size=16)]
    assert sample["index"] == 10**8 and backwards[0] == first.tobytes() != backwards[1]
    assert len(list(islice(draw("visual_atoms", None, 0, count(), size=16), 3))) == 3


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UserError, match="unknown data set 'atoms'"):
        next(draw("atoms", None, 0, [0]))
    with pytest.raises(UserError, match="shaders21k cannot be shipped"):
        next(draw("shaders21k", None, 0, [0]))


def test_drawing_needs_neither_ray_nor_object_stores_nor_opengl() -> None:
    heavy = "print([m for m in ('ray', 'fsspec', 'moderngl', 'torch') if m in sys.modules])"
    script = f"import sys\nfrom synth.families import draw\n{heavy}\n"
    script += "names = ('visual_atoms', 'fractals', 'fractals_multi', 'fractaldb')\n"
    script += f"for name in names: next(draw(name, None, 0, [0], size=32))\n{heavy}\n"
    command, root = [sys.executable, "-c", script], Path(__file__).parent.parent
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert run.stdout == "[]\n[]\n"


def test_the_loops_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parent.parent / "synth" / "README.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    [script] = [block for block in blocks if "synth.families" in block]
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in printed[:4]] == [["(64,", "64,", "1)"]] * 4
    assert printed[4].startswith("Estimate(")
    assert printed[-1].startswith("RenderSummary(total=64, pictures=64,")
    assert len(ShardSet("shards")) == 64
