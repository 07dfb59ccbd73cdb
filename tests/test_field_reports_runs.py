"""Faults of field reports, by kind: lost batches, signals, late refusals, failed writes, drawn texts."""

import errno
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from caption.audit import plots, sheet
from caption.audit.gallery import TableRow
from evaluate import curves, detectors, results, tables
from evaluate.cli import app as evaluate_app
from evaluate.experiments import rows
from evaluate.experiments.demo import app as demo_app
from synth import console
from synth.errors import UserError
from synth.images import lettering
from synth.sets.storage import Folder
from tests import kit_readers
from tests.kit import children, invoke, make_tables, write_foreign
from tests.kit_train import PSEUDO, SETTINGS, quiet, refused, stream, weights
from train import checkpoint, log, runs
from train import export as exporting
from train.cli import app as train_app
from train.distributed import Ranks
from train.loop import Step, Tick
from train.sampling import grid
from train.start.request import TrainRequest
from train.start.training import train
from train.stream import processes
from train.stream.visits import Text

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def request_of(undisturbed: Path, captioned: Path, tmp_path: Path) -> Callable[..., TrainRequest]:
    """Returns requests of a small run in tmp_path/run."""
    return partial(
        TrainRequest,
        preset="tiny-32",
        shards=(str(undisturbed),),
        out=str(tmp_path / "run"),
        captions=(str(captioned),),
        images=64,
        settings=SETTINGS,
    )


# A batch that is lost, and waits without an end (row 2).


@pytest.mark.slow
def test_batches_pass_without_shared_memory() -> None:
    before = set(os.listdir("/dev/shm"))
    coming = processes.ahead(kit_readers.squares, range(6), 1)
    for position, squares in enumerate(coming):
        assert (squares == position * position).all()
        # Semaphores of Python are 32 bytes each; torch's batches were files of this size.
        new = [Path("/dev/shm") / name for name in set(os.listdir("/dev/shm")) - before]
        assert all(path.stat().st_size < 4096 for path in new if path.name.startswith(("sem.mp", "torch")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "last", "kind", "sentence"),
    [
        pytest.param(kit_readers.unsendable, 2, TypeError, "cannot pickle", id="unsendable"),
        pytest.param(
            kit_readers.killed, 1, UserError, "a reader process has ended.*again.*workers=0", id="killed"
        ),
        pytest.param(
            kit_readers.short_of_memory, 0, UserError, "memory is too short.*workers=0", id="no memory"
        ),
    ],
)
def test_a_batch_that_is_lost_is_noticed(
    read: processes.Read[int], last: int, kind: type[Exception], sentence: str
) -> None:
    arrived, before = [-1], {pid for pid, _ in children(os.getpid())}
    with pytest.raises(kind, match=sentence):
        for position in processes.ahead(read, range(9), 1):
            arrived.append(position)
    assert arrived == list(range(-1, arrived[-1] + 1)) and arrived[-1] <= last
    assert not {pid for pid, words in children(os.getpid()) if "spawn_main" in words} - before


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_wait_for_a_batch_ends_with_a_signal(workers: int) -> None:
    stopped = threading.Event()
    timer = threading.Timer(0.2 if not workers else 3, stopped.set)
    timer.start()
    assert list(processes.ahead(kit_readers.stuck, range(3), workers, stopped.is_set)) in ([0], [])


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), id="full"),
        pytest.param(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), id="forbidden"),
        pytest.param(ImportError("this platform lacks sem_open"), id="without semaphores"),
    ],
)
def test_reader_processes_that_cannot_start_are_explained(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(processes, "ProcessPoolExecutor", failing)
    with pytest.raises(UserError, match=r"/dev/shm has [0-9.,]+ MB.*--set run\.workers=0"):
        next(processes.ahead(kit_readers.squares, range(3), 1))
    assert (next(processes.ahead(kit_readers.squares, range(3), 0)) == 0).all()


def test_a_run_that_waits_for_data_ends_with_a_signal_and_a_checkpoint(
    request_of: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from train.stream.reader import Reader

    whole, end = Reader.__call__, threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGTERM))

    def slow(self: Reader, position: int) -> Any:
        if position >= 24:
            end.start()  # by then the steps before have been taken
            time.sleep(60)
        return whole(self, position)

    monkeypatch.setattr(Reader, "__call__", slow)
    assert quiet(request_of()) == signal.SIGTERM
    assert checkpoint.images_seen(checkpoint.require(tmp_path / "run")) == 24


# Signals of terminals and schedulers (row 23).


