"""DOOR. Exit codes, results and progress, the same for every command.

Results go to stdout, as a table for a person and as JSON lines for a pipe. Everything else goes to stderr.
"""

import contextlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn, Self, TypeVar

import typer
from tqdm import tqdm
from typer.exceptions import TyperException

from synth.errors import UserError
from synth.sets.completion import Estimate, Progress
from synth.sets.parallel import signals_noted
from synth.sets.storage import unusable

COLUMNS = 100  # of --help, if the terminal is as wide
INTERRUPTED = 130

# Signals of a person, a terminal that closes, and schedulers. They end a command in order.
ENDING = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2),
)

Handler = Callable[[int, FrameType | None], Any]
T = TypeVar("T")


def app(summary: str, example: str) -> typer.Typer:
    """Returns an empty group of commands. Its --help shows the summary and ends with the example."""
    return typer.Typer(
        help=summary,
        epilog=epilog(example),
        no_args_is_help=True,
        context_settings={"max_content_width": COLUMNS},
        add_completion=False,
        # Rich joins the lines of an epilog, and its traceback would hide the one sentence of an error.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def epilog(example: str) -> str:
    """Returns the end of a --help: an example, line by line as given."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in example.splitlines())


def fail(sentence: str) -> NoReturn:
    """Prints one sentence on stderr and exits with code 2."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)


def run(commands: typer.Typer, program: str, *, refuse: Callable[[str], NoReturn] = fail) -> NoReturn:
    """Runs a command, or a group of commands, and exits.

    Exit codes: 0 success, 1 a defect of the program, 2 an error of the user, 130 interrupted, 143 terminated,
    128 + N for another signal N that ends it.
    `refuse` receives the sentence of a UserError or of a wrong command line, and exits."""
    on_ending(_end, but=[signal.SIGINT])
    escape_unencodable()
    # torch's threads would spin while they wait, and hold each other up where a core is shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command = typer.main.get_command(commands)
    try:
        # Typer's own entry point turns Ctrl-C and closed pipes into return values, so it is not used.
        with command.make_context(program, sys.argv[1:]) as context, signals_noted() as end_again:
            try:
                command.invoke(context)
            except Exception:
                # Python ignores a signal within a compilation of numba, which then fails.
                end_again()
                raise
    except typer.Exit as ended:  # --help, too
        sys.exit(ended.exit_code)
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(0)
        refuse(_with_help(error))
    except UserError as error:
        refuse(str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; run the same command again to resume", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:  # a file or folder that cannot be used
        fail(unusable(error))
    sys.exit(0)


def _with_help(error: TyperException) -> str:
    """Returns the sentence of a wrong command line, with the command that shows a right one.

    One that ends with a question has a name to type already."""
    sentence, context = error.format_message(), getattr(error, "ctx", None)
    if context is None or sentence.endswith("?"):
        return sentence
    return f"{sentence.rstrip('.')}; `{context.command_path} --help` shows an example"


def on_ending(handler: Handler, *, but: Sequence[int] = ()) -> dict[int, Any]:
    """Installs a handler of the signals that end a command. Returns the previous handlers by signal.

    Leaves a signal alone that is ignored, as `nohup` ignores SIGHUP."""
    always = (signal.SIGTERM, signal.SIGINT)
    numbers = [n for n in ENDING if n in always or signal.getsignal(n) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers if number not in but}


def show(row: Mapping[str, Any]) -> None:
    """Prints one result: aligned lines of name and value for a person, one JSON object on one line for a
    pipe."""
    if not sys.stdout.isatty():
        print(_json_line(row))
        return
    width = max(map(len, row))
    for name, value in row.items():
        print(
            f"{name.replace('_', ' '):<{width}}  {f'{value:,}' if isinstance(value, int | float) else value}"
        )


def escape_unencodable() -> None:
    """Makes this process print characters as escapes if the terminal or the pipe lacks them.

    A name of a file may hold anything. Printing it must not end a command that has done its work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def note(text: str) -> None:
    """Prints a line on stderr without breaking a progress bar. A closed terminal stops no work."""
    with contextlib.suppress(OSError):
        tqdm.write(text, file=sys.stderr)


class Bar:
    """A bar on stderr with rate and time left, from `start` to the end of the block."""

    def __init__(self, unit: str) -> None:
        self._unit = f" {unit}"
        self._bar: tqdm | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()

    def start(self, total: int, begun: float | None = None) -> None:
        """Shows the bar, in place of an earlier one. Its clock began at `begun`, by default now."""
        self.__exit__()
        pause = 0.2 if sys.stderr.isatty() else 30.0
        with contextlib.suppress(OSError):
            self._bar = tqdm(
                total=total, unit=self._unit, file=sys.stderr, mininterval=pause, dynamic_ncols=True
            )
            self._bar.start_t = self._bar.start_t if begun is None else begun

    def advance(self, amount: int) -> None:
        """Moves the bar on, or back after lost work. A closed terminal stops no work."""
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.update(amount)


def watched(unit: str, events: Generator[Estimate | Progress | T, None, None], total: int | None = None) -> T:
    """Draws the events of long work and returns its outcome, the last of them.

    The bar starts at the first step if the total is known, else at each estimate. So it follows the checks of
    the work, and a refusal is alone on its line."""
    outcomes: list[T] = []
    began = time.time()
    with contextlib.closing(events), Bar(unit) as bar:
        for event in events:
            if isinstance(event, Estimate):
                note(_foreseen(unit, event))
                bar.start(event.pictures)
            elif isinstance(event, Progress):
                for sentence in filter(None, (event.retried, event.note)):
                    note(sentence)
                if total is not None:
                    bar.start(total, began)
                    total = None
                bar.advance(event.amount)
            else:
                outcomes.append(event)
    [outcome] = outcomes
    return outcome


def _foreseen(unit: str, estimate: Estimate) -> str:
    """Returns an estimate as a sentence."""
    free = f", {estimate.free_bytes / 1e9:,.1f} GB free" if estimate.free_bytes is not None else ""
    size = f"about {estimate.bytes / 1e6:,.1f} MB{free}"
    return f"{estimate.pictures:,} {unit} to make: {size}, {estimate.seconds:,.0f} s"


def _json_line(row: Mapping[str, Any]) -> str:
    """Returns a row as JSON that the standard output can encode: if need be, with JSON's own escapes."""
    text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(row)
    return text


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
