"""A new family is a module, a data set and a noun: the page "Add a family", in a copy of the checkout."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caption.table import CaptionSet
from tests.kit import ROOT, copy_checkout, run_in, samples, steps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("family") / "checkout")


@pytest.fixture(scope="module")
def printed(checkout: Path) -> dict[str, list[str]]:
    """The printed texts of the page's commands, by the file of their heading."""
    outputs: dict[str, list[str]] = {}
    for step in steps(ROOT / "synth" / "README.md", "Add a family"):
        outputs.setdefault(step.file, []).extend(step.follow(checkout))
    return outputs


def test_it_draws_shards_that_verify(printed: dict[str, list[str]], checkout: Path) -> None:
    sheet, shards, verified = map(json.loads, printed["synth/datasets.py"])
    assert (sheet["pictures"], shards["pictures"], verified["pictures"], verified["redrawn"]) == (
        16,
        64,
        64,
        16,
    )
    assert len(np.unique(np.asarray(Image.open(checkout / sheet["out"])))) > 8
    sample = samples(checkout / "data/shards/moire")[3]
    params = sample.metadata["params"]
    assert (sample.metadata["family"], sample.metadata["class"], params["redraws"]) == ("moire", 3, 0)
    assert np.unique(sample.pixels).tolist() == [0, params["level"]]


def test_its_sentences_stand_in_the_tables(printed: dict[str, list[str]], checkout: Path) -> None:
    [summary] = map(json.loads, printed["caption/sentences/attributes.py"])
    tables = CaptionSet(str(checkout / "data/captions/moire/nano"))
    captions = tables.read(tables.parts[0], ["caption"])["caption"].to_pylist()
    assert summary["pictures"] == len(captions) == 64
    nouns = ("moire pattern", "pattern of crossing rings")
    assert all(any(noun in text for noun in nouns) for texts in captions for text in texts)
    assert len({long for _, long in captions}) > 32


def test_the_tests_of_every_family_take_it_up(printed: dict[str, list[str]]) -> None:
    [report] = printed["tests/test_families.py"]
    assert "2 passed" in report


@pytest.mark.usefixtures("printed")
def test_the_code_of_the_page_keeps_the_rules_of_the_checkout(checkout: Path) -> None:
    run_in(checkout, "python -m ruff check synth/families caption/sentences tests/test_families.py")
