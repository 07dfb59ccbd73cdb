import dataclasses
import errno
import json
import shutil
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from synth import datasets, pipeline
from synth.errors import UserError
from synth.families import visual_atoms
from synth.recipe import DrawError
from synth.sets import storage
from synth.sets.ledger import manifest_digest
from synth.sets.shards import ShardSet
from tests.kit import invoke, make_small, pictures, tar_hashes


def stamps(out: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in out.iterdir()}


def test_a_finished_set_is_whole(undisturbed: Path) -> None:
    names = {p.name for p in undisturbed.iterdir()}
    tars = {f"visual_atoms-{i:06d}{e}" for i in range(3) for e in (".tar", ".json")}
    assert names == tars | {"manifest.json", "README.md", "croissant.json", "preview.png", "SHA256SUMS"}
    shard_set = ShardSet(str(undisturbed))
    assert [p["sha256"] for p in shard_set.manifest["parts"]] == list(tar_hashes(undisturbed).values())


@pytest.mark.parametrize("shard_size", [1, 7, 4096])
def test_shard_size_changes_no_picture(undisturbed: Path, tmp_path: Path, shard_size: int) -> None:
    make_small(tmp_path, shard_size=shard_size)
    assert pictures(tmp_path) == pictures(undisturbed)


def test_seed_and_settings_change_pictures(undisturbed: Path, tmp_path: Path) -> None:
    make_small(tmp_path / "a", seed=1)
    make_small(tmp_path / "b", settings=("canvas=64", "orbits=1,21"))
    first, second, third = pictures(undisturbed), pictures(tmp_path / "a"), pictures(tmp_path / "b")
    assert sum(first[k] == second[k] for k in first) <= 4  # a few are empty
    assert first != third


def test_the_class_law(tmp_path: Path) -> None:
    make_small(tmp_path, settings=("canvas=64", "orbits=1,9", "classes=3"), samples=8)
    shard_set = ShardSet(str(tmp_path))
    metadata = [s.metadata for shard in shard_set.shards for s in shard_set.read(shard)]
    assert [(m["class"], m["instance"]) for m in metadata] == [(i % 3, i // 3) for i in range(8)]
    params = [m["params"] for m in metadata]
    shared = [f.name for f in dataclasses.fields(visual_atoms.Class)]
    assert all(params[i][n] == params[i + 3][n] for i in range(5) for n in shared)
    assert len({p["noise_key"] for p in params}) == 8


def test_a_finished_run_does_nothing(finished: Path) -> None:
    before = stamps(finished)
    assert make_small(finished).pictures == 0
    assert stamps(finished) == before


def test_a_set_grows_without_changing(undisturbed: Path, finished: Path, tmp_path: Path) -> None:
    untouched = (finished / "visual_atoms-000000.tar").stat().st_mtime_ns
    assert make_small(finished, samples=70).pictures == 16 + 16 + 6  # the partial shard is drawn again
    assert (finished / "visual_atoms-000000.tar").stat().st_mtime_ns == untouched
    make_small(tmp_path / "at once", samples=70)
    assert tar_hashes(finished) == tar_hashes(tmp_path / "at once")
    grown = pictures(finished)
    assert {k: grown[k] for k in list(grown)[:40]} == pictures(undisturbed)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"size": 16}, "size is 32 there and 16 here"),
        ({"codec": "webp"}, "codec is png there and webp here"),
        ({"settings": ("canvas=128", "orbits=1,20")}, "config.canvas is 64 there and 128 here"),
        ({"samples": 39}, "already holds 40 samples, more than the 39 asked for"),
    ],
)
def test_changed_arguments_are_refused_and_nothing_is_touched(
    finished: Path, change: dict, sentence: str
) -> None:
    before = stamps(finished)
    with pytest.raises(UserError, match=sentence):
        make_small(finished, **change)
    assert stamps(finished) == before


def test_another_law_is_refused(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visual_atoms, "LAW", 2)
    with pytest.raises(UserError, match="law is 1 there and 2 here"):
        make_small(finished)


