"""Faults that reports about other people's tools taught us to look for: the machine around the commands.

Homes, caches, locks, failing disks, umasks, encodings, places and numbers. Each test covers a kind of fault.
"""

import ast
import contextlib
import errno
import fcntl
import gc
import hashlib
import io
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from numba import njit
from numba.core import caching
from safetensors.torch import save_file
from typer.main import get_command

from caption import encoders
from caption.cli import app as caption_app
from caption.table import CaptionSet
from data.cli import app as data_app
from data.emoji import font
from evaluate import features, results
from evaluate.cli import app as evaluate_app
from evaluate.experiments import running
from evaluate.experiments.demo import app as demo_app
from synth import caches, class_tables, console, options, verify
from synth.cli import app as synth_app
from synth.compilation import cached_jit
from synth.datasets import DATASETS
from synth.errors import UserError
from synth.glsl import gl
from synth.sets import ledger, mapping
from synth.sets.shards import ShardSet
from synth.sets.storage import Folder
from synth.vetting import programs, shader_folders
from tests.kit import (
    ROOT,
    SET_UP,
    commands_of,
    invoke,
    json_lines,
    make_small,
    outside_make,
    parse,
    python_files,
    refusal,
    run_synth,
)
from train import checkpoint, export, log, runs
from train.cli import app as train_app
from train.distributed import attempt
from train.model import Wanted
from train.stream.cache import Cache, Remote, fetched_files
from train.stream.order import Order
from train.stream.reader import Reader, Slice
from train.stream.sources import Sources
from train.stream.visits import Text, Visit

APPS = {
    "synth": synth_app,
    "data": data_app,
    "caption": caption_app,
    "train": train_app,
    "evaluate": evaluate_app,
}

# Numbers.


def numbers() -> Iterator[tuple[str, str, Any]]:
    """Yields package, command and parameter of every option that takes a number."""
    for package, app in APPS.items():
        for command, program in commands_of(app).items():
            for parameter in program.params:
                if parameter.metavar in ("N", "X") and parameter.opts[0] != "--xi":
                    yield package, command, parameter


def words_of(command: Any) -> list[str]:
    """Returns words for all that a command requires."""
    words = []
    for parameter in command.params:
        if parameter.required:
            words += [parameter.opts[0], "x"] if parameter.opts[0].startswith("-") else ["x"]
    return words


@pytest.mark.parametrize("value", ["-1", "1" + "0" * 40])
def test_every_number_of_every_command_has_a_range_that_is_checked_before_anything_is_written(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checked = 0
    for package, command, parameter in numbers():
        words = words_of(commands_of(APPS[package])[command])
        sentence = refusal(APPS[package], package, command, *words, parameter.opts[0], value)
        assert f"{parameter.opts[0]} is {value}" in sentence.replace(f"{float(value)}", value), sentence
        checked += 1
    assert checked > 40 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("synth shards --n 0", "--n is 0; it must be 1 to 1,000,000,000"),
        ("synth preview fractals --n 1025", "--n is 1025; it must be 1 to 1,024"),
        ("synth shards --size 4097", "--size is 4097; it must be 1 to 4,096"),
        ("caption audit t --sample 31", "--sample is 31; it must be 32 to 16,384"),
        ("data emoji --test-share 1", "--test-share is 1.0; it must be between 0 and 1"),
        ("data folder --root x --test-share 1", "--test-share is 1.0; it must be at least 0 and below 1"),
        ("data img2dataset --root x --size 0", "--size is 0; it must be 1 to 4,096"),
    ],
)
def test_the_sentence_about_a_number_names_its_range(words: str, sentence: str) -> None:
    package, *rest = words.split()
    assert refusal(APPS[package], package, *rest) == f"error: {sentence}"


def test_the_ends_of_a_range_are_allowed_unless_excluded() -> None:
    for words in (
        "preview fractals --n 1",
        "preview fractals --n 1024",
        "shards --seed 0",
        f"shards --seed {2**64 - 1}",
    ):
        parse(synth_app, words.split())
    parse(data_app, ["folder", "--root", "x", "--test-share", "0"])


# Places.

PLACES = ("PLACE", "FILE", "DIR", "FOLDER", "PATH", "SET", "SHARDS", "TABLES", "RUN", "A", "B")


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and the one of another user, ada."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    entry = pwd.struct_passwd(("ada", "x", 7, 7, "", str(tmp_path / "ada"), "/bin/sh"))
    known = {"ada": entry}
    monkeypatch.setattr(pwd, "getpwnam", known.__getitem__)
    return tmp_path