@pytest.mark.parametrize("number", [pytest.param(n, id=n.name) for n in console.ENDING if n != signal.SIGINT])
def test_every_signal_that_ends_a_run_leaves_a_checkpoint(
    request_of: Callable[..., TrainRequest], tmp_path: Path, number: int
) -> None:
    events = train(request_of())
    for event in events:
        if isinstance(event, Step):
            os.kill(os.getpid(), number)
            break
    last = list(events)[-1]
    assert getattr(last, "signal", 0) == number
    assert checkpoint.images_seen(checkpoint.require(tmp_path / "run")) == 8


def test_an_ignored_signal_stays_ignored() -> None:
    """`nohup` ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        replaced = console.on_ending(lambda number, frame: None)
        assert signal.SIGHUP not in replaced and signal.SIGTERM in replaced
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def isatty(self) -> bool:
            return False

        def write(self, text: str) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        def flush(self) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sys, "stderr", Closed())
    with console.Bar("images") as bar:
        bar.start(10)
        bar.advance(5)
        console.note("a line")


# Leaked semaphores (row 24). Besides, every end of two ranks in test_training.py is quiet.


def test_semaphores_that_still_exist_at_the_end_of_a_rank_are_released() -> None:
    script = (
        "import multiprocessing; from train.cli import _end_at_once; "
        "lock = multiprocessing.get_context('spawn').Lock(); _end_at_once(3)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 3 and run.stderr == "", run.stderr


# What can be known before the first step, and what ends a run (row 6).


@pytest.fixture(scope="module")
def captioned_in_part(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> tuple[str, str]:
    """A foreign set with one sample without caption, and its tables."""
    out = tmp_path_factory.mktemp("in-part")
    texts = [{"txt": f"picture {i}".encode()} if i != 7 else {} for i in range(24)]
    make_tables(write_foreign(out / "s", texts, sizes=(32,)), out / "t", tiny_encoder)
    return str(out / "s"), str(out / "t")


def test_a_missing_caption_is_refused_before_the_first_step_and_the_advice_works(
    captioned_in_part: tuple[str, str], tmp_path: Path
) -> None:
    shards, tables = captioned_in_part
    request = TrainRequest(
        "tiny-32", (shards,), str(tmp_path / "run"), (tables,), images=16, settings=SETTINGS
    )
    sentence = r"1 of 24 samples have no caption, such as \S+7 of .*00000\.tar; give --text mix:1, which"
    refused(replace(request, text="caption"), sentence)
    refused(replace(request, settings=(*SETTINGS, "data.text=caption")), sentence)
    assert quiet(replace(request, text="mix:1")) == 0


def test_only_samples_that_are_shown_need_a_caption(captioned_in_part: tuple[str, str]) -> None:
    def refused_at(seed: int) -> bool:
        visit = replace(PSEUDO, text=Text.parse("caption"), seed=seed)
        source = stream(*captioned_in_part, visit, fraction=0.5)
        try:
            source.require_whole()
        except UserError:
            return True
        return False

    def shows(seed: int) -> bool:
        source = stream(*captioned_in_part, replace(PSEUDO, seed=seed), fraction=0.5)
        return 7 in {place.row for place in source.order.places(0, source.order.samples or 0)}

    assert [refused_at(seed) for seed in range(8)] == [shows(seed) for seed in range(8)]
    assert len({shows(seed) for seed in range(8)}) == 2


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda s, t: next(s.glob("*2.tar")).unlink(), "is missing though", id="tar missing"),
        pytest.param(lambda s, t: os.truncate(next(s.glob("*2.tar")), 512), "has 512 bytes", id="tar cut"),
        pytest.param(lambda s, t: next(t.rglob("*1.parquet")).unlink(), "is missing though", id="no table"),
        pytest.param(lambda s, t: os.truncate(next(t.rglob("*1.parquet")), 9), "has 9 bytes", id="table cut"),
    ],
)
def test_missing_and_cut_files_are_refused_before_the_first_step(
    finished: Path, captioned: Path, tmp_path: Path, spoil: Callable[[Path, Path], None], sentence: str
) -> None:
    tables = Path(shutil.copytree(captioned, tmp_path / "t"))
    spoil(finished, tables)
    out = str(tmp_path / "run")
    refused(TrainRequest("tiny-32", (str(finished),), out, (str(tables),), settings=SETTINGS), sentence)


def test_a_full_disk_is_known_before_the_first_step_and_the_advice_works(
    request_of: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quiet(request_of(images=8)) == 0
    [written] = checkpoint.committed(Path(request_of().out))
    full = sum(path.stat().st_size for path in written.iterdir())
    monkeypatch.setattr(Folder, "free_bytes", lambda self: int(3.5 * full))
    settings = (*SETTINGS, "run.checkpoint=8")
    with pytest.raises(UserError, match=r"the checkpoints of this run take .* free; make room, or") as error:
        quiet(request_of(images=400, settings=settings))
    advice = str(error.value).rsplit("--set ", 1)[1]
    assert quiet(request_of(images=48, settings=(*SETTINGS, advice))) == 0
    monkeypatch.setattr(Folder, "free_bytes", lambda self: full)
    with pytest.raises(UserError, match="free; make room, or give another --out"):
        quiet(request_of(images=400, settings=settings))


def test_a_run_that_fails_writes_a_checkpoint_and_goes_on_to_the_same_end(
    request_of: Callable[..., TrainRequest], finished: Path, tmp_path: Path
) -> None:
    undisturbed = request_of(shards=(str(finished),), out=str(tmp_path / "undisturbed"))
    assert quiet(undisturbed) == 0
    tar = finished / "visual_atoms-000001.tar"
    whole = tar.read_bytes()
    at = whole.rindex(b"IDAT")
    tar.write_bytes(whole[:at] + b"IDAX" + whole[at + 4 :])
    disturbed = request_of(shards=(str(finished),))
    with pytest.raises(UserError, match="does not decode"):
        quiet(disturbed)
    assert checkpoint.images_seen(checkpoint.require(tmp_path / "run")) in range(8, 64)
    tar.write_bytes(whole)
    assert quiet(disturbed) == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "undisturbed")


@pytest.mark.parametrize("event", ["_tick", "_grid"])
def test_a_log_that_cannot_be_written_ends_a_run_after_a_checkpoint(
    request_of: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, event: str
) -> None:
    whole = getattr(log.Log, event)

    def failing(self: log.Log, *arguments: Any) -> Any:
        if self._last or (event == "_grid" and (tmp_path / "run" / "samples").exists()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(self, *arguments)

    monkeypatch.setattr(log.Log, event, failing)
    with pytest.raises(UserError, match=r"run .*is full"):
        quiet(request_of(settings=(*SETTINGS, "run.samples=32")))
    assert checkpoint.images_seen(checkpoint.require(tmp_path / "run")) == 32


# Writes outside the storage door (row 13).


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Lets no file of this process grow beyond a size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def trained(undisturbed: Path, captioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run."""
    out = tmp_path_factory.mktemp("trained") / "run"
    quiet(
        TrainRequest(
            "tiny-32", (str(undisturbed),), str(out), (str(captioned),), images=32, settings=SETTINGS
        )
    )
    return out


