import json
import os
import signal
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import Result

from synth import pipeline
from synth.cli import app
from synth.errors import UserError
from synth.families import visual_atoms
from tests import kit
from tests.kit import ROOT, make_small, run_synth


def invoke(*arguments: str) -> Result:
    """The command within this process."""
    return kit.invoke(app, *arguments)


def test_a_pipe_gets_json_lines_and_only_them(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "a"), "--size", "32", "--workers", "0"]
    run = run_synth("shards", "visual_atoms", "--n", "20", *options)
    summary = json.loads(run.stdout)
    assert run.returncode == 0 and summary["pictures"] == 20 and summary["retries"] == 0
    assert "20 pictures to make" in run.stderr and "pictures/s" in run.stderr
    assert json.loads(invoke("shards", "visual_atoms", "--n", "20", *options).stdout)["drawn"] == 0


def refused(*arguments: str) -> str:
    """The one sentence with which a command is refused."""
    return kit.refusal(app, "synth", *arguments)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--n", "0"], "--n is 0; it must be 1 to 1,000,000,000"),
        (["--n", "-3"], "--n is -3"),
        (["--n", "many"], "Invalid value for '--n': 'many' is not a whole number"),
        (["--n", "2000000000"], "--n is 2000000000; it must be 1 to 1,000,000,000"),
        (["--n", "5", "--size", "0"], "--size is 0; it must be 1 to 4,096"),
        (["--n", "5", "--size", "4097"], "--size is 4097"),
        (["--n", "5", "--codec", "gif"], "unknown codec 'gif'; known are png, webp, jpeg"),
        (["--n", "5", "--seed", "-1"], "--seed is -1"),
        (["--n", "5", "--workers", "-1"], "--workers is -1"),
        (["--n", "5", "--shard-size", "0"], "--shard-size is 0"),
        (["--n", "100000001", "--shard-size", "100"], "at most 1,000,000; give --shard-size 101 or more"),
        pytest.param(["--n", "5", "--set", ""], "unknown setting ''; known are canvas, classes", id="empty"),
        (["--n", "5", "--set", "colour=1"], "unknown setting 'colour'; known are canvas, classes"),
        (
            ["--n", "5", "--set", "classes=some"],
            "setting classes cannot be 'some': it must be a whole number",
        ),
        (["--n", "5", "--ray-address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_wrong_options_are_refused(options: list[str], sentence: str, tmp_path: Path) -> None:
    assert sentence in refused("shards", "visual_atoms", "--out", str(tmp_path / "x"), *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["shards", "atoms", "--n", "5", "--out", "x"], "unknown data set 'atoms'; known are visual_atoms"),
        (["shards", "visual_atoms", "--n", "5", "--out", "/proc/x"], "/proc/x cannot be made"),
        (
            ["shards", "visual_atoms", "--n", "5", "--out", str(ROOT / "LICENSE")],
            "LICENSE is a file; give a folder or a URL",
        ),
        (
            ["shards", "visual_atoms", "--n", "5", "--out", str(ROOT / "LICENSE" / "x")],
            "LICENSE is a file; give a folder or a URL",
        ),
        (
            ["shards", "visual_atoms", "--n", "5", "--out", str(ROOT)],
            "is not empty and holds no set of exnihilo",
        ),
        (["shards", "visual_atoms", "--n", "5", "--out", "nope://x/y"], "unknown URL scheme nope://"),
        (["preview", "visual_atoms", "--out", "x.jpg"], "--out is x.jpg; it must end in .png"),
        (["preview", "visual_atoms", "--out", "x.png", "--n", "0"], "--n is 0; it must be 1 to 1,024"),
        (["inspect", "/nowhere"], "holds no finished set"),
        (["inspect", str(ROOT / "LICENSE")], "is a file; give a folder or a URL"),
        (["inspect", "/nowhere/a.tar"], "there is no file /nowhere/a.tar"),
        (["verify", "/nowhere"], "/nowhere is missing or empty: it holds no finished set"),
        (
            ["shards", "fractals", "fractals_multi", "--out", "x", "--out", "x"],
            "--out x is given twice; give each of the data sets a place of its own",
        ),
        (
            ["shards", "fractals", "fractals_multi", "--out", "x", "--out", "./x/"],
            "--out x is given twice; give each of the data sets a place of its own",
        ),
        (
            ["shards", "fractals", "--out", "x", "--set", "table="],
            "table cannot be '': it is empty; give a",
        ),
        (["inspect", str(ROOT / "LICENSE" / "a.tar")], "there is no file"),
        (["vet", "shaders", "--out", "x", "--device", "cuda"], "unknown device 'cuda'; known are software"),
        (["classes", "shaders21k", "--out", "x"], "the classes of shaders21k are not iterated function"),
        (["draw"], "No such command 'draw'; `python -m synth --help` shows an example"),
        (["preview"], "Missing argument 'NAME'; `python -m synth preview --help` shows an example"),
        (["verfy", "x"], "No such command 'verfy'. Did you mean 'verify'?"),
    ],
)
def test_wrong_names_and_places_are_refused(arguments: list[str], sentence: str) -> None:
    assert sentence in refused(*arguments)