def test_overwrite_replaces_the_set_and_only_it(finished: Path, tmp_path: Path) -> None:
    (finished / "notes.txt").write_text("mine")
    make_small(finished, seed=1, samples=20, overwrite=True)
    make_small(tmp_path / "fresh", seed=1, samples=20)
    assert tar_hashes(finished) == tar_hashes(tmp_path / "fresh")
    assert (finished / "notes.txt").read_text() == "mine"


def test_a_spoilt_or_lost_shard_is_drawn_again(undisturbed: Path, finished: Path) -> None:
    with (finished / "visual_atoms-000001.tar").open("ab") as file:
        file.write(b"more")
    (finished / "visual_atoms-000002.tar").unlink()
    assert make_small(finished).pictures == 24
    assert tar_hashes(finished) == tar_hashes(undisturbed)


def test_a_tar_without_record_is_not_trusted(undisturbed: Path, finished: Path) -> None:
    (finished / "manifest.json").unlink()
    (finished / "visual_atoms-000000.json").unlink()
    (finished / "visual_atoms-000000.tar").write_bytes(b"left over")
    (finished / "visual_atoms-000009.tar").write_bytes(b"left over")
    assert make_small(finished).pictures == 16
    assert tar_hashes(finished) == tar_hashes(undisturbed)


def test_tars_without_any_record_are_left_alone(finished: Path) -> None:
    for path in finished.glob("*.json"):
        path.unlink()
    before = stamps(finished)
    with pytest.raises(UserError, match="is not empty and holds no set of exnihilo"):
        make_small(finished, samples=16, seed=1)
    assert stamps(finished) == before


def test_a_growth_that_was_broken_off_does_not_shrink_the_set(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.ledger, "begin", kill_after(0, None, first=pipeline.ledger.begin))
    with pytest.raises(KeyboardInterrupt):
        make_small(finished, samples=70)
    monkeypatch.undo()
    with pytest.raises(UserError, match="already holds 40 samples, more than the 32 asked for"):
        make_small(finished, samples=32)
    assert make_small(finished, samples=40).pictures == 8


def test_an_overwrite_that_was_broken_off_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finished / "notes.txt").write_text("mine")
    for step, calls in (("begin", 0), ("write_record", 1)):
        monkeypatch.setattr(pipeline.ledger, step, kill_after(calls, getattr(pipeline.ledger, step)))
        with pytest.raises(KeyboardInterrupt):
            make_small(finished, seed=1, overwrite=True)
        monkeypatch.undo()
    make_small(finished, seed=1, overwrite=True)
    make_small(tmp_path / "fresh", seed=1)
    assert tar_hashes(finished) == tar_hashes(tmp_path / "fresh")
    assert (finished / "notes.txt").read_text() == "mine"
    assert make_small(finished, seed=1, overwrite=True).pictures == 0


@pytest.mark.parametrize("change", [{"samples": 70}, {"seed": 1, "overwrite": True}])
def test_an_engine_that_does_not_start_changes_nothing(
    finished: Path, change: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("Ray does not start here")

    monkeypatch.setattr(pipeline.completion.parallel, "ray_session", fail)
    before = stamps(finished)
    with pytest.raises(UserError, match="does not start"):
        make_small(finished, workers=2, **change)
    assert stamps(finished) == before


def test_a_run_that_dies_while_growing_leaves_no_set_but_a_resumable_place(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.ledger, "write_record", kill_after(2, pipeline.ledger.write_record))
    with pytest.raises(KeyboardInterrupt):
        make_small(finished, samples=70)
    monkeypatch.undo()
    with pytest.raises(UserError, match="holds no finished set"):
        ShardSet(str(finished))
    with pytest.raises(UserError, match="seed is 0 there and 7 here"):
        make_small(finished, samples=70, seed=7)
    assert make_small(finished, samples=70).pictures == 16 + 6
    assert len(pictures(finished)) == 70


def kill_after(calls: int, action, first=None):  # type: ignore[no-untyped-def]
    def dying(*args):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls -= 1
        if calls < 0:
            if first:
                first(*args)
            raise KeyboardInterrupt
        return action(*args)

    return dying


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    out, settings = str(tmp_path / "x"), ("canvas=64",)
    request = pipeline.RenderRequest("visual_atoms", 1000, out, size=32, settings=settings)
    estimate = pipeline.estimate(request)
    assert estimate.pictures == 1000 and estimate.seconds > 0 and not (tmp_path / "x").exists()
    assert 1000 * 1024 < estimate.bytes < 1000 * 4096


def test_too_little_space_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.Folder, "free_bytes", lambda _: 1000)
    with pytest.raises(UserError, match=r"has 1,000 bytes free and needs about \d+,\d\d\d; make room"):
        make_small(tmp_path / "x")
    assert not (tmp_path / "x").exists()


