import errno
import os
from pathlib import Path

import fsspec
import pytest

from synth.errors import UserError
from synth.sets import locks, storage
from synth.sets.storage import Folder, Storage, may_pass, open_storage, patiently


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Folder(str(tmp_path / "new" / "place"))
    fsspec.filesystem("memory").store.clear()
    return open_storage("memory://place/set")


def test_what_is_written_is_read(place: Storage) -> None:
    assert place.sizes() == {}
    place.write("a.json", b"123")
    place.write("b.tar", b"4567")
    assert place.sizes() == {"a.json": 3, "b.tar": 4}
    assert place.read("a.json") == b"123"
    assert place.read_many(["a.json", "b.tar"]) == {"a.json": b"123", "b.tar": b"4567"}
    with place.open("b.tar") as file:
        file.seek(2)
        assert file.read() == b"67"
    place.remove(["a.json", "never.json"])
    assert place.sizes() == {"b.tar": 4}


def test_nothing_appears_before_the_block_ends_well(place: Storage) -> None:
    place.write("a", b"old")
    with pytest.raises(KeyError), place.staged("a") as path:
        Path(path).write_bytes(b"half")
        assert place.sizes() == {"a": 3}
        raise KeyError
    assert place.read("a") == b"old" and place.sizes() == {"a": 3}


def test_missing_files_are_not_found(place: Storage) -> None:
    place.write("a", b"")
    with pytest.raises(FileNotFoundError):
        place.read("b")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        Folder(str(tmp_path)).exclusive(),
        pytest.raises(UserError, match="another run is writing"),
        Folder(str(tmp_path)).exclusive(),
    ):
        pass


def test_a_writer_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    with Folder(str(tmp_path / "a" / "b")).exclusive():
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()


def test_a_refused_writer_does_not_remove_the_folder_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(file: int) -> bool:
        raise BlockingIOError

    monkeypatch.setattr(locks, "lock", held)
    with pytest.raises(UserError, match="another run is writing"), Folder(str(tmp_path / "a")).exclusive():
        pass
    assert (tmp_path / "a").is_dir()


def test_leftovers_of_killed_writers_are_not_seen_and_go(tmp_path: Path) -> None:
    left = tmp_path / ".x-000001.tar.0123abcd.tmp"
    left.write_bytes(b"half")
    (folder := tmp_path / ".table.0123abcd.tmp").mkdir()
    (folder / "00000.csv").write_bytes(b"half")
    (tmp_path / ".mine.tmp").write_bytes(b"")
    assert Folder(str(tmp_path)).sizes() == {".mine.tmp": 0}
    with Folder(str(tmp_path)).exclusive():
        assert not left.exists() and not folder.exists() and (tmp_path / ".mine.tmp").exists()


def test_a_folder_is_filled_whole_or_not_at_all(tmp_path: Path) -> None:
    place = Folder(str(tmp_path / "new" / "place"))
    with pytest.raises(KeyError), place.filled() as scratch:
        scratch.write("a", b"1")
        raise KeyError
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / "place").mkdir()
    with place.filled() as scratch:
        scratch.write("a", b"1")
        assert place.sizes() == {}
    assert place.sizes() == {"a": 1} and [p.name for p in (tmp_path / "new").iterdir()] == ["place"]
    with pytest.raises(UserError, match="already holds files; give another folder"), place.filled():
        pass


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "is full; make room"),
        (errno.EDQUOT, "over its quota"),
        (errno.EACCES, "may not be"),
        (errno.EROFS, "may not be"),
    ],
)
def test_failures_of_a_disk_get_a_sentence(
    number: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError(number, "so it is")

    monkeypatch.setattr(storage, "sync", fail)
    with pytest.raises(UserError, match=sentence):
        Folder(str(tmp_path)).write("a", b"1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["foo://x/y", "gs://x/y"])
def test_unknown_schemes_are_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"unknown URL scheme|needs another package"):
        open_storage(url)


def test_the_web_is_only_read() -> None:
    with pytest.raises(UserError, match="can only be read"), open_storage("https://localhost/x").exclusive():
        pass


class StatusError(Exception):
    def __init__(self, code: int) -> None:
        self.response = {"ResponseMetadata": {"HTTPStatusCode": code}}


def test_passing_failures_are_told_from_lasting_ones() -> None:
    passing = [
        TimeoutError(),
        ConnectionResetError(),
        OSError(errno.EBUSY, ""),
        StatusError(503),
        StatusError(429),
        StatusError(500),
    ]
    lasting = [
        PermissionError(),
        FileNotFoundError(),
        OSError(errno.ENOSPC, ""),
        StatusError(403),
        StatusError(404),
        ValueError(),
        UserError("x"),
    ]
    assert all(map(may_pass, passing)) and not any(map(may_pass, lasting))


def test_passing_failures_are_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("synth.sets.storage.time.sleep", pauses.append)
    failures = [TimeoutError(), StatusError(503)]

    def action() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert patiently(action) == "done"
    assert pauses == [0.5, 1.0]
    with pytest.raises(PermissionError):
        patiently(lambda: (_ for _ in ()).throw(PermissionError()))
    assert len(pauses) == 2


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that a power cut asks for: the file, its new name, the folder's entries."""
    steps: list[str] = []
    rename = os.replace

    def renamed(source: str, target: str) -> None:
        steps.append("rename")
        rename(source, target)

    monkeypatch.setattr(
        os, "fsync", lambda handle: steps.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
    )
    monkeypatch.setattr(os, "replace", renamed)
    Folder(str(tmp_path)).write("a.json", b"{}")
    assert steps[0].startswith(".a.json.") and steps[1:] == ["rename", tmp_path.name]