def _write_log(run: Path, out: Path) -> None:
    source = log.Log.__new__(log.Log)
    source._run, source._device, source._last = out, "cpu", 0
    event = Tick(16, {"x" * 6000: 1.0}, 1.0, 1.0, 0.0, 0)
    source.record(event, SimpleNamespace(ranks=Ranks()))  # type: ignore[arg-type]


WRITERS: dict[str, Callable[[Path, Path], Any]] = {
    "export to a file": lambda run, out: exporting.export(str(run), str(out / "g.safetensors")),
    "export to a folder": lambda run, out: exporting.export(str(run), str(out / "exported")),
    "checkpoint": lambda run, out: checkpoint.write(
        out, 8, {"a.safetensors": partial(checkpoint.save_tensors, values={"a": torch.ones(9999)})}, []
    ),
    "state of a checkpoint": lambda run, out: checkpoint.write(
        out, 8, {checkpoint.STATE: partial(checkpoint.save_state, values={"a": "b" * 9999})}, []
    ),
    "log": _write_log,
    "figures": lambda run, out: results.append(out, {"a": "b" * 9999}),
    "grid": lambda run, out: grid.save(
        out / "grid.png", Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8))
    ),
    "rows of an experiment": lambda run, out: rows.add(out / rows.NAME, {"a": "b" * 9999}),
    "curves": lambda run, out: curves.write(
        out / "c.png", {"a": [{"metric": "FID", "images_seen": i, "value": float(i)} for i in range(2)]}
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_write_without_room_is_one_sentence_that_names_the_place(
    trained: Path, tmp_path: Path, writer: str
) -> None:
    with (
        largest_file(4096),
        pytest.raises(UserError, match=r"refuses files of this size|to its end") as error,
    ):
        WRITERS[writer](trained, tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    # An appended file may have a torn line, which readers leave out.
    assert [path for path in left if path.suffix not in (".jsonl", ".json")] == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_target_that_takes_no_files_is_refused_before_the_work(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "file").write_text("")
    if kind == "folder":
        access = os.access
        no_writes = lambda path, mode: mode == os.R_OK and access(path, mode)  # noqa: E731
        monkeypatch.setattr(os, "access", no_writes)
    place = tmp_path / ("file" if kind == "file" else "folder")
    monkeypatch.setattr(runs.Run, "load", lambda *_: pytest.fail("the work has begun"))
    monkeypatch.setattr(detectors, "load", lambda *_, **__: pytest.fail("the work has begun"))
    sentence = "is a file; give a folder" if kind == "file" else "may not be written to"
    actions: list[Callable[[], Any]] = [
        lambda: exporting.export(str(trained), str(place / "g.safetensors")),
        lambda: exporting.export(str(trained), str(place / "exported")),
        lambda: exporting.export_encoder(str(trained), str(place / "encoder")),
        lambda: invoke(train_app, "sample", trained, "a star", "--out", place / "g.png", raising=True),
        lambda: invoke(evaluate_app, "table", 1, trained, "--out", place / "t.md", raising=True),
    ]
    if kind == "folder":
        actions.append(lambda: results.require_place(trained))
    for action in actions:
        with pytest.raises(UserError, match=sentence):
            action()


def test_weights_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        checkpoint.save_tensors(tmp_path / "a.safetensors", {"a": torch.ones(3)})
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o664


# Drawn texts (row 14).

LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
TEXTS = {
    "umlauts": "ein grüner Würfel über Straßen",
    "Cyrillic": "красный фрактал на чёрном фоне",
    "Greek": "ένα κόκκινο αστέρι",
    "decomposed": "ein gru\u0308ner Wu\u0308rfel",
}


def _sheet(texts: list[str]) -> np.ndarray:
    """Returns the sample grid of white pictures with these captions."""
    return np.asarray(grid.captioned(np.full((len(texts), 32, 32, 3), 255, np.uint8), texts))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_letters_of_a_caption_are_no_boxes(text: str) -> None:
    composed = unicodedata.normalize("NFC", text)
    assert lettering.drawable(text) == composed
    assert np.array_equal(_sheet([text]), _sheet([composed]))
    # Every letter has a shape of its own, which the shape of an unknown character is not.
    shapes = {letter: _sheet([letter]).tobytes() for letter in {*composed, "\uffff"} - {" "}}
    assert len(set(shapes.values())) == len(shapes) and lettering.UNKNOWN not in composed


@pytest.mark.parametrize("draw", ["grid", "sheet"])
def test_long_words_stay_under_their_picture(draw: str) -> None:
    if draw == "grid":
        drawn = _sheet([LONG, f"{LONG} {LONG}", "a", LONG])
        gaps = [slice(136 * i, 136 * i + 7) for i in range(1, 5)]
    else:
        pixels = {"k": np.full((32, 32, 3), 255, np.uint8)}
        row = TableRow("k", 0, [(LONG, 0.5), (f"{LONG}, {LONG}", None)], np.ones(2, np.float32), 0.5)
        drawn = np.asarray(sheet.sheet(row, [], pixels, LONG * 3))
        gaps = [slice(sheet.WIDTH - 36, sheet.WIDTH)]
    assert (drawn < 255).any() and all((drawn[:, gap] == 255).all() for gap in gaps)


def test_endless_captions_are_cut() -> None:
    lines = lettering.wrapped(f"{LONG} " * 99, 12, 128, most=12)
    assert len(lines) == 12 and lines[-1].endswith("...")
    assert all(lettering.length(line, 12) <= 128 for line in lines)


@pytest.fixture
def without_other_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without fonts of its own."""
    monkeypatch.setattr(lettering, "_others", list)
    for cached in (lettering._place, lettering._note):
        cached.cache_clear()
    yield
    for cached in (lettering._place, lettering._note):
        cached.cache_clear()


@pytest.mark.usefixtures("without_other_fonts")
def test_characters_without_a_font_are_noted_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert np.array_equal(_sheet(["一只猫"]), _sheet([lettering.UNKNOWN * 3]))
    _sheet(["猫 and 狗"])
    lettering.label("猫")
    errors = capsys.readouterr().err
    assert errors.count("no font here draws some characters, such as U+4E00") == 1 and "fonts-" in errors
    assert errors.count("\n") == 1


@pytest.mark.usefixtures("without_other_fonts")
def test_a_font_of_this_machine_draws_other_scripts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    font = str(Path(lettering._dejavu()).with_name("LastResortHE-Regular.ttf"))
    monkeypatch.setattr(lettering, "_others", lambda: [font])
    assert not np.array_equal(_sheet(["a 猫"]), _sheet([f"a {lettering.UNKNOWN}"]))
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("without_other_fonts")
@pytest.mark.parametrize("name", ["кот", "猫", "a$b$", "_hidden", "$\\frac{"])
def test_plots_draw_names_as_they_are(name: str) -> None:
    rows = [{"metric": "FID", "images_seen": i, "value": float(i)} for i in range(2)]
    figure = curves.figure({f"runs/{name}": rows, "runs/other": rows}, ["FID"])
    figure.savefig(io.BytesIO(), format="png")  # pytest makes matplotlib's warnings errors
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(legend) == 2 and legend[0].strip().replace("\\$", "$") == lettering.drawable(name)
    plots.vocabulary({name: 7})


def test_pages_break_long_words() -> None:
    folder = Path(tables.__file__).parent
    pages = [folder / "experiments/page.html", Path(plots.__file__).with_name("page.html")]
    for style in (tables._STYLE, *(page.read_text() for page in pages)):
        assert re.search(r"td:first-child[^{]*\{[^}]*overflow-wrap: ?anywhere", style)


# Numbers of every command (row 19).


def _numbers() -> Iterator[tuple[str, str, list[str]]]:
    """Yields command, option and the words of the other required parameters, for every number."""
    for program, app in {"train": train_app, "evaluate": evaluate_app, "demo": demo_app}.items():
        group: Any = typer.main.get_command(app)
        commands = group.commands if hasattr(group, "commands") else {"demo": group}
        for name, command in commands.items():
            for option in command.params:
                required = [p for p in command.params if p.required and p is not option]
                words = [w for p in required for w in ([p.opts[0], "x"] if p.opts[0][0] == "-" else ["x"])]
                if getattr(option, "metavar", None) in ("N", "X") and option.opts[0][0] == "-":
                    yield f"{program} {name}", option.opts[0], words


@pytest.mark.parametrize(
    ("command", "option", "words"),
    [pytest.param(*number, id=" ".join(number[:2])) for number in _numbers()],
)
def test_a_number_out_of_range_is_refused_before_anything_is_done(
    command: str, option: str, words: list[str]
) -> None:
    program, name = command.split()
    app = {"train": train_app, "evaluate": evaluate_app, "demo": demo_app}[program]
    group: Any = typer.main.get_command(app)
    parsed = group.commands[name] if hasattr(group, "commands") else group
    # Parsing alone refuses them: the command does not begin.
    for value in ("-1", str(1 << 64), "-99999999999999999999"):
        with pytest.raises(UserError, match=rf"^{option} is .*; it must be "):
            parsed.make_context(name, [*words, f"{option}={value}"])


def test_every_command_with_numbers_is_among_them() -> None:
    numbers = {(command, option) for command, option, _ in _numbers()}
    assert numbers >= {
        *(("train sample", option) for option in ("--n", "--seed", "--images-seen")),
        *(("train finetune", option) for option in ("--images", "--fraction")),
        *(("evaluate metrics", option) for option in ("--n", "--seed", "--resamples", "--images-seen")),
        *(("evaluate curve", option) for option in ("--n", "--seed", "--resamples")),
        *(("evaluate agreement", option) for option in ("--n", "--seed")),
        *(("demo demo", option) for option in ("--minutes", "--workers")),
        *(("train pretrain", "--images"), ("evaluate compare", "--n")),
    }


@pytest.mark.parametrize(
    "setting",
    [
        *("training.seed=-1", "training.seed=18446744073709551616", "training.beta2=1", "training.batch=0"),
        *("run.checkpoint=0", "run.workers=-1", "run.workers=1000000", "model.z_dim=0", "data.fraction=2"),
        *("data.xi=1e39", "training.g_lr=-1", "loss.r1=1e39", "model.z_dim=100000000000"),
    ],
)
def test_a_setting_out_of_range_is_refused_and_nothing_is_written(
    request_of: Callable[..., TrainRequest], setting: str
) -> None:
    name = setting.partition("=")[0]
    settings = tuple(s for s in SETTINGS if not s.startswith(f"{name}="))
    refused(request_of(settings=(*settings, setting)), f"setting {name} cannot be")
