import json
import time
from pathlib import Path

import pytest

from synth.errors import UserError
from synth.sets import ledger, shards
from synth.sets.records import Part, Record
from synth.sets.storage import Folder

IDENTITY: ledger.Json = {"dataset": "toy", "config": {"classes": 10}, "seed": 0}


OURS = ledger.digest(IDENTITY)


def record(number: int, *, count: int = 4, size: int = 3, seed: int = 0) -> Record:
    identity = {**IDENTITY, "seed": seed}
    name = f"toy-{number:06d}.tar"
    return Record(
        name,
        number,
        number * 4,
        count,
        size,
        "00",
        ledger.digest(identity),
        identity,
        run={"seconds": number},
    )


def planned(number: int, *, count: int = 4, content: ledger.Json | None = None) -> Part:
    return Part(f"toy-{number:06d}.tar", number, number * 4, count, content or {})


def place(tmp_path: Path, *records: Record) -> Folder:
    folder = Folder(str(tmp_path))
    for r in records:
        folder.write(r.file, b"x" * r.bytes)
        ledger.write_record(folder, r)
    return folder


def test_a_part_is_done_when_its_record_agrees_with_its_size(tmp_path: Path) -> None:
    folder = place(tmp_path, record(0), record(1))
    folder.write("toy-000001.tar", b"short"[:2])
    folder.write("toy-000002.tar", b"xyz")
    state = ledger.load(folder)
    assert [state.done(planned(i), OURS) for i in range(3)] == [True, False, False]
    assert not state.done(planned(0, content={"shard": "00"}), OURS)
    assert not state.done(planned(0, count=3), OURS) and not state.done(planned(0), "another")


WHOLE = record(1)


@pytest.mark.parametrize(
    "data",
    [
        b'{"file": "toy-0',
        b"[]",
        b'{"file": "toy-000001.tar", "sort": 2}',
        *(
            ledger.canonical({**vars(WHOLE), name: value})
            for name, value in (
                ("identity", None),
                ("run", []),
                ("run", {"parts": "two"}),
                ("content", {"left_out": 3}),
                ("bytes", "3"),
                ("file", "../toy-000001.tar"),
            )
        ),
    ],
)
def test_what_is_called_a_record_and_is_none_is_not_passed_over(tmp_path: Path, data: bytes) -> None:
    folder = place(tmp_path, record(0), record(1))
    folder.write("toy-000001.json", data)
    with pytest.raises(UserError, match=r"toy-000001\.json is no record that this version of exnihilo reads"):
        ledger.load(folder)


def test_another_identity_is_refused_with_what_differs(tmp_path: Path) -> None:
    folder = place(tmp_path, record(0))
    other = {"dataset": "toy", "config": {"classes": 12}, "seed": 1}
    differences = r"config\.classes is 10 there and 12 here; seed is 0 there and 1 here"
    with pytest.raises(UserError, match=f"{differences}; give another --out"):
        ledger.require_same(ledger.load(folder), folder, other, 100)


def test_sets_only_grow(tmp_path: Path) -> None:
    folder = place(tmp_path, record(0), record(1))
    state = ledger.load(folder)
    ledger.require_same(state, folder, IDENTITY, 8)
    ledger.require_same(state, folder, IDENTITY, 100)
    with pytest.raises(UserError, match="already holds 8 samples, more than the 7 asked for"):
        ledger.require_same(state, folder, IDENTITY, 7)


@pytest.mark.parametrize("name", ["thesis.tex", "toy-000000.tar"])
def test_a_folder_without_any_record_is_somebody_elses(tmp_path: Path, name: str) -> None:
    folder = Folder(str(tmp_path))
    folder.write(name, b"")
    with pytest.raises(UserError, match=rf"is not empty and holds no set of exnihilo \({name} lies there\)"):
        ledger.require_same(ledger.load(folder), folder, IDENTITY, 8)