def test_every_option_that_names_a_place_knows_home_folders(homes: Path) -> None:
    """Also arguments, options that may be repeated, and options that take a name or a place."""
    named, checked = ("--encoder", "--detector", "--clip", "--set"), 0
    programs = [*(p for app in APPS.values() for p in commands_of(app).values()), get_command(demo_app)]
    for program in programs:
        for parameter in program.params:
            if parameter.metavar in PLACES or parameter.opts[0] in named:
                values = ["~/x", "~ada/x"] if parameter.multiple or parameter.nargs == -1 else "~/x"
                expected = [str(homes / "me/x"), str(homes / "ada/x")]
                converted = parameter.process_value(program.context_class(program), values)
                assert converted == (expected if isinstance(values, list) else expected[0]), parameter.opts
                checked += 1
    assert checked > 60


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("~", "me"),
        ("~/a b/c", "me/a b/c"),
        ("~ada", "ada"),
        ("ViT-B-32=~/clip.pt", "ViT-B-32={}me/clip.pt"),
        ("table=~ada/tables", "table={}ada/tables"),
    ],
)
def test_a_home_folder_is_replaced_at_the_beginning_and_after_a_models_name(
    homes: Path, text: str, place: str
) -> None:
    expected = place.format(f"{homes}/") if "{}" in place else f"{homes}/{place}"
    assert options.located("--out", text) == expected


def test_other_texts_are_places_as_they_are(homes: Path) -> None:
    for text in ("a~b", "./~", "x/~/y", "s3://bucket/~x", "a=b", "x/k=~v", "ViT-B-32=/clip.pt", "key=1,2"):
        assert options.located("--out", text) == text


def test_a_home_folder_that_nobody_knows_is_no_folder_of_that_name(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError, match=r"--out is ~bob/x, and the home folder ~bob is unknown; write \./~bob/x"
    ):
        options.located("--out", "~bob/x")

    without_home(monkeypatch)
    for text in ("~", "~/x", "ViT-B-32=~/x.pt"):
        with pytest.raises(UserError, match="the home folder ~ is unknown"):
            options.located("--out", text)


def test_commands_write_to_the_home_folder(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (homes / "work").mkdir()
    monkeypatch.chdir(homes / "work")
    make_small(homes / "me/atoms", samples=1)
    assert invoke(synth_app, "verify", "~/atoms", "--redraw", 0).exit_code == 0
    assert (
        invoke(synth_app, "preview", "visual_atoms", "--n", 1, "--size", 16, "--out=~/p.png").exit_code == 0
    )
    words = ["classes", "fractals", "--set", "classes=2", "--out=~ada/classes"]
    assert invoke(synth_app, *words).exit_code == 0
    words = [
        "preview",
        "fractals",
        "--n",
        "1",
        "--size",
        "16",
        "--set",
        "table=~ada/classes",
        "--out=~/t.png",
    ]
    assert invoke(synth_app, *words).exit_code == 0
    assert (homes / "me/p.png").is_file() and (homes / "me/t.png").is_file()
    assert not os.listdir(homes / "work")


# Homes and caches.


@pytest.fixture
def spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's folder in the temporary folder. The home folder is below a file, so it has no use."""
    (tmp_path / "file").touch()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "MESA_SHADER_CACHE_DIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, "")  # removed again at the end, whatever `provide` sets
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "file/home"))
    return tmp_path / "tmp" / f"exnihilo-{os.getuid()}"


def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes HOME, and the user's entry in passwd."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)


