import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caption.sentences import colour_words
from caption.sentences.scene_facts import LEAST_SIDE, scene_facts
from synth import datasets, settings
from synth.errors import UserError
from synth.families import draw, scene_drawing, scene_world, scenes
from synth.families.scene_edits import Change, edited
from synth.families.scene_world import DIRECTIONS, KINDS, OPPOSITES, PALETTE, Pair
from synth.families.scenes import Config, Params, SceneObject
from synth.kernels import clouds, fillings, glyphs, shapes
from synth.recipe import Recipe
from synth.seeds import stream
from synth.sets.shards import ShardSet, ShardWriter, read_members
from synth.verify import damages
from tests.kit import ROOT, make_small

# Hashes of pictures 0, 1001 and 123456 at 64 pixels. Raise LAW with these.
GOLDEN = {
    "scenes": ["64d143ed114352af", "0f0f751e158a2f8e", "0a2906d8232e53ab"],
    "scenes_flat": ["48657daed7695c66", "79031e43cb10ef9d", "e1191082db87bd23"],
}


def config(name: str, *changes: str) -> Any:
    dataset = datasets.get(name)
    return settings.with_settings(dataset.module.Config(**dataset.config), changes)


def params(name: str, index: int, *changes: str) -> Params:
    result = datasets.sample_params(datasets.get(name), config(name, *changes), seed=0, index=index)
    assert isinstance(result, Params)
    return result


def one(kind: str, **changes: Any) -> SceneObject:
    thing = params("scenes_flat", 0).objects[0]
    detail = {"star": 5, "wave": 32 * 4 + 7}.get(kind, 0)
    return replace(thing, kind=kind, detail=detail, centre=(0.5, 0.5), radius=0.3, turn=0.0, **changes)


@pytest.mark.parametrize("name", GOLDEN)
def test_pixels_are_the_golden_ones(name: str) -> None:
    pictures = [pixels for pixels, _ in draw(name, None, 0, [0, 1001, 123456], size=64)]
    assert [hashlib.sha256(pixels.tobytes()).hexdigest()[:16] for pixels in pictures] == GOLDEN[name]