def test_preview_is_a_sheet_of_the_first_pictures(tmp_path: Path) -> None:
    out = tmp_path / "new" / "grid.png"
    assert invoke("preview", "visual_atoms", "--n", "9", "--out", str(out), "--size", "64").exit_code == 0
    with Image.open(out) as sheet:
        assert sheet.size == (3 * 68 + 4, 3 * 68 + 4)


def test_preview_of_several_data_sets_gives_each_a_row(tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    assert (
        invoke("preview", "visual_atoms", "fractals", "--n", "5", "--out", str(out), "--size", "32").exit_code
        == 0
    )
    with Image.open(out) as sheet:
        assert sheet.size == (5 * 36 + 4, 2 * 36 + 4) and sheet.mode == "RGB"


def test_datasets_are_listed() -> None:
    rows = kit.json_lines(invoke("datasets"))
    assert rows[0]["name"] == "visual_atoms" and rows[0]["classes"] == 1000


def test_inspect_says_what_a_set_a_tar_and_a_sample_are(undisturbed: Path) -> None:
    assert json.loads(invoke("inspect", str(undisturbed)).output)["pictures"] == 40
    tar = str(undisturbed / "visual_atoms-000001.tar")
    assert json.loads(invoke("inspect", tar).output) == {
        "path": tar,
        "samples": 16,
        "first": "000000016",
        "last": "000000031",
    }
    for path in (str(undisturbed), tar):
        assert json.loads(invoke("inspect", path, "000000020").output)["index"] == 20
    with pytest.raises(UserError, match="its keys are 000000000 to 000000039"):
        invoke_raising("inspect", str(undisturbed), "000000040")
    with pytest.raises(UserError, match="holds no sample '000000001'"):
        invoke_raising("inspect", tar, "000000001")


def invoke_raising(*arguments: str) -> None:
    kit.invoke(app, *arguments, raising=True)


def spoil(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) == 1 and len(old) == len(new)
    path.write_bytes(data.replace(old, new))


def test_inspect_notices_cut_and_edited_tars(finished: Path) -> None:
    tar = finished / "visual_atoms-000001.tar"
    whole = tar.read_bytes()
    with tarfile.open(tar) as opened:
        cut = opened.getmembers()[8].offset
    tar.write_bytes(whole[:cut])
    assert "holds 4 samples where its record says 16; it was cut after member 000000019" in refused(
        "inspect", str(tar)
    )
    assert "where the manifest says" in refused("inspect", str(finished))
    data = bytearray(whole)
    data[data.index(b"000000021.png") + 512 + 60] ^= 1
    tar.write_bytes(data)
    assert "member 000000021.png" in refused("inspect", str(tar))


def test_a_folder_in_the_place_of_the_programs_ends_vetting_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "programs.json").mkdir()
    sentence = f"--out is {tmp_path}, which has a folder programs.json; give another folder"
    assert sentence in refused("vet", "shaders", "--out", str(tmp_path))


def test_a_damaged_record_or_identity_is_told(finished: Path) -> None:
    record = finished / "visual_atoms-000001.json"
    for content in ('{"identity": null}', '{"identity": 3}', "[]"):
        record.write_text(content)
        assert invoke("inspect", str(record.with_suffix(".tar"))).exit_code == 0
    manifest = json.loads((finished / "manifest.json").read_text())
    del manifest["identity"]["codec"]
    (finished / "manifest.json").write_text(json.dumps(manifest))
    assert "the codec in the set's identity is None; known are" in refused("verify", str(finished))
    assert "holds no sample" in refused("inspect", str(finished), "9" * 5000)


@pytest.mark.parametrize("field", ["samples", "size", "seed", "workers", "shard_size"])
def test_requests_from_python_have_the_ranges_of_the_options(field: str) -> None:
    values: dict[str, Any] = {"dataset": "visual_atoms", "samples": 1, "out": "x", field: -1}
    with pytest.raises(UserError, match=r"^--.* is -1; it must be "):
        pipeline.check(pipeline.RenderRequest(**values))


def test_what_may_not_be_read_or_is_no_file_is_told(finished: Path) -> None:
    (finished / "manifest.json").unlink()
    (finished / "manifest.json").mkdir()
    assert "manifest.json cannot be used: Is a directory" in refused("verify", str(finished))
    assert "cannot be used: File name too long" in refused(
        "shards", "visual_atoms", "--n", "1", "--out", "x" * 300
    )
    assert "--out is empty; give a folder" in refused("shards", "visual_atoms", "--n", "1", "--out", "")
    assert "names the host 'far'" in refused("shards", "visual_atoms", "--n", "1", "--out", "file://far/x")


