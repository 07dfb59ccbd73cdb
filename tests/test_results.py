"""The figures of a run on disk, and the crashes and full disks that they survive."""

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from evaluate import results
from synth.errors import UserError

ROWS = [{"metric": "FID", "value": 1.5, "n": 4, "images_seen": i} for i in range(3)]
WHOLE = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def written(run: Path, data: bytes) -> Path:
    (run / results.NAME).write_bytes(data)
    return run


def test_rows_come_back_in_their_order(tmp_path: Path) -> None:
    for row in ROWS:
        results.append(tmp_path, row)
    assert (tmp_path / results.NAME).read_bytes() == WHOLE
    assert results.read(tmp_path) == ROWS


def test_a_row_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Counted(io.FileIO):
        def write(self, data: Any) -> int:
            sizes.append(len(data))
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda path, mode, buffering=-1: Counted(path, mode.replace("b", "")))
    long = {**ROWS[0], "notes": ["x" * 100_000]}
    results.append(tmp_path, long)
    assert sizes == [(tmp_path / results.NAME).stat().st_size] and results.read(tmp_path) == [long]


@pytest.mark.parametrize("cut", range(1, len(WHOLE) // 3 + 1))
def test_a_last_line_that_a_crash_tore_is_left_out_and_the_next_row_replaces_it(
    tmp_path: Path, cut: int
) -> None:
    run = written(tmp_path, WHOLE[:-cut])
    kept = ROWS if cut == 1 else ROWS[:2]
    assert results.read(run) == kept
    results.append(run, {"metric": "KID"})
    assert results.read(run) == [*kept, {"metric": "KID"}]
    assert (run / results.NAME).read_bytes().endswith(b'}\n{"metric": "KID"}\n')


@pytest.mark.parametrize("line", [b"{", b"12", b'{"metric": "FID"', b"\xff\xfe", b"null"])
def test_a_damaged_line_in_the_middle_gets_a_sentence(tmp_path: Path, line: bytes) -> None:
    run = written(tmp_path, WHOLE + line + b"\n" + WHOLE)
    with pytest.raises(UserError, match=r"line 4 of .*metrics.jsonl is damaged; remove that line"):
        results.read(run)


@pytest.mark.parametrize(
    "row", [{"value": 1.5}, {**ROWS[0], "value": "low"}, {**ROWS[0], "images_seen": None}]
)
def test_a_row_without_a_figure_gets_a_sentence(tmp_path: Path, row: dict[str, Any]) -> None:
    run = written(tmp_path, WHOLE + json.dumps(row).encode() + b"\n")
    with pytest.raises(UserError, match=r"metrics.jsonl has a line without a figure: {.*}; remove that line"):
        results.read(run)


def test_a_place_that_takes_no_figures_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / results.NAME).mkdir()
    with pytest.raises(UserError, match=r"metrics.jsonl is no file; remove it, or copy the run without it"):
        results.require_place(tmp_path)


def test_empty_lines_are_no_rows(tmp_path: Path) -> None:
    assert results.read(written(tmp_path, b"\n" + WHOLE + b"\n\n")) == ROWS


def test_a_run_without_figures_gets_a_sentence(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            UserError,
            match=r"has no metrics.jsonl; `python -m evaluate metrics .* --on SET` writes it",
        ):
            results.read(place)


def test_a_full_disk_tears_a_line_that_readers_leave_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, truncate = written(tmp_path, WHOLE), os.truncate

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[: len(data) // 2])

    with monkeypatch.context() as full:
        full.setattr(Path, "open", lambda path, mode, buffering=-1: Full(path, mode.replace("b", "")))
        with pytest.raises(
            UserError, match="could not be written to its end; make room, then run the command again"
        ):
            results.append(run, ROWS[0])
    assert results.read(run) == ROWS
    assert (run / results.NAME).stat().st_size > len(WHOLE)

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as broken:
        broken.setattr(os, "truncate", fail)
        with pytest.raises(UserError, match="cannot be used now: Input/output error; run the command again"):
            results.append(run, ROWS[0])
    assert truncate is os.truncate and results.read(run) == ROWS
    results.append(run, ROWS[0])
    assert results.read(run) == [*ROWS, ROWS[0]]


def test_rows_of_a_command_are_added_by_one_write(tmp_path: Path) -> None:
    results.append(tmp_path, ROWS[0])
    written(tmp_path, (tmp_path / results.NAME).read_bytes() + b'{"torn": ')
    results.append(tmp_path, *ROWS[1:])
    assert results.read(tmp_path) == ROWS