@pytest.mark.soak
def test_pixels_are_the_same_on_the_plainest_x86_64(tmp_path: Path) -> None:
    script = "import hashlib; from synth.families import draw\n"
    script += "for name in ('scenes', 'scenes_flat'):\n"
    script += " for pixels, _ in draw(name, None, 0, [0, 1001, 123456], size=64):"
    script += "\n  print(hashlib.sha256(pixels.tobytes()).hexdigest()[:16])"
    plainest = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "NPY_DISABLE_CPU_FEATURES": "AVX2"}
    environment = {**os.environ, **plainest, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split() == [*GOLDEN["scenes"], *GOLDEN["scenes_flat"]]


def test_masks_are_the_objects_drawn_alone_and_put_in_depth_order() -> None:
    for index in range(0, 300, 3):
        scene, size = params("scenes", index), 48
        picture = scenes.render(scene, size)
        expected = np.zeros((size, size), np.uint8)
        assert picture.mask is not None and picture.objects is not None
        for number, thing in enumerate(scene.objects, 1):
            alone = scenes.render(replace(scene, objects=(thing,), main=0), size).mask
            assert alone is not None
            expected[alone == 1] = number
            assert picture.objects[number - 1]["area"] == (alone == 1).sum()
        assert (picture.mask == expected).all() and (picture.foreground == (expected > 0)).all()

        # Measurements are those of the masks.
        for number, entry in enumerate(picture.objects, 1):
            assert round(entry["visible"] * entry["area"]) == (expected == number).sum()


def test_pixels_of_a_mask_have_the_colour_word_of_their_object() -> None:
    words, palette = list(PALETTE), np.array(list(PALETTE.values()), float)
    for pixels, sample in draw(
        "scenes", config("scenes", "fillings=flat,gradient,texture"), 0, range(154), size=64
    ):
        scene, picture = sample["params"], pixels.astype(float)
        mask = scenes.render(settings.from_json(Params, scene), 64).mask
        assert mask is not None
        nearest = ((picture[:, :, None] - palette) ** 2).sum(-1).argmin(-1)
        for number, thing in enumerate([{"colour": scene["backdrop"]}, *scene["objects"]]):
            if (mask == number).sum() >= 40:
                most = np.bincount(nearest[mask == number], minlength=len(words)).argmax()
                assert words[most] == thing["colour"], (sample["index"], number)


def test_palette_words_are_the_basic_colour_terms_for_every_shade() -> None:
    assert set(PALETTE) == set(colour_words.COLOURS)
    for word, levels in PALETTE.items():
        for step in (-6, 0, 6):
            assert colour_words.colour_word([level + step for level in levels]) == word


def test_objects_of_directed_scenes_lie_in_clear_directions() -> None:
    for index in range(40):
        objects = params("scenes_flat", index, "directed=true", "objects=2,3").objects
        assert len(objects) >= 2
        for a, b in itertools.combinations(objects, 2):
            assert scene_world.direction(a.centre, b.centre)
    with pytest.raises(UserError, match=r"not every two in a clear direction; .* or directed=false"):
        [params("scenes_flat", index, "directed=true", "objects=6,6", "overlap=true") for index in range(9)]


def test_sets_from_before_a_setting_stay_what_they_are() -> None:
    usual = config("scenes")
    older = json.loads(settings.canonical(usual))
    assert "directed" not in older and settings.from_json(Config, older) == usual
    directed = json.loads(settings.canonical(config("scenes", "directed=true")))
    assert {**older, "directed": True} == directed and settings.from_json(Config, directed).directed
    with pytest.raises(ValueError, match="Config has the fields"):
        settings.from_json(Config, {name: value for name, value in older.items() if name != "turn"})


@pytest.mark.slow
def test_training_pictures_never_show_a_held_out_combination() -> None:
    for name in ("scenes", "scenes_flat"):
        held, shown = scene_world.held_out(0), Counter[Pair]()
        narrowed = config(name, "split=train")
        for index in range(4000):
            scene = datasets.sample_params(datasets.get(name), narrowed, seed=0, index=index)
            shown.update(scene_world.combinations(scene.objects))
        assert not held & set(shown)

        # All other pairs of these kinds are there.
        pairs = {Pair(kind, colour) for kind in narrowed.kinds for colour in PALETTE}
        assert pairs - held == {pair for pair in shown if not pair.relation}


def test_held_out_pictures_show_their_class() -> None:
    for name in ("scenes", "scenes_flat"):
        narrowed = config(name, "split=held_out")
        for index in range(2 * narrowed.classes):
            scene = datasets.sample_params(datasets.get(name), narrowed, seed=0, index=index)
            main = scenes.main_combinations(narrowed)[index % narrowed.classes]
            assert main in scene_world.held_out(0) & set(scene_world.combinations(scene.objects))


def test_each_kind_loses_one_colour_and_one_direction() -> None:
    for seed in range(5):
        held = scene_world.held_out(seed)
        assert Counter(pair.kind for pair in held if not pair.relation) == Counter(KINDS)
        assert Counter(pair.kind for pair in held if pair.relation) == Counter(KINDS)
        assert max(Counter(pair.colour for pair in held if not pair.relation).values()) <= 2
    assert scene_world.held_out(0) != scene_world.held_out(1)


@pytest.mark.slow
def test_relations_hold_against_masks() -> None:
    counts = Counter[str]()
    for _, sample in itertools.islice(draw("scenes", None, 1, itertools.count(), size=64), 1500):
        facts = [fact for fact in scene_facts(sample) if fact.type == "relation"]
        if not facts:
            continue
        scene = settings.from_json(Params, sample["params"])
        alone = [scenes.render(replace(scene, objects=(o,), main=0), 64).mask for o in scene.objects]
        shapes_alone = [mask == 1 for mask in alone if mask is not None]
        middles = [np.argwhere(mask).mean(axis=0) for mask in shapes_alone]
        for fact in facts:
            counts[fact.relation] += 1
            down, across = (middles[fact.subject] - middles[fact.object]).tolist()
            first, second = shapes_alone[fact.subject], shapes_alone[fact.object]
            if fact.relation in DIRECTIONS:
                ways = {"left of": -across, "right of": across, "above": -down, "below": down}
                assert ways[fact.relation] > 6 and ways[fact.relation] == max(ways.values())
            elif fact.relation in ("in front of", "behind"):
                front = fact.relation == "in front of"
                assert (fact.subject > fact.object) == front and (first & second).any()
            elif fact.relation == "inside":
                rows, columns = np.nonzero(second)
                y, x = np.nonzero(first)
                assert rows.min() <= y.min() <= y.max() <= rows.max()
                assert columns.min() <= x.min() <= x.max() <= columns.max()
            elif fact.relation in ("larger than", "smaller than"):
                sides = [sample["objects"][n]["box"] for n in (fact.subject, fact.object)]
                spans = [max(box[2] - box[0], box[3] - box[1]) for box in sides]
                assert spans[0] != spans[1] and (spans[0] > spans[1]) == (fact.relation == "larger than")
    assert min(counts[relation] for relation in (*DIRECTIONS, *OPPOSITES, "inside", "same colour as")) > 30


def test_an_edit_changes_its_fact_alone() -> None:
    changes = [
        Change("colour", "white"),
        Change("kind", "ring"),
        Change("size", "large"),
        Change("backdrop", "white"),
        Change("filling", "gradient"),
    ]
    tried = Counter[str]()
    for index, change in itertools.product(range(40), changes):
        scene = params("scenes", index)
        try:
            after = edited(scene, change)
        except ValueError:
            continue
        tried[change.fact] += 1
        names = ("colour", "kind", "size", "filling")
        for number, (old, new) in enumerate(zip(scene.objects, after.objects, strict=True)):
            for name in names:
                if number == 0 and change.fact == name:
                    assert getattr(new, name) == change.value
                elif (name, change.fact) != ("filling", "kind"):
                    assert getattr(new, name) == getattr(old, name)
            assert new.centre == old.centre
        assert (after.backdrop == scene.backdrop) or change.fact == "backdrop"
        assert scenes.render(after, 32).pixels.shape == (32, 32, 3)
    assert min(tried.values()) >= 20 and len(tried) == len(changes)


def test_a_direction_is_edited_by_a_swap() -> None:
    tried = 0
    for index in range(60):
        scene = params("scenes_flat", index)
        if len(scene.objects) < 2:
            continue
        now = scene_world.direction(scene.objects[0].centre, scene.objects[1].centre)
        if now:
            tried += 1
            after = edited(scene, Change("direction", OPPOSITES[now], 0, 1))
            assert scene_world.direction(after.objects[0].centre, after.objects[1].centre) == OPPOSITES[now]
    assert tried > 10


FAULTS = ("the frame would cut", "would come too near to")  # of edits that the law of scenes refuses


@pytest.mark.parametrize("name", ["scenes", "scenes_flat"])
def test_an_edit_by_the_law_gives_a_scene_of_the_law(name: str) -> None:
    """Objects stay in the frame, keep their distances, and differ in colour from what they touch."""
    dataset = datasets.get(name)
    world = Config(**dataset.config)
    edits, refused = Counter[str](), Counter[str]()
    for index in range(60):
        scene = params(name, index)
        changes = [
            *(Change("size", size) for size in world.sizes),
            *(Change("kind", kind) for kind in world.kinds[:6]),
            *(Change("direction", way, 0, len(scene.objects) - 1) for way in DIRECTIONS),
            Change("backdrop", world.colours[index % 7]),
        ]
        for change in changes:
            try:
                after = edited(scene, change, world)
            except ValueError as error:
                refused.update(fault for fault in FAULTS if fault in str(error))
                continue
            edits[change.fact] += 1
            for number, thing in enumerate(after.objects):
                if thing == scene.objects[number]:
                    continue
                others = [*after.objects[:number], *after.objects[number + 1 :]]
                columns, rows = scenes.frame(thing.kind, thing.detail, thing.text, thing.radius)
                assert columns[0] - 1e-9 <= thing.centre[0] <= columns[1] + 1e-9, change
                assert rows[0] - 1e-9 <= thing.centre[1] <= rows[1] + 1e-9, change
                for other in others:
                    inside = scene_world.fits(thing, other) or scene_world.fits(other, thing)
                    assert inside or scenes.apart(world, thing.centre, thing.radius, other), change
                touched = [o.colour for o in others if scenes.near(thing.centre, thing.radius, o)]
                assert thing.colour not in (after.backdrop, thing.second, *touched), change
    assert min(edits[fact] for fact in ("size", "kind", "direction", "backdrop")) >= 5, edits
    assert all(refused[fault] for fault in FAULTS), refused


def first_scene(fits: Callable[[Params], bool], *changes: str) -> tuple[Params, Config]:
    """The first flat scene of these settings that fits, and its config."""
    drawn = (params("scenes_flat", index, *changes) for index in range(200))
    return next(scene for scene in drawn if fits(scene)), config("scenes_flat", *changes)


def test_an_edit_keeps_the_words_and_the_number_of_objects_of_its_world() -> None:
    scene, world = first_scene(lambda s: s.main < 2, "objects=3,3", "colours=red,blue,green")
    with pytest.raises(ValueError, match="filling cannot be gradient in this world, which has flat"):
        edited(scene, Change("filling", "gradient"), world)
    with pytest.raises(ValueError, match="backdrop cannot be white in this world"):
        edited(scene, Change("backdrop", "white"), world)
    with pytest.raises(ValueError, match="2 objects are fewer than the 3 of this world"):
        edited(scene, Change("count", 2), world)


def test_an_edit_leaves_no_split() -> None:
    lost = {pair.kind: pair.colour for pair in scene_world.held_out(0) if not pair.relation}
    scene, train = first_scene(lambda s: s.backdrop != lost[s.objects[0].kind], "split=train", "objects=1,1")
    change = Change("colour", lost[scene.objects[0].kind])
    with pytest.raises(ValueError, match="would not be of the split train"):
        edited(scene, change, train)
    shown, back = edited(scene, change, config("scenes_flat")), Change("colour", scene.objects[0].colour)
    with pytest.raises(ValueError, match="would not be of the split held_out"):
        edited(shown, back, config("scenes_flat", "split=held_out"))


def test_the_colour_of_a_text_is_edited_in_a_world_of_letters() -> None:
    scene, world = first_scene(lambda s: s.objects[0].kind == "text", "letters=true", "objects=1,1")
    colour = next(c for c in world.colours if c not in (scene.backdrop, scene.objects[0].colour))
    assert edited(scene, Change("colour", colour), world).objects[0].colour == colour


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param(Change("colour", "blue", 9), "has no object 9", id="object"),
        pytest.param(Change("kind", "cube"), "kind cannot be cube", id="kind"),
        pytest.param(Change("count", 7), "cannot stay", id="count"),
        pytest.param(Change("mood", "glad"), "fact mood cannot change", id="fact"),
        pytest.param(Change("size", "huge"), "size cannot be huge; it may be small", id="size"),
        pytest.param(Change("colour", "mauve"), "colour cannot be mauve", id="colour"),
        pytest.param(Change("backdrop", "mauve"), "backdrop cannot be mauve", id="backdrop"),
        pytest.param(Change("filling", "plaid"), "filling cannot be plaid", id="filling"),
        pytest.param(Change("direction", "left of", 0, 0), "no clear direction", id="direction"),
    ],
)
def test_impossible_edits_are_refused(change: Change, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        edited(params("scenes", 1), change)


def test_settings_narrow_a_scene() -> None:
    narrow = ("objects=2,2", "kinds=disc,star", "fillings=flat", "overlap=false", "sizes=small")
    for index in range(22):
        scene = params("scenes", index, *narrow)
        assert len(scene.objects) == 2
        assert {o.kind for o in scene.objects} <= {"disc", "star"} and {o.filling for o in scene.objects} == {
            "flat"
        }
        picture = scenes.render(scene, 64)
        assert picture.objects is not None and all(o["visible"] == 1 for o in picture.objects)


def test_letters_are_one_object_of_their_own() -> None:
    for index in range(40):
        texts = [
            o for o in params("scenes", index, "letters=true", "objects=2,4").objects if o.kind == "text"
        ]
        assert len(texts) <= 1
        for thing in texts:
            assert 1 <= len(thing.text) <= 4 and set(thing.text) <= set(glyphs.LETTERS)
    assert sum(o.kind == "text" for i in range(40) for o in params("scenes", i, "letters=true").objects) >= 25


REFUSED = [
    ("kinds=cube", "kinds is cube"),
    ("kinds=disc,disc", "each once"),
    ("objects=0,3", "a scene has 1 to 6"),
    ("objects=3,7", "a scene has 1 to 6"),
    ("colours=red,blue", "three or more"),
    ("shade=40", "it must lie in 0..6"),
    ("split=test", "it must be all, train, held_out"),
    ("classes=0", "it must lie in 1..1,000,000,000"),
    ("turn=0,2", "it must lie in -1..1"),
]


@pytest.mark.parametrize(("setting", "fault"), REFUSED)
def test_impossible_worlds_are_refused(setting: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        config("scenes", setting)


def test_a_world_without_room_is_refused_in_one_sentence() -> None:
    crowded = ("objects=6,6", "sizes=large", "overlap=false")
    with pytest.raises(UserError, match="hold too few objects"):
        params("scenes", 0, *crowded)


def test_samples_carry_their_masks_and_measurements() -> None:
    recipe = Recipe(datasets.get("scenes"), config("scenes"), 64, 0, 16, "png")
    files = recipe.encode(5).files
    assert set(files) == {"png", "json", "mask.png"}
    [(_, sample)] = draw("scenes", None, 0, [5], size=64)
    assert len(sample["objects"]) == len(sample["params"]["objects"])
    assert all(set(entry) == {"box", "area", "visible", "hidden_by"} for entry in sample["objects"])


def test_a_changed_mask_is_named(tmp_path: Path) -> None:
    make_small(tmp_path, dataset="scenes", settings=(), samples=4, shard_size=4, size=24)
    [tar] = tmp_path.glob("*.tar")
    shard_set = ShardSet(str(tmp_path))
    with tar.open("rb") as file:
        members = dict(read_members(file, str(tar)))
    members["000000002"]["mask.png"] = members["000000001"]["mask.png"]
    with ShardWriter(str(tar)) as writer:
        for key, files in members.items():
            writer.add(key, files)
    [(_, damage)] = damages(shard_set, 0)
    assert damage is not None and damage.endswith(
        "member 000000002.mask.png was changed; remove it and run the command that made the set again"
    )


def test_objects_fill_words_evenly() -> None:
    narrowed, count = config("scenes"), 3000
    drawn = [
        datasets.sample_params(datasets.get("scenes"), narrowed, seed=3, index=i).objects
        for i in range(count)
    ]
    objects = [thing for scene in drawn for thing in scene]
    for words, seen in (
        (KINDS, Counter(o.kind for o in objects)),
        (tuple(PALETTE), Counter(o.colour for o in objects)),
    ):
        expected = len(objects) / len(words)
        assert set(seen) == set(words) and all(abs(n - expected) < 0.15 * expected for n in seen.values())
    counts = Counter(len(scene) for scene in drawn)
    assert set(counts) == set(range(1, 7)) and min(counts.values()) > count / 6 * 0.7


def test_small_objects_are_not_named_in_small_pictures() -> None:
    for _, sample in draw("scenes", None, 0, range(200), size=24):
        for fact in scene_facts(sample):
            for number in {fact.subject, fact.object} - {-1}:
                left, top, right, bottom = sample["objects"][number]["box"]
                assert max(right - left, bottom - top) >= LEAST_SIDE
                assert sample["objects"][number]["visible"] >= 0.5


def test_stated_fillings_and_depths_are_seen() -> None:
    """Renders with the fact and without it differ in ten pixels or more by a just noticeable difference."""
    counts = Counter[str]()
    for pixels, sample in draw("scenes", None, 3, range(150), size=64):
        scene = settings.from_json(Params, sample["params"])
        for fact in scene_facts(sample):
            objects = list(scene.objects)
            if fact.type == "filling":
                objects[fact.subject] = replace(objects[fact.subject], filling="flat", second="")
            elif fact.relation == "in front of":
                one, other = objects[fact.subject], objects[fact.object]
                objects[fact.subject], objects[fact.object] = other, one
            elif fact.type != "texture":
                continue
            behind = "flat" if fact.type == "texture" else scene.backdrop_filling
            changed = replace(scene, objects=tuple(objects), backdrop_filling=behind)
            apart = lab(scenes.render(changed, 64).pixels) - lab(pixels)
            assert (np.sqrt((apart**2).sum(-1)) >= 2.3).sum() >= 10, fact
            counts[fact.type] += 1
    assert counts["filling"] > 100 and counts["texture"] > 50 and counts["relation"] > 10


def lab(pixels: np.ndarray) -> np.ndarray:
    """Returns sRGB levels (S, S, 3) in CIE L*a*b* of white D65. A distance of 2.3 is just noticeable."""
    levels = pixels / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    primaries = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(primaries).T / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


# Kernels and their plain twins.


@pytest.mark.parametrize("kind", [*(k for k in KINDS if k != "fractal"), "text"])
def test_coverage_is_that_of_dense_samples(kind: str) -> None:
    size, detail = 24, {"star": 6, "wave": 32 * 5 + 8}.get(kind, 0)
    shape = shapes.placed(
        shapes.edges(kind, detail, "R2" if kind == "text" else ""), (0.47, 0.52), 0.37, 0.03
    )
    units = np.zeros((size, size), np.int32)
    left, top, right, bottom = shapes.cover(shape, units)

    # 32 x 32 points a pixel, inside by the even-odd rule, within the box.
    places = (np.arange(32 * size) + 0.5) / (32 * size)
    inside = np.zeros((32 * size, 32 * size), bool)
    for x0, y0, x1, y1 in shape.tolist():
        if y0 != y1:
            crossed = (y0 <= places) != (y1 <= places)
            x = x0 + (places - y0) / (y1 - y0) * (x1 - x0)
            inside ^= crossed[:, None] & (places[None, :] > x[:, None])
    shares = inside.reshape(size, 32, size, 32).mean(axis=(1, 3))
    assert np.abs(units / shapes.FULL - shares).max() < 0.2
    assert abs(units.sum() / shapes.FULL - shares.sum()) < 0.01 * shares.sum()
    outside = units.copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any() and units.max() <= shapes.FULL


def test_shapes_are_centred_and_two_wide() -> None:
    for kind in KINDS:
        if kind != "fractal":
            detail = {"star": 5, "wave": 32 * 4 + 7}.get(kind, 0)
            left, top, right, bottom = shapes.box(kind, detail)
            assert max(right - left, bottom - top) == pytest.approx(2)
            units = np.zeros((96, 96), np.int32)
            shapes.cover(shapes.placed(shapes.edges(kind, detail), (0.5, 0.5), 0.25, 0.0), units)
            rows, columns = np.mgrid[:96, :96]
            middle = [(units * axis).sum() / units.sum() + 0.5 for axis in (rows, columns)]
            assert middle == pytest.approx([48, 48], abs=0.3), kind


def test_cells_are_covered_as_by_their_twin() -> None:
    cells, size = np.random.default_rng(0).random((16, 16)) < 0.5, 20
    units = np.zeros((size, size), np.int32)
    shapes.cover_cells(cells, 0.45, 0.55, 0.3, 0.07, units)
    cosine, sinus = math.cos(0.14 * math.pi) * 8 / 0.3, math.sin(0.14 * math.pi) * 8 / 0.3
    for row, column in itertools.product(range(size), repeat=2):
        lit = 0
        for i, j in itertools.product(range(4), repeat=2):
            x, y = (column + (j + 0.5) / 4) / size - 0.45, (row + (i + 0.5) / 4) / size - 0.55
            u, v = math.floor(cosine * x + sinus * y + 8), math.floor(cosine * y - sinus * x + 8)
            lit += 0 <= u < 16 and 0 <= v < 16 and bool(cells[v, u])
        assert units[row, column] == 16 * lit


def paint_twin(
    point: tuple[float, float], scale: float, filling: str, law: list[float], cloud: Any
) -> tuple[int, float]:
    """Returns share of the second colour, of 256, and tone."""
    across, down = point
    if filling == "gradient":
        t = 0.5 + 0.35 * (across * law[0] + down * law[1])
    elif filling == "texture":
        last = len(cloud) - 1
        y, x = (min(max(0.5 + 0.45 * p, 0.0), 0.9999) * last for p in (down, across))
        corners = [cloud[int(y) + i, int(x) + j] / 65536 for i in (0, 1) for j in (0, 1)]
        u, v = x % 1, y % 1
        height = (1 - v) * ((1 - u) * corners[0] + u * corners[1]) + v * (
            (1 - u) * corners[2] + u * corners[3]
        )
        t = 0.5 + 1.6 * (height - 0.5)
    else:
        share = 0
        for i, j in itertools.product((-0.25, 0.25), repeat=2):
            p, q = across + i * scale, down + j * scale
            along = ((p * law[0] + q * law[1]) * law[2] + law[3]) % 1
            over = ((q * law[0] - p * law[1]) * law[2] + law[3]) % 1
            share += (
                64
                if (
                    along < 0.36 if filling == "stripes" else math.hypot(along - 0.5, over - 0.5) ** 2 < 0.105
                )
                else 0
            )
        return (share if filling != "flat" else 0), 0.0
    return 0, -0.14 + 0.24 * min(1.0, max(0.0, t))


@pytest.mark.parametrize("filling", fillings.FILLINGS)
def test_objects_are_painted_as_by_their_twin(filling: str) -> None:
    size, rng = 20, np.random.default_rng(1)
    canvas = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
    units = rng.integers(0, 257, (size, size)).astype(np.int32) * (rng.random((size, size)) < 0.7)
    mask, before = rng.integers(0, 3, (size, size)).astype(np.uint8), canvas.copy()
    old_units, old_mask = units.copy(), mask.copy()
    law, cloud = fillings.direction(0.1, 2.5, 0.3), clouds.heights(np.uint64(5), 16, 0.4)
    colours, place = np.array([[200, 40, 90], [20, 220, 130]], np.uint8), (0.5, 0.45, 0.4)
    area = (0, 0, size, size)
    seen = fillings.paint(
        canvas,
        mask,
        units.astype(np.int32),
        area,
        3,
        place,
        colours,
        fillings.FILLINGS.index(filling),
        1.0,
        law,
        cloud,
    )
    for row, column in itertools.product(range(size), repeat=2):
        alpha = int(old_units[row, column])
        point = ((column + 0.5) / size - 0.5) / 0.4, ((row + 0.5) / size - 0.45) / 0.4
        share, tone = paint_twin(point, 1 / (size * 0.4), filling, law.tolist(), cloud)
        for c in range(3):
            level = (int(colours[0, c]) * (256 - share) + int(colours[1, c]) * share + 128) // 256
            level = math.floor(level + tone * (255 - level if tone > 0 else level) + 0.5)
            mixed = (int(before[row, column, c]) * (256 - alpha) + level * alpha + 128) // 256
            assert abs(int(canvas[row, column, c]) - mixed) <= 1
        assert mask[row, column] == (3 if alpha >= 128 else old_mask[row, column])
    assert seen[4] == (old_units >= 128).sum()
    assert [seen[5 + n] for n in range(3)] == [((old_units >= 128) & (old_mask == n)).sum() for n in range(3)]


def test_a_key_is_one_fractal_for_ever() -> None:
    hashes = [
        hashlib.sha256(scene_drawing.fractal_cells(number).tobytes()).hexdigest()[:12]
        for number in (0, 7, 255)
    ]
    assert hashes == ["9649154d9358", "6c2db1684be9", "118af635e266"]


def test_the_stream_of_a_scene_is_its_own() -> None:
    assert stream(0, "scenes", 1).key() != stream(0, "scenes_flat", 1).key()
    assert params("scenes", 3) == params("scenes", 3) != params("scenes_flat", 3)
    assert Config().classes == len(KINDS) * len(PALETTE)