class FullStore(MemoryFileSystem):
    """An object store that takes no more than two shards, and stumbles at every third upload."""

    protocol = "full"
    room = 2
    uploads = 0

    def put_file(self, lpath, rpath, **options):  # type: ignore[no-untyped-def]
        FullStore.uploads += 1
        if FullStore.uploads % 3 == 0:
            raise TimeoutError("try again")
        if rpath.endswith(".tar"):
            if FullStore.room == 0:
                raise OSError(errno.ENOSPC, "no room")
            FullStore.room -= 1
        super().put_file(lpath, rpath, **options)


def test_a_full_store_stops_the_run_which_goes_on_when_there_is_room(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    fsspec.register_implementation("full", FullStore, clobber=True)
    FullStore.store.clear()
    with pytest.raises(UserError, match="full://set is full; make room, then give the same command again"):
        make_small("full://set")
    assert len(tar_hashes("full://set")) == 2
    FullStore.room = 9
    assert make_small("full://set").pictures == 8
    assert tar_hashes("full://set") == tar_hashes(undisturbed)
    FullStore.store.clear()


def test_a_failing_picture_is_named_with_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render = visual_atoms.render

    def fail(params: visual_atoms.Params, size: int):  # type: ignore[no-untyped-def]
        if params.noise_key == bad:
            raise ZeroDivisionError("an edge")
        return render(params, size)

    settings = ("canvas=64", "orbits=1,20")
    config = pipeline.recipe_of(pipeline.RenderRequest("visual_atoms", 80, "x", settings=settings)).config
    bad = datasets.sample_params(datasets.get("visual_atoms"), config, seed=0, index=70).noise_key
    monkeypatch.setattr(visual_atoms, "render", fail)
    sentence = r"visual_atoms-000004\.tar: picture 70 could not be drawn: ZeroDivisionError: an edge"
    with pytest.raises(DrawError, match=sentence):
        make_small(tmp_path, samples=80)
    monkeypatch.undo()
    assert make_small(tmp_path, samples=80).pictures == 16


def test_the_digest_is_the_same_wherever_a_set_was_made(undisturbed: Path, tmp_path: Path) -> None:
    make_small(tmp_path)
    assert ShardSet(str(tmp_path)).digest == ShardSet(str(undisturbed)).digest
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest_digest(manifest) == ShardSet(str(tmp_path)).digest


def test_card_and_croissant_say_what_lies_there(undisturbed: Path) -> None:
    card = (undisturbed / "README.md").read_text()
    shard_set = ShardSet(str(undisturbed))
    assert "CC0-1.0" in card and shard_set.digest in card and "one grey channel" in card
    assert "use at most 3 workers" in card
    croissant = json.loads((undisturbed / "croissant.json").read_text())
    files = {f["name"]: f["sha256"] for f in croissant["distribution"] if f["@type"] == "cr:FileObject"}
    assert files == tar_hashes(undisturbed)


def test_the_command_of_the_card_makes_the_same_set(undisturbed: Path, tmp_path: Path) -> None:
    from synth.cli import app

    card = (undisturbed / "README.md").read_text()
    command = card.split("```\n")[-2].replace("\\\n", " ").replace("DIR", str(tmp_path)).split()
    assert command[:3] == ["python", "-m", "synth"]
    assert invoke(app, *command[3:], "--workers", 0).exit_code == 0
    assert tar_hashes(tmp_path) == tar_hashes(undisturbed)


def test_a_copy_is_a_set(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "copy")
    assert make_small(tmp_path / "copy").pictures == 0