def test_a_claim_says_whose_place_it_is_as_soon_as_there_is_data(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    claim = ledger.claim("toy-000000.tar", IDENTITY)
    ledger.begin(ledger.load(folder), folder, claim, ["toy-000000.tar"])
    other = {**IDENTITY, "seed": 1}
    ledger.require_same(ledger.load(folder), folder, other, 8)  # nothing there to be lost
    folder.write("toy-000003.tar", b"data")
    ledger.require_same(ledger.load(folder), folder, IDENTITY, 1)
    with pytest.raises(UserError, match="seed is 0 there and 1 here"):
        ledger.require_same(ledger.load(folder), folder, other, 8)


@pytest.mark.parametrize("names", [["toy-000000.tar"], ["other-000000.tar", "other-000001.tar"]])
def test_a_claim_gives_way_to_another_set_which_then_resumes(tmp_path: Path, names: list[str]) -> None:
    folder, other = Folder(str(tmp_path)), {**IDENTITY, "seed": 1}
    for name in names:
        ledger.write_record(folder, ledger.claim(name, other))
    ledger.begin(ledger.load(folder), folder, ledger.claim("toy-000000.tar", IDENTITY), ["toy-000000.tar"])
    assert sorted(folder.sizes()) == ["toy-000000.json"]
    folder.write("toy-000000.tar", b"data")
    ledger.require_same(ledger.load(folder), folder, IDENTITY, 8)


def test_opening_a_set_again_takes_the_manifest_and_the_marks_but_no_data(tmp_path: Path) -> None:
    folder = place(tmp_path, record(0), record(1, count=2))
    ledger.write_manifest(folder, ledger.manifest([record(0), record(1, count=2)], IDENTITY, {}, {}))
    claim = ledger.claim("toy-000000.tar", IDENTITY)
    ledger.begin(ledger.load(folder), folder, claim, ["toy-000001.tar", "toy-000002.tar"])
    state = ledger.load(folder)
    assert state.manifest is None and state.sizes.keys() >= {"toy-000000.tar", "toy-000001.tar"}
    assert state.done(planned(0), OURS) and not state.done(planned(1, count=2), OURS)
    with pytest.raises(UserError, match="already holds 6 samples, more than the 5 asked for"):
        ledger.require_same(state, folder, IDENTITY, 5)  # what was promised is still promised


def test_another_set_goes_with_what_its_records_name_and_nothing_else(tmp_path: Path) -> None:
    folder = place(tmp_path, record(0), record(1))
    ledger.write_manifest(folder, ledger.manifest([record(0), record(1)], IDENTITY, {}, {}))
    folder.write("README.md", b"card")
    folder.write("notes.txt", b"mine")
    ledger.replace_by(ledger.load(folder), folder, ledger.claim("toy-000000.tar", {"seed": 9}), ["README.md"])
    assert sorted(folder.sizes()) == ["notes.txt", "toy-000000.json"]
    assert ledger.load(folder).records["toy-000000.tar"].identity == {"seed": 9}


def test_the_digest_ignores_how_a_run_went_and_nothing_else() -> None:
    manifest = ledger.manifest([record(1), record(0)], IDENTITY, {"licence": "CC0-1.0"}, {"host": "a"})
    assert [p["number"] for p in manifest["parts"]] == [0, 1]
    digest = ledger.manifest_digest(manifest)
    manifest["run"] = {"host": "b"}
    manifest["parts"][0]["run"] = {"seconds": 99}
    assert ledger.manifest_digest(manifest) == digest
    manifest["parts"][0]["sha256"] = "01"
    assert ledger.manifest_digest(manifest) != digest


def test_unfinished_and_damaged_sets_are_not_read(tmp_path: Path) -> None:
    folder = place(tmp_path, record(0))
    with pytest.raises(UserError, match=r"has no manifest\.json: it holds no finished set"):
        ledger.read_manifest(folder)
    folder.write("manifest.json", b"{")
    with pytest.raises(UserError, match="damaged"):
        ledger.read_manifest(folder)
    manifest = ledger.manifest([record(0)], IDENTITY, {}, {})
    changes: list[ledger.Json] = [{"run": None}, {"file": 3}, {"count": "4"}]
    for change in changes:
        ledger.write_manifest(folder, {**manifest, "parts": [{**manifest["parts"][0], **change}]})
        with pytest.raises(UserError, match="damaged"):
            ledger.load(folder)


class Counting(Folder):
    """A folder that counts the files that are read."""

    reads = 0

    def read(self, name: str) -> bytes:
        self.reads += 1
        return super().read(name)


@pytest.mark.parametrize("shard_size", [4096, pytest.param(64, marks=pytest.mark.soak)])
def test_a_million_finished_pictures_are_recognised_in_five_seconds(tmp_path: Path, shard_size: int) -> None:
    """Each record is read once, and of a set with a manifest nothing else."""
    plan = shards.plan("toy", 1_000_000, shard_size)
    records = [
        Record(s.file, s.number, s.first, s.count, 1, "0" * 64, ledger.digest(IDENTITY), IDENTITY)
        for s in plan
    ]
    for r in records:  # tars of a byte and hand-written records: planning needs no pictures
        (tmp_path / r.file).write_bytes(b"x")
        (tmp_path / r.name).write_bytes(json.dumps(vars(r)).encode())
    for reads in (len(plan), 1):
        folder, begun = Counting(str(tmp_path)), time.process_time()
        state = ledger.load(folder)
        ledger.require_same(state, folder, IDENTITY, 1_000_000)
        assert all(state.done(s, OURS) for s in plan)
        assert time.process_time() - begun < 5 and folder.reads == reads
        ledger.write_manifest(folder, ledger.manifest(records, IDENTITY, {}, {}))
