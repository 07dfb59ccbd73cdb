"""Places, values and texts at the edge of what a user may write."""

import json
import shlex
import tarfile
from pathlib import Path

import pytest

from synth import card, datasets, settings, verify
from synth.class_tables import Table
from synth.errors import UserError
from synth.families.fractal_scenes import Config as Scenes
from synth.families.fractals import Config as Fractals
from synth.foreign import parsed_json
from synth.sets.parallel import require_reachable
from synth.sets.storage import ObjectStore, open_storage


def test_the_path_of_a_url_stays_absolute(tmp_path: Path) -> None:
    open_storage(f"local://{tmp_path}").write("x", b"1")
    assert (tmp_path / "x").read_bytes() == b"1"
    assert ObjectStore("memory://bucket//a/").url == "memory://bucket/a"
    assert open_storage(f"file://{tmp_path}/a%20b#c?d").url == f"{tmp_path}/a b#c?d"


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        pytest.param("file:/x", "has one slash; write file:///x, or a folder", id="slash"),
        pytest.param("file://[::1", "names the host", id="host"),
        pytest.param("file:///a%00b", "holds a null character", id="null"),
        pytest.param("http://[/x", "cannot be a place of files: Invalid IPv6 URL", id="address"),
        pytest.param("https://host:99999/x", "cannot be a place of files: Port out of range", id="port"),
    ],
)
def test_a_url_that_is_no_place_is_refused(place: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        open_storage(place)


def test_an_address_of_no_host_is_no_error_of_python() -> None:
    require_reachable("a:\u00b2")
    for address in ("a..b:6379", "127.0.0.1:99999999"):
        with pytest.raises(UserError, match="no Ray cluster answers"):
            require_reachable(address)


def test_deeply_nested_json_is_damaged_json() -> None:
    assert parsed_json(b"[1]") == [1]
    with pytest.raises(ValueError, match="nested too deeply"):
        parsed_json("[" * 100_000)


@pytest.mark.parametrize(
    "setting",
    [
        *("points=100000000000", "lines=100000000000", "sigma=1e-200,1e-200", "blur=7", "blur=-3"),
        *("zoom=0,1", "line_length=0,1e9"),
    ],
)
def test_settings_of_fractals_have_bounds(setting: str) -> None:
    with pytest.raises(UserError, match=r"it must lie in [\d.]+\.\."):
        settings.with_settings(Fractals(), [setting])


@pytest.mark.parametrize("side", ["1e30,1e30", "1e300,1e308", "0,1"])
def test_the_side_of_a_figure_has_bounds(side: str) -> None:
    with pytest.raises(UserError, match=r"it must lie in 0\.001\.\.10"):
        settings.with_settings(Scenes(), [f"side={side}"])


def test_advice_on_a_setting_can_be_typed() -> None:
    config = datasets.get("scenes").module.Config()
    with pytest.raises(UserError, match="write overlap=VALUE, as in overlap=true"):
        settings.with_settings(config, ["overlap"])
    assert settings.with_settings(config, ["overlap=true"]) == config
    with pytest.raises(UserError, match="write table=VALUE, as in table=none"):
        settings.with_settings(Fractals(), ["table"])
    assert settings.with_settings(Fractals(), ["table=none"]) == Fractals()
    with pytest.raises(UserError, match=r"write programs=VALUE$"):
        settings.with_settings(datasets.get("shaders").module.Config(), ["programs"])


@pytest.mark.parametrize(
    ("key", "value", "option"),
    [
        pytest.param("programs", "0" * 64, "--set programs=PROGRAMS", id="programs"),
        pytest.param("table", "1" * 64, "--set table=TABLE", id="table"),
        pytest.param("table", None, "--set table=none", id="none"),
        pytest.param("programs", card._shipped(), "--codec 1", id="shipped"),
    ],
)
def test_the_command_of_a_card_names_no_digest_as_a_folder(key: str, value: str | None, option: str) -> None:
    identity = dict.fromkeys(("dataset", "size", "seed", "shard_size", "codec"), 1)
    whole = {**identity, "config": {key: value}}
    command = card._command({"identity": whole, "samples": 1})
    assert command.endswith(option) and (not value or value not in command)
    assert bool(card._folders(whole)) == option.endswith(("PROGRAMS", "TABLE"))


def test_the_command_of_a_card_is_quoted_for_the_shell() -> None:
    identity = dict.fromkeys(("dataset", "size", "seed", "shard_size", "codec"), 1)
    whole = {**identity, "config": {"licenses": "mit, cc0", "shift": [-0.2, 0.2], "hue_mode": "byte-wrap"}}
    command = card._command({"identity": whole, "samples": 1}).replace("\\\n", " ")
    assert shlex.split(command)[-5::2] == ["licenses=mit, cc0", "shift=-0.2,0.2", "hue_mode=byte-wrap"]
    assert "--set shift=-0.2,0.2" in command


def test_a_tar_of_zeros_is_told(tmp_path: Path) -> None:
    tar = tmp_path / "a-000000.tar"
    tar.write_bytes(bytes(10_240))
    tar.with_suffix(".json").write_text(json.dumps({"count": 3}))
    with pytest.raises(UserError, match="0 samples where its record says 3; it holds nothing but zeros"):
        verify._tar_summary(str(tar))


def test_a_tar_of_other_people_without_json_shows_its_keys(tmp_path: Path) -> None:
    tar = tmp_path / "a-000000.tar"
    with tarfile.open(tar, "w") as file:
        for name in ("x.txt", "y.txt"):
            file.addfile(tarfile.TarInfo(name))
    record = {"count": 2, "identity": {"source": "x"}}
    tar.with_suffix(".json").write_text(json.dumps(record))
    summary = verify._tar_summary(str(tar))
    assert (summary["samples"], summary["first"], summary["last"]) == (2, "x", "y")


def test_a_tar_that_nests_its_names_too_deeply_is_damaged(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type = tarfile.GNUTYPE_LONGNAME
    tar = tmp_path / "a-000000.tar"
    tar.write_bytes(header.tobuf(tarfile.GNU_FORMAT) * 3000)
    with pytest.raises(UserError, match=r"a-000000\.tar is damaged at its start: maximum recursion depth"):
        verify.about_path(str(tar))


def test_a_set_in_a_folder_that_is_called_like_a_tar_is_inspected(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "set.tar").symlink_to(undisturbed)
    assert verify.about_path(str(tmp_path / "set.tar"))["pictures"] == 40
    assert verify.about_sample(str(tmp_path / "set.tar"), "000000017")["index"] == 17


def test_a_class_table_keeps_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (100_000, 99_999, 10_001):
        (tmp_path / f"{number:05d}.csv").write_text(f"0.{number % 7},0,0,0.5,0,0,1\n")
    firsts = [system[0][0] for system in Table.parse(str(tmp_path)).systems]
    assert firsts == [float(f"0.{number % 7}") for number in (10_001, 99_999, 100_000)]
