"""Helpers of several test modules: small sets and tables, commands and processes, advice in texts.

kit_train.py and kit_evaluate.py hold what needs torch; kit_font.py draws a font.
"""

import ast
import contextlib
import enum
import errno
import hashlib
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from synth import console
from synth.images.codecs import encode_png
from synth.pipeline import RenderRequest, RenderSummary, make_shards
from synth.sets import completion, ledger
from synth.sets.records import Record
from synth.sets.shards import Sample, ShardSet, ShardWriter
from synth.sets.storage import Folder, open_storage
from synth.settings import digest

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
SMALL = {
    "dataset": "visual_atoms",
    "samples": 40,
    "size": 32,
    "shard_size": 16,
    "workers": 0,
    "settings": ("canvas=64", "orbits=1,20"),
}
TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 64, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
SHADES = ("red", "green", "blue", "grey", "purple", "brown", "white", "black")
# The Makefile's stamps, passed as up to date.
SET_UP = [
    word
    for stamp in ("synth", "data", "caption", "train", "evaluate", "demo", "shaders", "emoji")
    for word in ("-o", f".venv/.{stamp}")
]


def python_files(package: str) -> list[Path]:
    """The Python files of a package, without the code of shipped models, which `train export` writes."""
    files = sorted((ROOT / package).rglob("*.py"))
    return [path for path in files if not (path.parent / "COMMITTED").exists()]


def parameter_id(value: object, argument: str) -> str | None:
    """Returns a name for a parameter of plain data, by its content. None leaves the naming to pytest.

    Raises UsageError for any other value, which needs `pytest.param(..., id="...")`.
    """
    if value is None or isinstance(value, (str, bytes, int, float, complex, re.Pattern, enum.Enum)):
        return None
    if "<" not in getattr(value, "__name__", "<"):  # classes and functions, but no lambdas
        return None
    name = _spelt(value) if isinstance(value, (dict, list, tuple, set, frozenset)) else ""
    if not 0 < len(name) <= 80:
        raise pytest.UsageError(
            f'{type(value).__name__} of {argument!r} has no readable id; give pytest.param(..., id="...")'
        )
    return name


def _spelt(value: object, between: str = " ") -> str:
    """Spells plain data on one line without quotes; an empty text for anything else."""
    if isinstance(value, dict):
        parts = [f"{key}={content}" if (content := _spelt(value[key], ",")) else "" for key in value]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = [_spelt(content, ",") for content in value]
    else:
        plain = value is None or isinstance(value, (str, bytes, int, float, PurePath))
        return (
            (value if isinstance(value, str) and value.isprintable() and value.isascii() else ascii(value))
            if plain
            else ""
        )
    return (between.join(parts) or "none") if all(parts) else ""


# Small sets and their tables.


def make_small(out: Any, **changes: Any) -> RenderSummary:
    """Makes a set of 40 small pictures in three shards, or what `changes` ask for."""
    request = RenderRequest(**{**SMALL, "out": str(out), **changes})
    return completion.finish(make_shards(request))


def make_tables(shards: Any, out: Any, encoder: Path | str, **changes: Any) -> Any:
    """Makes the tables of a set in this process, or as `changes` ask for."""
    from caption.pipeline import CaptionRequest, make_captions

    request = CaptionRequest(str(shards), str(out), str(encoder), **{"workers": 0, **changes})
    return completion.finish(make_captions(request))


def write_foreign(
    folder: Path, texts: list[dict[str, bytes]], *, sizes: tuple[int, ...] = (24,), stem: str = "photo_"
) -> Path:
    """Writes a finished set as others make them: pictures with texts, keys of their own, one tar."""
    pixels = np.random.default_rng(0).integers(0, 256, (len(texts), 64, 64, 3), dtype=np.uint8)
    storage, identity = Folder(str(folder)), {"dataset": "toy"}
    with storage.staged("00000.tar") as path, ShardWriter(path) as writer:
        for i, files in enumerate(texts):
            side = sizes[i % len(sizes)]
            writer.add(f"{stem}{i}", {"png": encode_png(pixels[i, :side, :side]), **files})
    record = Record("00000.tar", 0, 0, len(texts), writer.size, writer.sha256, digest(identity), identity)
    ledger.write_record(storage, record)
    ledger.write_manifest(
        storage, ledger.manifest([record], identity, {"title": "toy", "licence": "unknown"}, {})
    )
    return folder