@pytest.mark.parametrize("home", ["missing", "no entry in passwd", "XDG_CACHE_HOME that cannot be made"])
def test_caches_of_a_user_without_a_home_are_in_the_temporary_folder(
    spare: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if home == "no entry in passwd":
        without_home(monkeypatch)
    elif home != "missing":
        monkeypatch.setenv("HOME", str(spare.parent))
        monkeypatch.setenv("XDG_CACHE_HOME", str(spare.parent.parent / "file/cache"))
    caches.provide()
    assert os.environ["XDG_CACHE_HOME"] == str(spare) and spare.stat().st_mode & 0o777 == 0o700
    assert caches.folder("exnihilo") == spare / "exnihilo"
    if home != "XDG_CACHE_HOME that cannot be made":
        assert os.environ["MPLCONFIGDIR"] == str(spare / "matplotlib")


def test_a_usable_home_is_left_as_it_is(spare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "me").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    caches.provide()
    assert "XDG_CACHE_HOME" not in os.environ and "MPLCONFIGDIR" not in os.environ and not spare.exists()
    assert caches.folder("x") == tmp_path / "me/.cache/x" and not list((tmp_path / "me").iterdir())


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file", "no temporary folder"])
def test_a_temporary_folder_that_others_could_fill_holds_no_compiled_code(
    spare: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "open to others":
        spare.mkdir()
        spare.chmod(0o777)
    elif kind == "a link":
        spare.symlink_to(spare.parent)
    elif kind == "a file":
        spare.touch()
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(spare.parent / "gone"))
    caches.provide()
    assert caches.folder("numba") is None and "XDG_CACHE_HOME" not in os.environ


def test_what_needs_a_cache_does_without(
    spare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shaders, fetched files, features."""
    spare.touch()
    caches.provide()
    assert gl.cache_folder() is None
    gl._prepare_environment("software")
    assert "MESA_SHADER_CACHE_DIR" not in os.environ

    # Sets on this machine need no folder of fetched files. The cache itself is asked for late.
    shards = make_small(tmp_path / "set", samples=2, workers=0) and tmp_path / "set"
    [part] = ShardSet(str(shards)).manifest["parts"]
    local = Remote(str(shards), part["file"], part["sha256"], part["bytes"])
    assert Cache(fetched_files()).path(local) == str(shards / part["file"])
    with pytest.raises(UserError, match="set EXNIHILO_CACHE to one"):
        Cache(fetched_files()).path(local._replace(url="s3://bucket/set"))

    # Features go to the user's cache if the working directory takes none.
    monkeypatch.setattr(features, "CACHE", tmp_path / "file/data/features")
    assert features._cache() == features.CACHE
    spare.unlink()
    caches.provide()
    assert features._cache() == spare / "exnihilo/features"


@pytest.mark.slow
def test_libraries_that_insist_on_the_home_folder_get_another(
    spare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_clip's downloads, Ray's sessions and its token."""
    given: list[Any] = []

    def download(_: Any, **options: Any) -> str:
        given.append(options)
        return "w.pt"

    caches.provide()
    with encoders._open_clip() as open_clip:
        monkeypatch.setattr(open_clip, "download_pretrained", download)
    monkeypatch.setattr(encoders, "_do_not_wait_for_the_hub", lambda: None)
    encoders.find("ViT-B-32/openai")
    assert given == [{"cache_dir": str(spare / "clip")}]

    monkeypatch.setenv("TMPDIR", str(spare.parent.parent / "file"))
    assert caches.scratch_of_ray() == str(spare / "ray")
    assert not caches.home_holds(".ray")
    monkeypatch.setenv("TMPDIR", str(spare.parent))
    assert caches.scratch_of_ray() is None


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("fault", ["no folder", "full disk", "stale handle", "cut file"])
def test_kernels_do_without_a_cache(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise EOFError if fault == "cut file" else OSError(errno.ESTALE, "Stale file handle")

    if fault == "no folder":
        monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
        with pytest.raises(RuntimeError, match="no locator"):
            njit(cache=True)(double)
    else:
        monkeypatch.setattr(caching.IndexDataCacheFile, "save" if fault == "full disk" else "load", fail)
    assert cached_jit()(double)(21) == 42


@pytest.mark.slow
def test_a_command_runs_from_a_checkout_that_cannot_be_written(tmp_path: Path) -> None:
    lines = [
        "import sys, numba.core.caching as caching",
        "caching.CompileResultCacheImpl._locator_classes = []",
        "from synth.cli import main",
        "main()",
    ]
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), "datasets"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HOME": "/nonexistent", "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert run.returncode == 0 and not run.stderr and len(json_lines(run.stdout)) == len(DATASETS)
    assert [path.name for path in tmp_path.iterdir()] == [f"exnihilo-{os.getuid()}"]


# Locks.


def flock_fails(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)


NO_LOCKS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF]


@pytest.mark.parametrize("number", NO_LOCKS)
def test_a_file_system_without_locks_is_used_without_one_and_with_a_note(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets, runs and experiments go on; figures are written too."""
    flock_fails(monkeypatch, number)
    note = "note: the file system of {} has no locks; start no second command there"
    with Folder(str(tmp_path)).exclusive() as sentence:
        assert sentence and sentence.startswith(note.format(tmp_path))
    with log.locked(tmp_path) as sentence:
        assert sentence and sentence.startswith(note.format(tmp_path))
    with running.held(tmp_path) as sentence:
        assert sentence and sentence.startswith(note.format(tmp_path))
    results.append(tmp_path, {"metric": "kid"})
    assert results.read(tmp_path) == [{"metric": "kid"}]


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES])
def test_a_lock_that_another_process_holds_is_respected(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems say EACCES."""
    flock_fails(monkeypatch, number)
    with pytest.raises(UserError, match="another run is writing to"), Folder(str(tmp_path)).exclusive():
        pass
    with pytest.raises(UserError, match="another process trains in"), log.locked(tmp_path):
        pass
    with pytest.raises(UserError, match="another command runs in"), running.held(tmp_path):
        pass


def test_commands_print_the_note_about_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock_fails(monkeypatch, errno.ENOSYS)
    words = ["shards", "visual_atoms", "--n", 2, "--size", 16, "--workers", 0, "--out", tmp_path / "set"]
    ended = invoke(synth_app, *words)
    assert ended.exit_code == 0 and f"the file system of {tmp_path / 'set'} has no locks" in ended.stderr
    assert len(ShardSet(str(tmp_path / "set"))) == 2


def test_every_lock_is_taken_by_one_function() -> None:
    users = [path for package in APPS for path in python_files(package) if "fcntl" in path.read_text()]
    assert users == [ROOT / "synth/sets/locks.py"]


# Files that cannot be read now.


def fails_to_read(path: Path) -> Path:
    """Replaces a file by one that opens and then fails with EIO, as on a broken disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to("/proc/self/mem")
    return path


def read_state(place: Path) -> Any:
    (place / "COMMITTED").write_text(json.dumps({"state.json": "0" * 64}))
    return checkpoint.state(place)


def read_part(place: Path) -> Any:
    (place / "COMMITTED").write_text(json.dumps({"g.safetensors": "0" * 64}))
    return checkpoint.tensors(place, "g.safetensors")


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "manifest": ("manifest.json", lambda place: ShardSet(str(place))),
    "record": ("set-00000.json", lambda place: ledger.load(Folder(str(place)))),
    "lone tar": ("a.tar", lambda place: verify.about_path(str(place / "a.tar"))),
    "mark of a checkpoint": ("COMMITTED", checkpoint.digest),
    "state of a checkpoint": ("state.json", read_state),
    "part of a model": ("g.safetensors", read_part),
    "config of a run": ("config.json", runs.describe),
    "class table": ("0.csv", lambda place: class_tables.Table.parse(str(place))),
    "programs": ("programs.json", lambda place: programs.Programs.parse(str(place))),
    "shader": ("a.frag", lambda place: shader_folders.read(str(place))),
    "font": ("a.ttf", lambda place: font.find(str(place / "a.ttf"))),
    "weights": ("w.pt", lambda place: encoders.EncoderSource("", "", str(place / "w.pt")).sha256),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_cannot_be_read_is_not_called_damaged(reader: str, tmp_path: Path) -> None:
    file, read = READERS[reader]
    fails_to_read(tmp_path / file)
    with pytest.raises(UserError, match=rf"{file} cannot be read now: .*; run the command again$") as error:
        read(tmp_path)
    assert "damaged" not in str(error.value) and "remove" not in str(error.value)


def test_verify_reports_a_tar_that_cannot_be_read_and_goes_on(finished: Path) -> None:
    fails_to_read(finished / "visual_atoms-000001.tar")
    sentences = [sentence for _, sentence in verify.damages(ShardSet(str(finished)), 0)]
    assert sentences[0] is None and sentences[2] is None
    assert "visual_atoms-000001.tar cannot be read now: Input/output error" in str(sentences[1])


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_failures_of_the_machine_ask_for_the_same_command_again(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any place, of a folder or of a file that has no sentence of its own."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "x"))

    again = f"cannot be used now: {os.strerror(number)}; run the command again"
    with monkeypatch.context() as patch, pytest.raises(UserError, match=again):
        patch.setattr(os, "scandir", fail)
        Folder(str(tmp_path)).sizes()
    failure, _ = attempt(fail)
    assert failure and str(failure) == f"{tmp_path / 'x'} {again}"
    monkeypatch.setattr(class_tables, "write", fail)
    sentence = refusal(
        synth_app, "synth", "classes", "fractals", "--set", "classes=1", "--out", tmp_path / "y"
    )
    assert sentence == f"error: {tmp_path / 'x'} {again}"


def cut(place: Path, file: str, right: bool) -> None:
    """Cuts a file of a set. If `right`, the manifest describes the cut file."""
    [path] = place.glob(f"**/{file}")
    data = path.read_bytes()[:700]
    path.write_bytes(data)
    manifest = json.loads((place / "manifest.json").read_text())
    part = next(p for p in manifest["parts"] if p["file"] == file)
    part["bytes"] = len(data)
    if right:
        part["sha256"] = hashlib.sha256(data).hexdigest()
    (place / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("right", [False, True])
def test_damage_is_claimed_only_after_the_checksum_says_so(
    right: bool, finished: Path, captioned: Path
) -> None:
    """A tar that is read, mapped or streamed, and a table."""
    tar, tables = "visual_atoms-000002.tar", Path(shutil.copytree(captioned, finished / "tables"))
    cut(finished, tar, right)
    cut(tables, "visual_atoms-000002.parquet", right)
    sentence = "checksum is right; run the command again" if right else "is damaged .*; remove it and "
    shard_set, caption_set = ShardSet(str(finished)), CaptionSet(str(tables))
    shard = shard_set.shards[2]
    remotes = [Remote(str(finished), tar, shard_set.sha256[tar], (finished / tar).stat().st_size)]
    reader = Reader(
        Sources(Cache(None), remotes, [], [0]),
        Visit(32, 0, Text(), 0, 0, Wanted(vectors=())),
        Slice(Order([1], 0), 0, 1),
    )
    for read in (
        lambda: list(shard_set.read(shard)),
        lambda: shard_set.mapped(shard),
        lambda: caption_set.read(caption_set.parts[2], ["caption"]),
        lambda: reader(0),
    ):
        with pytest.raises(UserError, match=sentence):
            read()


def test_shards_and_tables_that_are_held_need_no_open_files(undisturbed: Path, captioned: Path) -> None:
    shard_set, tables = ShardSet(str(undisturbed)), CaptionSet(str(captioned))
    before = len(os.listdir("/proc/self/fd"))
    held = [
        (shard_set.mapped(s), tables.read(p, ["key"]))
        for s, p in zip(shard_set.shards, tables.parts, strict=True)
    ]
    assert len(os.listdir("/proc/self/fd")) == before
    assert [s.keys for s, _ in held] == [t["key"].to_pylist() for _, t in held]


def test_a_map_lives_as_long_as_its_views(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789" * 1000)
    view = mapping.mapped(tmp_path / "file")[5:15]
    (tmp_path / "file").unlink()
    gc.collect()
    assert bytes(view) == b"5678901234" and view.readonly

    def maps() -> bool:
        return f"{tmp_path}/file" in Path("/proc/self/maps").read_text()

    assert maps()
    del view
    assert not maps()
    (tmp_path / "empty").touch()
    assert bytes(mapping.mapped(tmp_path / "empty")) == b""


# Modes of files.


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o002, 0o027, 0o077])
def test_every_file_follows_the_umask(mask: int, tmp_path: Path) -> None:
    """Files of libraries that write private ones, in sets, checkpoints and exports; and all others."""
    part, tensors = torch.nn.Linear(2, 2), {"x": torch.zeros(3)}
    origin = checkpoint.Origin("stylegan2", {}, {}, "generator")
    with umask(mask):
        save_file(tensors, tmp_path / "as safetensors writes it")
        with Folder(str(tmp_path / "set")).staged("x.safetensors") as path:
            save_file(tensors, path)
        make_small(tmp_path / "atoms", samples=2)
        writers: dict[str, Callable[[Path], None]] = {
            "generator.safetensors": lambda path: checkpoint.save_part(path, part, origin),
            "state.safetensors": lambda path: checkpoint.save_tensors(path, tensors),
            "state.json": lambda path: checkpoint.save_state(path, {}),
        }
        checkpoint.write(tmp_path / "run", 8, writers, ())
        export._write_file(tmp_path / "generator.safetensors", part, origin)
    files = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.rglob("*") if p.is_file()}
    assert files.pop("as safetensors writes it") == 0o600
    assert set(files.values()) == {0o666 & ~mask} and len(files) > 10


def test_no_library_writes_a_file_by_itself() -> None:
    """These functions make private files."""
    users = {
        (path.relative_to(ROOT).as_posix(), line.strip())
        for package in APPS
        for path in python_files(package)
        for line in path.read_text().splitlines()
        if re.search(r"\bsave_file\(|\bsave_pretrained\(|\bmkstemp\(|NamedTemporaryFile", line)
    }
    assert not users


# Encodings.

NAMES = ["ü", "猫 ↑", os.fsdecode(b"not UTF-8 \xff")]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_cannot_be_encoded_is_printed_with_escapes(
    encoding: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In rows for pipes, which stay JSON, in rows for people, notes and errors."""
    output, errors, table = (io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(3))
    monkeypatch.setattr(sys, "stderr", errors)
    monkeypatch.setattr(sys, "stdout", output)
    console.escape_unencodable()
    console.show({"out": name})
    console.note(name)
    with pytest.raises(SystemExit):
        console.fail(name)
    monkeypatch.setattr(table, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", table)
    console.escape_unencodable()
    console.show({"out": name})

    printed = [stream.buffer.getvalue().decode(encoding) for stream in (output, errors, table)]
    assert json.loads(printed[0]) == {"out": name}
    escaped = name.encode(encoding, "backslashreplace").decode(encoding)
    assert printed[1] == f"{escaped}\nerror: {escaped}\n" and printed[2] == f"out  {escaped}\n"


@pytest.mark.slow
def test_a_command_that_has_done_its_work_ends_well_whatever_the_encoding(tmp_path: Path) -> None:
    words = ["shards", "visual_atoms", "--n", "1", "--size", "16", "--workers", "0"]
    run = run_synth(*words, "--out", str(tmp_path / "ü"), PYTHONIOENCODING="ascii")
    assert run.returncode == 0 and json.loads(run.stdout)["out"] == str(tmp_path / "ü")


@pytest.mark.slow
def test_every_text_file_is_opened_with_its_encoding() -> None:
    """The encoding of the locale is never used: neither for files nor for other programs' output."""
    missing = []
    for package in APPS:
        for path in python_files(package):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and "encoding" not in {k.arg for k in node.keywords}:
                    missing += [f"{path}:{node.lineno}"] if is_text(node) else []
    assert not missing


def is_text(call: ast.Call) -> bool:
    """Returns True for a call that reads or writes text."""
    function = ast.unparse(call.func)
    modes = [
        a.value
        for a in call.args
        if isinstance(a, ast.Constant) and re.fullmatch("[rwax]b?[+]?b?", str(a.value))
    ]
    decoded = any(k.arg == "text" and ast.unparse(k.value) == "True" for k in call.keywords)
    if function.endswith((".read_text", ".write_text")) or decoded:
        # The reader of other people's files takes bytes and decodes them as UTF-8.
        return not function.startswith("foreign.")
    if function in ("open", "os.fdopen") or function.endswith(".open"):
        binary = any("b" in str(mode) for mode in modes)
        reads_bytes = not modes and function not in ("open", "os.fdopen")
        return function != "os.open" and not binary and not reads_bytes and not function.startswith("tarfile")
    return False


# make.


@pytest.mark.parametrize(
    "text", ['a"b', "a'b", "a$b", "a`id`b", "a;b", "a(b", "a&b", "~ada/x", "a#b", "a\\b", "*"]
)
def test_make_passes_every_character_on(text: str, tmp_path: Path) -> None:
    """Places and names; a stand-in for Python prints its words."""
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    commands = {
        "shards": {"DATASET": ["{}"], "OUT": ["--out", "{}"]},
        "data": {"SET": ["{}"], "ROOT": ["--root", "{}"], "OUT": ["--out", "{}"]},
        "finetune": {
            "PRESET": ["{}"],
            "FROM": ["--from", "{}"],
            "OUT": ["--on", "{}"],
            "NAME": ["--out", "runs/{}"],
        },
        "evaluate": {"RUN": ["{}"], "SET": ["--on", "{}"], "CAPTIONS": ["--captions", "{}"]},
    }
    for target, options_of in commands.items():
        words = [
            "make",
            "-f",
            str(ROOT / "Makefile"),
            *SET_UP,
            target,
            *(f"{name}={text}" for name in options_of),
        ]
        run = subprocess.run(
            words, cwd=tmp_path, env=outside_make(), capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        for expected in options_of.values():
            wanted = "\n".join(expected).format(text)
            assert f"\n{wanted}\n" in run.stdout, (target, run.stdout)
