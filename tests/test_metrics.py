import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluate.detectors import Output
from evaluate.features import Features
from evaluate.figures import Conditions, Figure, named
from evaluate.metrics import METRICS, TEXT_METRICS, conditions, measure, measure_texts, parse
from synth.errors import UserError
from tests.kit_evaluate import PIXELS, Means, extracted, stream_of

TERMS = Conditions(600, "test", 600, "d" * 64, "inception", "0" * 64, "none", 7, "one picture a caption")


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Features, Features]:
    return extracted(Means(), stream_of(PIXELS[:600]), cache=tmp_path), extracted(
        Means(), stream_of(PIXELS[600:]), cache=tmp_path
    )


@pytest.mark.parametrize(
    ("metric", "detector", "name"),
    [
        ("fid", "inception", "FID"),
        ("fid", "efficientnet-lite0", "FD (efficientnet-lite0)"),
        ("fid", "inception-clean", "FD (inception-clean)"),
        ("kid", "inception", "KID"),
        ("kid", "nano", "KD (nano)"),
        ("fdinf", "nano", "FD-infinity (nano)"),
        ("is", "inception", "IS"),
        ("precision", "inception", "precision (inception)"),
        ("clip", "ViT-B-32/openai", "CLIP score (ViT-B-32/openai)"),
        ("cmmd", "ViT-L-14-336/openai", "CMMD"),
        ("cmmd", "nano", "MMD (nano)"),
    ],
)
def test_fid_kid_and_is_are_names_of_inception_alone(metric: str, detector: str, name: str) -> None:
    assert named(metric, detector) == name


def test_terms_are_taken_from_what_was_measured(sets: tuple[Features, Features]) -> None:
    shared = conditions(*sets, split="test", seed=7, captions="one picture a caption")
    assert shared == replace(TERMS, reference_digest=sets[1].digest)


def test_every_figure_carries_what_makes_it_comparable(sets: tuple[Features, Features]) -> None:
    figures = measure(*sets, METRICS, TERMS, resamples=10)
    names = [
        "FID",
        "KID",
        "IS",
        "precision (inception)",
        "recall (inception)",
        "density (inception)",
        "coverage (inception)",
    ]
    assert [f.name for f in figures] == [*names, "FID-infinity", "MMD (inception)"]
    for figure in figures:
        row = json.loads(json.dumps(figure.row()))
        assert row["metric"] == figure.name
        assert np.isfinite(row["value"])
        assert {k: row[k] for k in vars(TERMS)} == vars(TERMS)
    assert figures[0].row()["interval"] == list(figures[0].interval or ())
    assert figures[1].row()["subset_size"] == 300
    assert figures[3].row()["k"] == 3


def test_fid_of_few_pictures_brings_a_note_and_company(
    sets: tuple[Features, Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f.name for f in measure(*sets, ["fid"], TERMS)]
    assert names == ["FID", "KID", "FID-infinity"]
    monkeypatch.setattr("evaluate.metrics.FEW", 600)
    [alone] = measure(*sets, ["fid"], TERMS)
    assert not alone.notes


def test_identical_sets_have_no_distance(sets: tuple[Features, Features]) -> None:
    figures = {f.name: f for f in measure(sets[0], sets[0], METRICS, TERMS)}
    assert figures["FID"].value == pytest.approx(0, abs=1e-8)
    assert figures["KID"].value < 0  # test_kernels says by how much
    assert [figures[f"{n} (inception)"].value for n in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert figures["MMD (inception)"].value == pytest.approx(0, abs=1e-9)


class Units(Means):
    """An encoder: unit vectors."""

    name = "units"

    def __call__(self, pixels: np.ndarray) -> Output:
        features = super().__call__(pixels).features - 2
        return Output(features / np.linalg.norm(features, axis=1, keepdims=True), None)


def test_text_metrics_name_encoder_and_formula(tmp_path: Path) -> None:
    images = extracted(Units(), stream_of(PIXELS[:600]), cache=tmp_path)
    clip, rp = measure_texts(images.matrix(), images.matrix(), TEXT_METRICS, replace(TERMS, detector="units"))
    assert (clip.name, clip.value) == ("CLIP score (units)", pytest.approx(100))
    assert clip.row()["formula"] == "100 mean max(cos, 0)"
    assert (rp.name, rp.value, rp.row()["candidates"]) == ("R-precision (units)", 1, 100)
    with pytest.raises(
        UserError, match="IS is defined on the classes of inception; the detector units has none"
    ):
        measure(images, images, ["is"], TERMS)


def test_what_cannot_be_measured_gets_a_sentence(sets: tuple[Features, Features], tmp_path: Path) -> None:
    other = Means()
    other.weights = "1" * 64
    with pytest.raises(UserError, match="of two detectors: weights"):
        measure(sets[0], extracted(other, stream_of(PIXELS), cache=tmp_path), ["fid"], TERMS)
    few = extracted(Means(), stream_of(PIXELS[:4]), cache=tmp_path)
    for metric, words in {
        "is": "IS over 10 splits",
        "pr": "more than 5 pictures",
        "fdinf": "at least 20",
    }.items():
        with pytest.raises(UserError, match=words):
            measure(few, sets[1], [metric], TERMS)


def test_metrics_are_parsed_by_name_once_each() -> None:
    assert parse(" kid,fid,, kid,rprecision") == ["kid", "fid", "rprecision"]
    with pytest.raises(
        UserError,
        match="unknown metric 'fud, rp'; known are fid, kid, is, pr, dc, fdinf, cmmd, clip, rprecision",
    ):
        parse("fud,fid,rp")
    with pytest.raises(UserError, match="unknown metric ','; known are fid"):
        parse(",")


def test_a_row_leaves_out_what_a_figure_has_not() -> None:
    row = Figure("FID", 1.5, TERMS).row()
    assert not {"error", "interval", "notes"} & set(row)
    assert row["n"] == 600