def prepare_set(name: str, root: Path, out: Path, *more: object) -> list[dict[str, Any]]:
    """Prepares a real set in this process. Returns the printed rows. Raises the UserError of the command."""
    from data.cli import app

    words = ["--root", root, "--out", out, "--size", 16, "--workers", 0, *more]
    return json_lines(invoke(app, name, *words, raising=True))


def samples(place: Path | str) -> list[Sample]:
    """Returns every sample of a finished set."""
    shard_set = ShardSet(str(place))
    return [s for shard in shard_set.shards for s in shard_set.read(shard)]


def pictures(out: Any) -> dict[str, bytes]:
    """Returns the pixels of every sample of a finished set, by key."""
    return {s.key: s.pixels.tobytes() for s in samples(out)}


def tar_hashes(out: Any, suffix: str = ".tar") -> dict[str, str]:
    """Returns the sha256 of every tar, or other part, of a place."""
    storage = open_storage(f"{out}/tables" if suffix == ".parquet" else str(out))
    return {
        n: hashlib.sha256(storage.read(n)).hexdigest() for n in sorted(storage.sizes()) if n.endswith(suffix)
    }


def states(folder: Path) -> Mapping[Path, tuple[int, int]]:
    """Returns the time and the inode of everything in a folder: equal means untouched."""
    return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*")}


