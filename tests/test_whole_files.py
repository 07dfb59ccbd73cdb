"""Files appear whole or not at all: a disk that fills up half-way leaves the old file, or none."""

import contextlib
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

import caption.cli
import synth.cli
from caption.audit import page
from caption.nano import card, fitting, network
from caption.pipeline import CaptionRequest, make_captions
from data import preparation
from data.originals import Files, Original, Source
from synth.errors import UserError
from synth.families import shaders
from synth.sets import completion
from synth.vetting import programs
from tests.kit import full_disk, make_small, make_tables, tar_hashes

Write = Callable[[Path], Any]


@contextlib.contextmanager
def small_files(most: int) -> Iterator[None]:
    """The kernel refuses files of more bytes, whatever writes them."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def command(app: typer.Typer, *arguments: Any) -> Write:
    """A command that writes to the place put in for OUT."""

    def write(place: Path) -> None:
        typer.main.get_command(app).main(
            [str(a).replace("OUT", str(place)) for a in arguments], standalone_mode=False
        )

    return write


@pytest.fixture
def writers(
    captioned: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, Write]:
    monkeypatch.setattr(
        shaders, "vet", lambda config, device: programs.shipped()
    )  # what vetting takes is not the point here
    monkeypatch.setattr(page, "page", lambda *_: "<!DOCTYPE html>\n")  # drawing plots takes seconds
    originals = tmp_path / "originals"
    originals.mkdir()
    for i in range(4):
        Image.new("RGB", (20, 20), (60 * i, 0, 0)).save(originals / f"{i}.png")

    def prepare(place: Path) -> None:
        # Each time another split, so that the file is written anew.
        names, held_out = sorted(p.name for p in originals.iterdir()), 1 + (place / "splits.json").exists()
        splits = {
            "train": [Original(n) for n in names[held_out:]],
            "test": [Original(n) for n in names[:held_out]],
        }
        request = preparation.PrepareRequest(str(place), size=16, workers=0, overwrite=True)
        completion.finish(
            preparation.prepare(
                Source("made", "made", "", "CC0-1.0"), "law", splits, Files(str(originals)), request
            )
        )

    return {
        "page.html": command(caption.cli.app, "audit", captioned, "--out", "OUT/page.html", "--sample", 32),
        "sheet.png": command(
            caption.cli.app,
            "show",
            captioned,
            "000000003",
            "--shards",
            undisturbed,
            "--out",
            "OUT/sheet.png",
        ),
        "grid.png": command(
            synth.cli.app, "preview", "visual_atoms", "--n", 2, "--size", 32, "--out", "OUT/grid.png"
        ),
        "programs.json": command(synth.cli.app, "vet", "shaders", "--out", "OUT"),
        "splits.json": prepare,
    }


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("page.html", marks=pytest.mark.slow),
        "sheet.png",
        "grid.png",
        "programs.json",
        "splits.json",
    ],
)
def test_a_full_disk_leaves_no_file_or_the_old_one(
    writers: dict[str, Write], tmp_path: Path, file: str
) -> None:
    write, place = writers[file], tmp_path / "out"
    with full_disk(file), pytest.raises(UserError, match="is full; make room"):
        write(place)
    assert not [name for name in files(place) if file in name]
    write(place)
    whole = files(place)[file]
    with full_disk(file), pytest.raises(UserError, match="is full; make room"):
        write(place)
    assert {name: data for name, data in files(place).items() if file in name} == {file: whole}


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", ["README.md", "croissant.json", "preview.png", "manifest.json", "visual_atoms-000002.json"]
)
def test_a_set_that_grows_on_a_full_disk_keeps_its_old_files_and_can_go_on(
    finished: Path, tmp_path: Path, file: str
) -> None:
    before = files(finished)
    with full_disk(f".{file}."), pytest.raises(UserError, match="is full; make room"):
        make_small(finished, samples=48)
    after = files(finished)
    assert not [name for name in after if name.startswith(".")]
    assert "manifest.json" not in after and after.get(file, before[file]) == before[file]
    make_small(finished, samples=48)
    make_small(tmp_path / "at once", samples=48)
    assert tar_hashes(finished) == tar_hashes(tmp_path / "at once")


def test_a_class_table_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write, place = (
        command(synth.cli.app, "classes", "fractals", "--set", "classes=3", "--out", "OUT"),
        tmp_path / "new" / "table",
    )
    with full_disk("00001.csv"), pytest.raises(UserError, match="is full; make room"):
        write(place)
    assert not place.exists() and not files(tmp_path)
    write(place)
    assert sorted(files(tmp_path)) == [f"new/table/{i:05d}.csv" for i in range(3)]


@pytest.fixture(scope="module")
def encoder(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that was hardly fitted."""
    out = tmp_path_factory.mktemp("fitted") / "mine"
    fit(undisturbed, out)
    return out


def fit(shards: Path, out: Path, seed: int = 0) -> None:
    request = fitting.FitRequest((str(shards),), str(out), seed=seed, visits=8, batch=8, replaces=True)
    completion.finish(fitting.fit(request))


@pytest.mark.slow
@pytest.mark.parametrize("file", [network.WEIGHTS, card.NAME])
def test_an_encoder_that_is_fitted_again_on_a_full_disk_keeps_its_old_files(
    encoder: Path, undisturbed: Path, tmp_path: Path, file: str
) -> None:
    out = Path(shutil.copytree(encoder, tmp_path / "mine"))
    before = files(out)
    with full_disk(f".{file}."), pytest.raises(UserError, match="is full; make room"):
        fit(undisturbed, out, seed=1)
    assert files(out) == before


def test_an_encoder_that_cannot_be_written_leaves_no_folder(undisturbed: Path, tmp_path: Path) -> None:
    with full_disk(network.WEIGHTS), pytest.raises(UserError, match="is full; make room"):
        fit(undisturbed, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_a_table_that_outgrows_the_disk_leaves_no_file_or_the_old_one(
    captioned: Path, undisturbed: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    whole = tar_hashes(captioned, ".parquet")
    old = Path(shutil.copytree(captioned, tmp_path / "old"))
    (spoilt := old / "tables/visual_atoms-000001.parquet").write_bytes(b"not what the record says")
    for place in (old, tmp_path / "new"):
        events = make_captions(CaptionRequest(str(undisturbed), str(place), str(tiny_encoder), workers=0))
        assert isinstance(next(events), completion.Estimate)
        with small_files(3_000), pytest.raises(UserError, match="refuses files of this size; make room"):
            completion.finish(events)
        assert not list(place.glob(".*"))
    assert spoilt.read_bytes() == b"not what the record says" and not list(
        (tmp_path / "new").rglob("*.parquet")
    )
    for place in (old, tmp_path / "new"):
        make_tables(undisturbed, place, tiny_encoder)
        assert tar_hashes(place, ".parquet") == whole


def test_a_preflight_without_room_for_its_scratch_says_so(
    undisturbed: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    with (
        small_files(3_000),
        pytest.raises(UserError, match=r"the scratch folder .* refuses files of this size; make room"),
    ):
        make_tables(undisturbed, tmp_path / "tables", tiny_encoder)
    assert not (tmp_path / "tables").exists()
