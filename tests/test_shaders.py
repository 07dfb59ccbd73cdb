import dataclasses
import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth import datasets, settings
from synth.errors import UserError
from synth.families import shaders
from synth.glsl import blocks, composer, gl
from synth.images.pictures import UnfitError
from synth.pipeline import RenderRequest, recipe_of
from synth.recipe import Recipe, redraw
from synth.sets.shards import ShardSet
from synth.vetting import judging, programs, vetting
from synth.vetting.programs import NAME, Programs
from tests.kit import kill_worker, make_small, pictures, tar_hashes

SIZE = 64
GOLDEN = "a97d69cea087dd62"  # of the parameters of pictures 0, 1 and 30,000; raise LAW with it
SMALL: dict[str, Any] = {"dataset": "shaders", "size": SIZE, "settings": ()}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return recipe_of(RenderRequest("shaders", 1, "-", size=SIZE))


def params_of(recipe: Recipe, index: int) -> shaders.Params:
    dataset, config = recipe.dataset, recipe.config
    params: shaders.Params = datasets.sample_params(dataset, config, seed=recipe.seed, index=index)
    return params


@pytest.fixture(scope="module")
def accepted() -> list[dict[str, Any]]:
    return programs.shipped().content["programs"]


@pytest.fixture(scope="module")
def looks(accepted: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Pictures of the first class of every structure, as it is vetted and with one change: uint8
    (structures, 128, 128, 3) each."""
    attempts = programs.shipped().content["attempts"]
    drawn: dict[str, list[np.ndarray]] = {}
    for number, program in enumerate(accepted):
        structure = program["structure"]
        values = shaders.class_values(structure, number, attempts.get(str(number), 0))
        plain = shaders.look(structure, values, 2.9)
        changes: dict[str, dict[str, Any]] = {
            "plain": {},
            "again": {},
            "time": {"time": 7.1},
            "view": {"view": (0.1, 0.1, 1.2, 0.3)},
            "values": {"values": shaders.class_values(structure, number + len(accepted), 0)},
        }
        for name, change in changes.items():
            drawn.setdefault(name, []).append(shaders.draw(dataclasses.replace(plain, **change), 128))
    return {name: np.stack(pictures) for name, pictures in drawn.items()}


def moved(looks: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Returns the mean difference that a change makes to the picture of each structure, in levels: float64
    (structures,)."""
    return np.abs(looks["plain"].astype(float) - looks[name]).mean(axis=(1, 2, 3))


def test_every_structure_compiles_and_varies(looks: dict[str, np.ndarray]) -> None:
    assert [judging.fault(picture) for picture in looks["plain"]] == 256 * [None]


@pytest.mark.parametrize("change", ["values", "time", "view"])
def test_uniforms_time_and_view_move_every_picture(looks: dict[str, np.ndarray], change: str) -> None:
    assert (moved(looks, change) > 0.05).all(), np.flatnonzero(moved(looks, change) <= 0.05)


def test_the_same_parameters_give_the_same_pixels(looks: dict[str, np.ndarray]) -> None:
    assert (moved(looks, "again") == 0).all()


def test_structures_are_distinct(looks: dict[str, np.ndarray], accepted: list[dict[str, Any]]) -> None:
    assert len({program["sha256"] for program in accepted}) == 256
    small = looks["plain"].reshape(256, 16, 8, 16, 8, 3).mean(axis=(2, 4)).reshape(256, -1)
    apart = np.abs(small[:, None] - small[None]).mean(axis=2) + 1e9 * np.eye(256)
    assert apart.min() > 2 and np.median(apart.min(axis=1)) > 15


def test_the_shipped_programs_are_those_that_are_composed(accepted: list[dict[str, Any]]) -> None:
    for program in accepted:
        assert composer.compose(program["structure"]).sha256 == program["sha256"], program["name"]


def test_every_plan_and_block_is_in_use() -> None:
    composed = [composer.compose(number) for number in range(400)]
    assert {p.plan for p in composed} == {plan.__name__.strip("_") for plan in composer.PLANS}
    names = {block.name for block in blocks.blocks().values() if block.parameters}
    assert names == {name for program in composed for name in program.blocks}


def test_every_function_of_the_glsl_files_is_read() -> None:
    for file in blocks.FOLDER.glob("*.glsl"):
        if file.stem != "twigl":
            count = sum(block.role == file.stem for block in blocks.blocks().values())
            assert file.read_text().count("\n}\n") == count, file


def test_parameters_are_what_they_were(recipe: Recipe) -> None:
    values = [vars(params_of(recipe, index)) for index in (0, 1, 30_000)]
    assert hashlib.sha256(settings.canonical(values)).hexdigest()[:16] == GOLDEN


def test_parameters_lie_in_the_ranges_of_their_blocks(recipe: Recipe) -> None:
    for index in range(0, 21_000, 97):
        params = params_of(recipe, index)
        program = program_of(params)
        for uniform, value in zip(program.uniforms, program.bindings(params.values).values(), strict=True):
            low, high = uniform.parameter.low, uniform.parameter.high
            assert (np.array(value) >= low).all() and (np.array(value) <= high).all()
            assert (uniform.parameter.type == "int") == isinstance(value, int)


def program_of(params: shaders.Params) -> composer.Program:
    return composer.compose(params.structure)


def test_classes_are_the_same_under_every_seed_but_times_and_views_are_not(recipe: Recipe) -> None:
    dataset, config = recipe.dataset, recipe.config
    ours, theirs = (datasets.sample_params(dataset, config, seed=seed, index=77) for seed in (0, 1))
    assert (ours.structure, ours.values) == (theirs.structure, theirs.values)
    assert ours.time != theirs.time and ours.view != theirs.view


def test_consecutive_pictures_come_from_different_structures(recipe: Recipe) -> None:
    assert len({params_of(recipe, index).structure for index in range(500, 756)}) == 256


def test_times_are_uniform_and_zooms_even_in_both_directions(recipe: Recipe) -> None:
    sample = [params_of(recipe, index) for index in range(2000)]
    times, zooms = np.array([p.time for p in sample]), np.log([p.view[2] for p in sample])
    for values, low, high in ((times, 0.1, 10.0), (zooms, np.log(0.75), np.log(1.35))):
        assert low - 1e-3 <= values.min() and values.max() <= high + 1e-3
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / 12**0.5 / 2000**0.5


def test_a_class_with_nothing_to_show_at_first_uses_a_later_attempt(recipe: Recipe) -> None:
    content = recipe.config.programs.content
    number = int(min(content["attempts"], key=int))
    params = params_of(recipe, number)
    assert params.values == shaders.class_values(params.structure, number, content["attempts"][str(number)])
    assert params.values != shaders.class_values(params.structure, number, 0)


def test_a_picture_is_drawn_again_from_its_json_which_names_the_renderer(recipe: Recipe) -> None:
    params, picture = recipe.render(12_345)
    metadata = json.loads(settings.canonical(recipe.describe(12_345, params, picture)))
    assert metadata["renderer"] == gl.renderer() and (redraw(metadata) == picture.pixels).all()
    assert settings.from_json(shaders.Params, metadata["params"]) == params


def test_the_foreground_is_what_differs_from_the_modal_colour() -> None:
    pixels = np.full((8, 8, 3), 100, np.uint8)
    pixels[2:4, 3:5] = (100, 100, 133)
    pixels[6] = (100, 132, 100)
    expected = np.zeros((8, 8), bool)
    expected[2:4, 3:5] = True
    assert (judging.foreground(pixels) == expected).all()


@pytest.mark.parametrize(
    ("fault", "picture"),
    [
        ("black", lambda noise, ramp: 0 * noise),
        ("white", lambda noise, ramp: 0 * noise + 255),
        ("flat", lambda noise, ramp: 100 + noise // 32),
        ("flat", lambda noise, ramp: 90 * (ramp > 125) + 100),
        ("static noise", lambda noise, ramp: noise),
        (None, lambda noise, ramp: ramp + noise // 8),
    ],
    ids=["black", "white", "faint noise", "two levels", "static noise", "good"],
)
def test_pictures_at_fault_are_told_apart(fault: str | None, picture: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3))
    ramp = np.broadcast_to(2 * np.arange(64)[:, None, None], (64, 64, 3))
    assert judging.fault(picture(noise, ramp).astype(np.uint8)) == fault


def test_what_shows_nothing_is_drawn_anew(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, [index] = shaders.draw, [5]
    first = params_of(recipe, index)
    monkeypatch.setattr(
        shaders, "draw", lambda params, size: plain(params, size) * (params.time != first.time)
    )
    with pytest.raises(UnfitError, match="black"):
        shaders.render(first, SIZE)
    params, _ = recipe.render(index)
    assert params.redraws == 1 and params.values == first.values and params.time != first.time


@pytest.fixture(scope="module")
def patient() -> Iterator[None]:
    """Gives trials more time, for a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vetting, "_DEADLINE", 240.0)
        yield


@pytest.fixture(scope="module")
def one(patient: None) -> Programs:
    """One program of four classes, vetted here."""
    return vetting.structures(1, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
def test_vetting_twice_gives_the_same_file(one: Programs, accepted: list[dict[str, Any]]) -> None:
    assert vetting.structures(1, 4).data == one.data
    assert one.content["programs"] == accepted[:1]
    shipped = programs.shipped().content
    assert {int(k) for k in one.content["attempts"]} <= set(range(4))
    assert shipped["renderer"].startswith("llvmpipe")


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
def test_programs_that_are_missing_are_vetted_into_the_target(
    one: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "shipped", lambda: one)
    changes = {**SMALL, "settings": ("structures=2", "classes=6"), "samples": 6, "shard_size": 3}
    make_small(tmp_path / "set", **changes)
    vetted = Programs.of((tmp_path / "set" / NAME).read_bytes())
    assert len(vetted.content["programs"]) == 2
    assert ShardSet(str(tmp_path / "set")).manifest["identity"]["config"]["programs"] == vetted.sha256
    monkeypatch.setattr(vetting, "structures", None)  # it is not asked again
    make_small(tmp_path / "set", **{**changes, "samples": 9})
    with pytest.raises(UserError, match=r"config\.programs is"):
        make_small(tmp_path / "set", **{**changes, "samples": 9, "settings": ("structures=1", "classes=6")})

    # Another set in its place may draw with its programs.
    there = (*changes["settings"], f"programs={tmp_path / 'set'}")
    make_small(tmp_path / "set", **{**changes, "settings": there, "seed": 1}, overwrite=True)
    assert Programs.of((tmp_path / "set" / NAME).read_bytes()) == vetted
    assert ShardSet(str(tmp_path / "set")).manifest["identity"]["seed"] == 1


def test_stored_programs_of_other_classes_are_vetted_again(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {**programs.shipped().content, "asked": {"structures": 300, "law": vetting.LAW}, "classes": 9}
    stored = Programs.from_content(content)
    monkeypatch.setattr(shaders, "_vetted", lambda structures, classes: recipe.config.programs)
    for classes, again in ((9, False), (10, True)):
        config = shaders.ready(shaders.Config(classes=classes, structures=300), stored.data)
        assert (config.programs == recipe.config.programs) == again


def test_programs_of_other_people_are_refused(tmp_path: Path) -> None:
    for entry in (1, {"name": "of another person", "source": "void main() {}"}):
        (tmp_path / NAME).write_text(json.dumps({"format": 1, "programs": [entry], "attempts": {}}))
        with pytest.raises(UserError, match="are not composed of exnihilo's blocks"):
            recipe_of(RenderRequest("shaders", 1, "-", settings=(f"programs={tmp_path}",)))
    (tmp_path / NAME).write_text('{"format": 1, "programs": 3}')
    with pytest.raises(UserError, match="is damaged or of another version"):
        recipe_of(RenderRequest("shaders", 1, "-", settings=(f"programs={tmp_path}",)))


@pytest.mark.parametrize(
    "setting", ["shift=-1e308,1e308", "zoom=1e-308,1e308", "time=0,1e300", "turn=-1e9,0"]
)
def test_ranges_of_instances_have_bounds(setting: str) -> None:
    with pytest.raises(UserError, match="it must lie in"):
        recipe_of(RenderRequest("shaders", 1, "-", settings=(setting,)))


def test_more_structures_than_are_known_change_nothing_of_a_manifest_that_is_read_back(
    recipe: Recipe,
) -> None:
    assert Recipe.of(recipe.identity) == recipe
    with pytest.raises(UserError, match="are not the shipped ones"):
        Recipe.of({**recipe.identity, "config": {**recipe.identity["config"], "programs": "0" * 64}})


def test_pixels_do_not_depend_on_order_workers_or_shards(tmp_path: Path, ray_session: None) -> None:
    make_small(tmp_path / "alone", **SMALL, samples=40, shard_size=40, workers=0)
    make_small(tmp_path / "two", **SMALL, samples=40, shard_size=10, workers=2)
    assert pictures(tmp_path / "alone") == pictures(tmp_path / "two")
    recipe = recipe_of(RenderRequest("shaders", 1, "-", size=SIZE))
    backwards = {f"{i:09d}": recipe.render(i)[1].pixels.tobytes() for i in reversed(range(40))}
    assert backwards == pictures(tmp_path / "alone")


def test_records_name_the_renderer_and_the_fingerprint_the_programs(tmp_path: Path) -> None:
    make_small(tmp_path, **SMALL, samples=4)
    manifest = ShardSet(str(tmp_path)).manifest
    assert all(part["run"]["renderer"] == gl.renderer() for part in manifest["parts"])
    assert manifest["identity"]["config"]["programs"] == programs.shipped().sha256
    assert manifest["licence"] == "CC0-1.0"


@pytest.mark.soak
def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    make_small(tmp_path / "quiet", **SMALL, samples=600, shard_size=100, workers=0)
    command = [
        sys.executable,
        "-m",
        "synth",
        "shards",
        "shaders",
        "--n",
        "600",
        "--shard-size",
        "100",
        "--size",
        str(SIZE),
        "--workers",
        "2",
    ]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "set")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not kill_worker(process, random.Random(0)):
        time.sleep(0.05)
    _, errors = process.communicate()
    assert process.returncode == 0 and "is made again" in errors, errors
    assert tar_hashes(tmp_path / "set") == tar_hashes(tmp_path / "quiet")