def write(path: Path, content: Any) -> None:
    """Writes text or bytes, and the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_picture(path: Path, number: int, *, size: tuple[int, int] = (30, 24), mode: str = "RGB") -> None:
    """Writes a picture of a few random cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (size[1] // 6, size[0] // 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).convert(mode).save(path)


@contextlib.contextmanager
def full_disk(file: str) -> Iterator[None]:
    """Fills the disk, for writers of `file` or of its temporary name, after half of the file's bytes."""
    write = Path.write_bytes

    def fail(path: Path, data: Any) -> int:
        if file not in path.name:
            return write(path, data)
        write(path, bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        yield


# Commands, in this process and as processes of their own.


def commands_of(app: typer.Typer) -> dict[str, Any]:
    """Returns the commands of a package by name."""
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def parse(app: typer.Typer, words: list[str]) -> None:
    """Parses the words of a command line without running it. Raises TyperException if they are wrong."""
    command: Any = typer.main.get_command(app)
    with command.make_context("program", list(words)) as context:
        if hasattr(command, "commands"):
            name, chosen, rest = command.resolve_command(context, list(words))
            with chosen.make_context(name, rest, parent=context):
                pass


def invoke(app: typer.Typer, *arguments: object, raising: bool = False) -> Result:
    """Runs a command within this process; `raising` lets its UserError through."""
    words = [str(a) for a in arguments]
    return CliRunner().invoke(app, words, catch_exceptions=not raising, standalone_mode=not raising)


def json_lines(printed: Result | str | Path) -> list[dict[str, Any]]:
    """Returns the rows of JSON lines: of a command that ended well, a text, or a file."""
    if isinstance(printed, Result):
        assert printed.exit_code == 0, printed.exception
        printed = printed.stdout
    return [
        json.loads(line)
        for line in (printed.read_text() if isinstance(printed, Path) else printed).splitlines()
    ]


def refusal(app: typer.Typer, program: str, *arguments: object) -> str:
    """Returns the sentence with which a command, run within this process as from a shell, is refused."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        patch.setattr(sys, "argv", [program, *(str(a) for a in arguments)])
        patch.setattr(signal, "signal", lambda *_: None)
        console.run(app, f"python -m {program}")
    assert ended.value.code == 2 and output.getvalue() == "" and "Traceback" not in errors.getvalue()
    sentence = errors.getvalue().splitlines()[-1]
    assert sentence.startswith("error: ")
    return sentence


def run_synth(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of synth as a user runs it."""
    command = [sys.executable, "-m", "synth", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=False
    )


def start(command: list[str], *, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """Starts a command in a new session, with SIGINT enabled: a test run in the background ignores it."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


# Imports modules once, and runs each command, `python -m PACKAGE WORDS`, in forks: one of each rank.
TOGETHER = """
import importlib, json, os, runpy, sys, tempfile

modules, commands, places = json.loads(sys.argv[1])
for module in modules:
    importlib.import_module(module)
ended = []
for package, *words in commands:
    forks = []
    for place in places:
        texts = [tempfile.TemporaryFile() for _ in range(2)]
        forks.append((os.fork(), texts))
        if not forks[-1][0]:
            os.environ.update(place)
            for text, stream in zip(texts, (1, 2)):
                os.dup2(text.fileno(), stream)
            sys.argv = [package, *words]
            runpy.run_module(package, run_name="__main__")
            sys.exit()
    codes = [os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) for fork, _ in forks]
    for _, texts in forks:
        for text in texts:
            text.seek(0)
    joined = [b"".join(texts[stream].read() for _, texts in forks).decode() for stream in range(2)]
    ended.append((next((code for code in codes if code), 0), *joined))
print(json.dumps(ended))
"""


def together(
    commands: Sequence[Sequence[str]],
    *,
    ranks: int = 1,
    cwd: Path = ROOT,
    modules: Sequence[str] = ("torch", "train.cli"),
) -> list[tuple[int, str, str]]:
    """Runs commands one after another, each in forks of one process that has imported the modules.

    Commands are PACKAGE WORDS. Ranks have the environment that torchrun gives them. Returns an exit code, the
    output and the errors of each command, those of all ranks joined; the code is the first that is not 0.
    """
    places: list[dict[str, str]] = [{}]
    if ranks > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        of_all = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        of_all |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        places = [{**of_all, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    command = [sys.executable, "-c", TOGETHER, json.dumps([modules, commands, places])]
    process = start(command, cwd=cwd, OMP_NUM_THREADS="1", PYTHONPATH=str(cwd))
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return [(code, printed, complaint) for code, printed, complaint in json.loads(output)]


@contextlib.contextmanager
def chat_server(*options: str) -> Iterator[str]:
    """Starts tests/chat_server.py in a process of its own. Gives its address, without the path."""
    command = [sys.executable, "-S", str(ROOT / "tests" / "chat_server.py"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def children(pid: int) -> list[tuple[int, str]]:
    """Returns (pid, command line) of every descendant of a process."""
    parents: dict[int, list[int]] = {}
    commands: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(int(status[1]), []).append(int(entry.name))
    descendants, waiting = [], [pid]
    while waiting:
        for child in parents.get(waiting.pop(), []):
            descendants.append((child, commands[child]))
            waiting.append(child)
    return descendants


def running(pid: int) -> bool:
    """Returns True if a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill_driver(process: subprocess.Popen[str]) -> None:
    """Sends SIGKILL, waits for the end of its Ray workers, and ends Ray's other processes."""
    family = children(process.pid)
    process.kill()
    process.communicate()
    workers = [pid for pid, command in family if command.startswith("ray::") and "Agent" not in command]
    deadline = time.monotonic() + 60
    while any(running(pid) for pid in workers):
        assert time.monotonic() < deadline, "Ray's workers outlive their driver"
        time.sleep(0.05)
    for pid, _ in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_worker(process: subprocess.Popen[str], chance: random.Random) -> bool:
    """Sends kill -9 to one of a driver's Ray workers, if it has any yet."""
    workers = [pid for pid, command in children(process.pid) if command.startswith("ray::render_shard")]
    if workers:
        os.kill(chance.choice(workers), signal.SIGKILL)
    return bool(workers)


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


def shown_in_browser(report: Path, scratch: Path) -> tuple[int, int]:
    """Opens a page in a browser. Returns the number of its pictures, and of those that it shows.

    Fails if the browser complains of anything."""
    # A script that counts, in a copy of the page.
    count = "const all = [...document.images]; "
    count += "const shown = all.filter(i => i.naturalWidth && i.clientWidth > 20); "
    count += "document.title = `${all.length} ${shown.length}`"
    script = f"<script>addEventListener('load', () => {{{count}}})</script>"
    page = scratch / "report.html"
    page.write_text(report.read_text().replace("</body>", f"{script}</body>"))

    # The title, after the script.
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command = [str(BROWSER), *options, f"--user-data-dir={scratch}/profile", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode == 0 and "CONSOLE" not in shown.stderr, shown.stderr
    [(there, visible)] = re.findall(r"<title>(\d+) (\d+)</title>", shown.stdout)
    return int(there), int(visible)


def outside_make() -> dict[str, str]:
    """Returns the environment without the variables of the `make test` that this may run under."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"
    }


# Pages that are followed in a copy of the checkout.


@dataclass(frozen=True)
class Step:
    """A fenced block of a page: a file to write, a change of a file, or commands to run."""

    kind: str  # python, diff, or nothing for commands
    file: str  # named by the heading above
    text: str

    def follow(self, checkout: Path) -> list[str]:
        """Carries out the block. Returns the output of each of its commands."""
        target = checkout / self.file
        if self.kind == "python":
            assert not target.exists(), target
            target.write_text(self.text)
        elif self.kind == "diff":
            changed = self.text.splitlines(keepends=True)
            before, after = (
                "".join(line[1:] for line in changed if line[0] in signs) for signs in (" -", " +")
            )
            assert target.read_text().count(before) == 1, f"{self.file} has no place for {self.text}"
            target.write_text(target.read_text().replace(before, after))
        else:
            return [run_in(checkout, line) for line in self.commands]
        return []

    @property
    def commands(self) -> list[str]:
        """The commands of the block, one a line."""
        return self.text.replace("\\\n", " ").splitlines()


def steps(page: Path, title: str) -> list[Step]:
    """Returns the blocks of a section of a page, in order."""
    [section] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page.read_text(), re.DOTALL | re.MULTILINE)
    matches = re.finditer(r"^### .*?`(.+?)`.*?$|^```(\w*)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    blocks, file = [], ""
    for match in matches:
        file = match[1] or file
        blocks += [] if match[1] else [Step(match[2], file, match[3])]
    return blocks


def copy_checkout(place: Path) -> Path:
    """Copies the packages and tests of the checkout, with compiled kernels, without generated files."""
    generated = shutil.ignore_patterns("*.png", "shards", "real", "captions", "runs", "fixtures")
    for package in ("synth", "caption", "train", "evaluate", "data", "tests"):
        shutil.copytree(ROOT / package, place / package, ignore=generated)
    shutil.copy2(ROOT / "pyproject.toml", place)
    return place


def run_in(checkout: Path, line: str) -> str:
    """Runs a command of a page in a copy of the checkout. Returns its output."""
    words = [sys.executable if word == "python" else word for word in shlex.split(line)]
    process = start(words, cwd=checkout, OMP_NUM_THREADS="1", PYTHONPATH=str(checkout))
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, (line, output, errors)
    return output


# Advice in texts.


@dataclass(frozen=True)
class Advice:
    """Something to type that a text of the product names."""

    place: str  # FILE:LINE
    kind: str  # option, setting, make or command
    words: str  # "--out", "run.cache_gb=80", "finetune SET=coco", "synth shards --out DIR"
    text: str


ADVICE = {
    "setting": re.compile(r"--set ([a-z][\w.]*(?:=[^\s;,`\"\')]+)?)"),
    "option": re.compile(r"(?<![\w-])(--[a-z][\w-]*)"),
    "make": re.compile(r"\bmake ((?:[a-z][a-z0-9-]*|[A-Z]+=[\w.$()/-]+)(?: [A-Z]+=[\w.$()/-]+)*)"),
    "command": re.compile(r"python -m ((?:synth|data|caption|train|evaluate)[ .][^`;\n]+)"),
}


def advice(path: Path) -> list[Advice]:
    """Returns all advice in the texts of a Python module: its literals except docstrings."""
    texts = texts_of(path.read_text())
    place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return [
        Advice(f"{place}:{line}", kind, match[1].strip(), text)
        for line, text in texts
        for kind, pattern in ADVICE.items()
        for match in pattern.finditer(text)
        if kind != "option" or match[0] != text  # else a name that code uses
    ]


def texts_of(source: str) -> list[tuple[int, str]]:
    """Returns (line, text) of each string and f-string, whose values become `{}`."""
    tree = ast.parse(source)
    scopes = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    aside = {id(n.body[0].value) for n in scopes if n.body and isinstance(n.body[0], ast.Expr)}
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            aside |= {id(part) for part in ast.walk(node)}
            parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
            texts.append((node.lineno, "".join(parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in aside:
            texts.append((node.lineno, node.value))
    return texts


# Events.


def returned(events: Generator[Any, None, T]) -> T:
    """Returns the value that a generator returns in the end."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value
