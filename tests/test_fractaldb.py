from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth import datasets
from synth.families import fractaldb
from synth.families.fractaldb import Config
from synth.images.pictures import UnfitError
from synth.kernels import ifs
from synth.pipeline import RenderRequest, make_shards, recipe_of
from synth.seeds import Stream, stream
from synth.sets import completion
from synth.sets.shards import ShardSet
from synth.verify import damages

DATASET = datasets.get("fractaldb")


def params_of(index: int) -> fractaldb.Params:
    return datasets.sample_params(DATASET, Config(), seed=0, index=index)


@pytest.mark.slow
def test_two_candidates_in_a_hundred_are_accepted() -> None:
    draws = Stream(1)
    accepted: Counter[int] = Counter()
    tried: Counter[int] = Counter()
    for _ in range(8000):
        maps = draws.integer(2, 7)
        tried[maps] += 1
        candidate = fractaldb.candidate(np.uint64(draws.key()), maps)
        accepted[maps] += fractaldb.accepts(candidate, draws.key(), 0.2)
    assert accepted.total() / tried.total() == pytest.approx(0.022, abs=0.005)  # three standard deviations
    # A2's acceptance by N, to three standard deviations
    for maps, rate in zip(range(2, 8), (0.041, 0.030, 0.034, 0.016, 0.008, 0.004), strict=True):
        assert abs(accepted[maps] - rate * tried[maps]) <= 3 * (rate * tried[maps]) ** 0.5 + 2


@pytest.mark.slow
def test_numbers_of_maps_are_those_of_the_published_list() -> None:
    published = {2: 231, 3: 294, 4: 218, 5: 146, 6: 77, 7: 34}
    systems = [fractaldb.sample_class(Config(), stream(0, "fractaldb", number)) for number in range(300)]
    counts = Counter(map(len, systems))
    for maps, share in published.items():
        assert abs(counts[maps] - 0.3 * share) <= 3.5 * (0.3 * share) ** 0.5


def test_giving_a_candidate_up_early_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = Stream(2)
    candidates = [
        (fractaldb.candidate(np.uint64(draws.key()), draws.integer(2, 5)), draws.key()) for _ in range(400)
    ]
    early = [fractaldb.accepts(*c, 0.1) for c in candidates]
    monkeypatch.setattr(fractaldb, "_PILOT", 0.0)
    assert [fractaldb.accepts(*c, 0.1) for c in candidates] == early
    assert 10 < sum(early) < 200


def test_a_class_has_25_geometries_and_four_flips() -> None:
    pictures = [params_of(1000 * instance) for instance in range(600)]
    assert len({(p.maps, p.point_key) for p in pictures}) == 25
    assert {p.flip for p in pictures} == {0, 2, 4, 6}
    assert {round(p.factor, 9) for p in pictures} == {0.2, 0.6, 1.0, 1.4, 1.8}
    assert len({p.patch_key for p in pictures}) == 600


def test_a_factor_scales_one_coefficient_of_all_maps_and_no_probability() -> None:
    whole = ifs.array(params_of(0).maps)[:, 6]
    system = ifs.array(fractaldb.sample_class(Config(), stream(0, "fractaldb", 0)))
    for instance in range(40):
        params = params_of(1000 * instance)
        expected = system.copy()
        if params.coefficient != "none":
            expected[:, "abcdef".index(params.coefficient)] *= params.factor
        assert (ifs.array(params.maps) == expected).all() and (expected[:, 6] == whole).all()


def test_flips_mirror_the_picture() -> None:
    params = params_of(1)
    plain = fractaldb.render(replace(params, flip=0), 100).pixels
    assert (fractaldb.render(replace(params, flip=2), 100).pixels == plain[::-1]).all()
    assert (fractaldb.render(replace(params, flip=4), 100).pixels == plain[:, ::-1]).all()


def test_pictures_are_black_with_one_grey_and_reach_the_margin() -> None:
    recipe = recipe_of(RenderRequest("fractaldb", 5, "", size=362))
    for _, picture in map(recipe.render, range(5)):
        assert picture.pixels.shape == (362, 362, 1) and set(np.unique(picture.pixels)) == {0, 127}
        rows, columns = np.nonzero(picture.foreground)
        for ends in ((rows.min(), rows.max()), (columns.min(), columns.max())):
            assert abs(ends[0] - 6) <= 2 and abs(ends[1] - 356) <= 2


def test_later_patches_erase_earlier_ones() -> None:
    cells = np.array([2 * 14 + 2] * 3, np.int32) + np.int32(3 * 14 + 3)
    words = [Stream(9).word() >> 16 * i & 0xFFFF for i in range(3)]
    last = 1 + (words[2] * 511 >> 16)
    pixels = fractaldb.paste(cells, np.uint64(9), 10)
    assert (pixels[4:7, 4:7].ravel() > 0).tolist() == [bool(last >> k & 1) for k in range(9)]
    assert pixels.sum() == 127 * last.bit_count()


def test_points_are_as_many_a_pixel_at_any_size() -> None:
    fills = [fractaldb.render(params_of(0), size).foreground.mean() for size in (128, 362)]
    assert fills[0] == pytest.approx(fills[1], rel=0.25)


def test_redraws_are_counted_in_records_and_summary(tmp_path: Path) -> None:
    request = RenderRequest("fractaldb", 12, str(tmp_path), shard_size=8, workers=0)
    summary = completion.finish(make_shards(request))
    recipe = recipe_of(request)
    drawn = [recipe.render(index)[0].redraws for index in range(12)]
    shard_set = ShardSet(str(tmp_path))
    counts = [part["content"]["redraws"] for part in shard_set.manifest["parts"]]
    assert counts == [sum(drawn[:8]), sum(drawn[8:])]
    assert summary.redraws == summary.row()["redraws"] == sum(drawn) > 0
    assert not any(sentence for _, sentence in damages(shard_set, 12))


def test_diverging_points_are_unfit() -> None:
    with pytest.raises(UnfitError, match="diverge"):
        fractaldb.render(replace(params_of(0), maps=((9.0, 0, 0, 9.0, 1, 1, 1.0),)), 64)


@pytest.mark.parametrize(
    "settings",
    [
        *({"maps": (0, 3)}, {"fill": 0.9}, {"points": 0}, {"points": 10**9}, {"margin": 181.0}),
        {"classes": 0},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Config(**settings)
