import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from synth import class_tables, datasets
from synth.class_tables import Table
from synth.errors import UserError
from synth.pipeline import RenderRequest, recipe_of
from synth.recipe import Recipe
from synth.settings import canonical, digest
from tests.kit import states

ROW = "0.5,0,0,0.5,0.1,0.2,1\n"


def request(name: str, table: Path, *settings: str) -> Recipe:
    return recipe_of(RenderRequest(name, 1, "", size=48, settings=(f"table={table}", *settings)))


def exported(folder: Path, name: str, classes: int) -> list[class_tables.System]:
    recipe = recipe_of(RenderRequest(name, 1, "", settings=(f"classes={classes}",)))
    systems = [datasets.sample_class(recipe.dataset, recipe.config, seed=0, number=i) for i in range(classes)]
    assert class_tables.write(folder, systems) == classes
    return systems


@pytest.mark.parametrize("name", ["fractals", "fractals_multi", "fractaldb"])
def test_exported_classes_come_back_to_the_last_bit(tmp_path: Path, name: str) -> None:
    systems = exported(tmp_path, name, 3)
    recipe = request(name, tmp_path)
    assert list(recipe.config.table.systems) == systems and recipe.config.classes == 3
    original = recipe_of(RenderRequest(name, 1, "", size=48, settings=("classes=3",)))
    for index in range(3):
        pixels = recipe.render(index)[1].pixels
        assert (pixels == original.render(index)[1].pixels).all()


def test_what_a_table_says_is_part_of_a_sets_identity_and_where_it_lies_is_not(tmp_path: Path) -> None:
    for folder, row in (("a", ROW), ("b", ROW), ("c", ROW.replace("0.2", "0.3"))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.csv").write_text(row)
    first, second, third = (digest(request("fractals", tmp_path / folder).identity) for folder in "abc")
    assert first == second != third


def test_a_table_travels_with_the_recipe(tmp_path: Path) -> None:
    exported(tmp_path, "fractals", 2)
    recipe = pickle.loads(pickle.dumps(request("fractals", tmp_path)))
    assert (recipe.render(1)[1].pixels == request("fractals", tmp_path).render(1)[1].pixels).all()


def test_a_recipe_from_a_manifest_says_that_it_lacks_the_table(tmp_path: Path) -> None:
    exported(tmp_path, "fractals", 2)
    identity = json.loads(canonical(request("fractals", tmp_path).identity))
    with pytest.raises(UserError, match="give its folder: --set table=DIR"):
        Recipe.of(identity)


def test_a_link_to_an_empty_folder_is_a_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    exported(tmp_path / "link", "fractals", 2)
    assert (tmp_path / "link").is_symlink() and len(list((tmp_path / "empty").iterdir())) == 2
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["size", "codec", "config", "law"])
def test_a_recipe_from_a_damaged_manifest_names_the_entry(name: str) -> None:
    identity = json.loads(canonical(recipe_of(RenderRequest("fractals", 1, "x")).identity))
    without = {k: v for k, v in identity.items() if k != name}
    for damaged in (without, {**without, name: None}):
        with pytest.raises(UserError, match=f"the {name} in the set's identity is .*; make the set again"):
            Recipe.of(damaged)


def test_a_recipe_from_a_manifest_with_settings_of_other_types_is_refused() -> None:
    identity = json.loads(canonical(recipe_of(RenderRequest("fractals", 1, "x")).identity))
    changes: list[dict[str, Any]] = [{"maps": []}, {"maps": ""}, {"table": 3}, {"maps": ["a", "b"]}]
    for change in changes:
        with pytest.raises(UserError, match="this checkout has other settings of fractals"):
            Recipe.of({**identity, "config": {**identity["config"], **change}})


def test_fewer_classes_than_the_table_holds_may_be_asked_for(tmp_path: Path) -> None:
    exported(tmp_path, "fractals", 4)
    assert request("fractals", tmp_path, "classes=2").config.classes == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1,2,3\n", "has 3 columns in row 1"),
        (ROW + "1,2,3,4,5,6,7,8\n", "has 8 columns in row 2"),
        ("", "has 0 maps"),
        (ROW * 17, "has 17 maps"),
        ("nan,0,0,1,0,0,1\n", "in row 1 that is not finite"),
        ("1,0,0,1,inf,0,1\n", "in row 1 that is not finite"),
        ("a,b,c,d,e,f,p\n", "is no table of numbers"),
        ("1,0,0,1,0,0,-1\n", "negative probability in row 1"),
        ("1,0,0,1,0,0,0\n", "no map a probability above 0"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "0.csv").write_text(text)
    with pytest.raises(UserError, match=sentence) as error:
        Table.parse(str(tmp_path))
    assert str(tmp_path / "0.csv") in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match=r"holds no \.csv files"):
            Table.parse(str(folder))


def test_tables_are_not_written_over_others(tmp_path: Path) -> None:
    exported(tmp_path, "fractals", 1)
    with pytest.raises(UserError, match="already holds"):
        class_tables.write(tmp_path, [])


def test_an_equal_table_is_left_alone_and_another_is_refused(tmp_path: Path) -> None:
    systems = exported(tmp_path / "table", "fractals", 3)
    before = states(tmp_path / "table")
    assert class_tables.write(tmp_path / "table", systems) == 3 and states(tmp_path / "table") == before
    with pytest.raises(UserError, match="already holds files; give another folder"):
        class_tables.write(tmp_path / "table", systems[:2])
    assert states(tmp_path / "table") == before