@pytest.mark.parametrize("codec", ["png", "webp", "jpeg"])
def test_verify_redraws_whatever_the_codec(tmp_path: Path, codec: str) -> None:
    make_small(tmp_path / "set", samples=6, codec=codec)
    assert json.loads(invoke("verify", str(tmp_path / "set")).stdout)["redrawn"] == 6


def test_verify_passes_a_whole_set(undisturbed: Path) -> None:
    row = json.loads(invoke("verify", str(undisturbed), "--redraw", "40").stdout)
    assert row["pictures"] == 40 and row["redrawn"] == 40


def test_verify_and_inspect_name_an_edited_json(finished: Path) -> None:
    spoil(finished / "visual_atoms-000001.tar", b'"index":20,', b'"index":21,')
    assert "visual_atoms-000001.tar is not what was written: member 000000020.json was changed" in refused(
        "verify", str(finished)
    )


def test_verify_and_inspect_name_an_edited_picture(finished: Path) -> None:
    path = finished / "visual_atoms-000001.tar"
    data = bytearray(path.read_bytes())
    start = data.index(b"000000021.png") + 512
    data[start + 60] ^= 1
    path.write_bytes(data)
    assert "member 000000021.png was changed" in refused("verify", str(finished))
    assert "member 000000021.png" in refused("inspect", str(finished), "000000021")


def test_verify_names_the_picture_that_another_law_drew(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visual_atoms, "LAW", 2)
    sentence = refused("verify", str(finished), "--redraw", "1")
    assert (
        "sample 000000000 of " in sentence
        and "cannot be drawn again: these pictures follow law 1" in sentence
    )


def test_verify_names_a_spoilt_tar_of_another_version(finished: Path) -> None:
    """The set has a setting that this checkout lacks."""
    manifest = json.loads((finished / "manifest.json").read_text())
    manifest["identity"]["config"]["later"] = 1
    (finished / "manifest.json").write_text(json.dumps(manifest))
    spoil(finished / "visual_atoms-000001.tar", b'"index":20,', b'"index":21,')
    sentence = refused("verify", str(finished), "--redraw", "0")
    assert "its members cannot be compared, because this checkout has other settings of visual" in sentence
    assert sentence.endswith("; remove it and run the command that made the set again")


def test_the_advice_on_a_spoilt_tar_mends_the_set(undisturbed: Path, finished: Path) -> None:
    path = finished / "visual_atoms-000001.tar"
    spoil(path, b'"index":20,', b'"index":21,')
    assert "; remove it and run the command that made the set again" in refused("verify", str(finished))
    path.unlink()
    make_small(finished)
    assert path.read_bytes() == (undisturbed / path.name).read_bytes()


def test_verify_names_a_cut_and_a_missing_tar(finished: Path) -> None:
    cut, gone = finished / "visual_atoms-000000.tar", finished / "visual_atoms-000002.tar"
    cut.write_bytes(cut.read_bytes()[:5000])
    gone.unlink()
    run = run_synth("verify", str(finished))
    assert (
        run.returncode == 2
        and run.stdout == ""
        and "\nerror: " in run.stderr
        and "Traceback" not in run.stderr
    )
    assert (
        "visual_atoms-000000.tar is damaged at 00000000" in run.stderr
        and "visual_atoms-000002.tar is missing" in run.stderr
    )


def test_overwrite_from_the_command_line(finished: Path) -> None:
    options = ["--n", "4", "--size", "16", "--workers", "0", "--out", str(finished)]
    assert "holds another set" in refused("shards", "visual_atoms", *options)
    assert json.loads(invoke("shards", "visual_atoms", *options, "--overwrite").stdout)["pictures"] == 4


def test_one_command_at_a_time(tmp_path: Path) -> None:
    from synth.sets.storage import Folder

    with Folder(str(tmp_path)).exclusive(), pytest.raises(UserError, match="another run is writing"):
        make_small(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_breaks_a_compilation_ends_the_command(number: int, code: int) -> None:
    script = f"""
import ctypes, signal
from synth import console

app = console.app("Compiles.", "compile")

@app.command()
def compile() -> None:
    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal({number:d}))()
    raise RuntimeError("no compiled object yet")

console.run(app, "compile")
"""
    process = kit.start([sys.executable, "-c", script], cwd=ROOT)
    _, errors = process.communicate()
    assert process.returncode == code and "RuntimeError" not in errors


@pytest.mark.parametrize(("given", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_torch_sleep_while_they_wait_unless_a_person_says_otherwise(
    given: str | None, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    kit.refusal(app, "synth", "shards", "nothing")
    assert os.environ["OMP_WAIT_POLICY"] == kept
