"""A process that runs one step after another, each as `python -m` would. It loads torch only once.

It reads one JSON object per step from stdin: {"command": [...]}, and the files "log", "output" and "lock".
The rows that the command prints go to the output, everything else to the log. The step waits for another
process that has the lock. At its end, {"code", "cpu_seconds"} goes to stdout. If stdin ends, the driver has
ended, and the process sends itself SIGTERM.
"""

import json
import os
import queue
import resource
import runpy
import signal
import sys
import threading
import time
import traceback

from synth import console
from synth.sets import locks

_PATIENCE = 30  # seconds for a step to stop


def main() -> None:
    """Runs `python -m evaluate.experiments.worker`."""
    # Steps redirect stdout to their logs, so answers need a copy of it.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    waiting: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(waiting,), daemon=True).start()

    # Steps, until stdin ends or a signal ended one.
    while line := waiting.get():
        step, before = json.loads(line), _cpu_seconds()
        with open(step["lock"], "wb") as lock:
            locks.lock(lock.fileno(), wait=True)
            code = _run(step["command"], step["log"], step["output"])
        answers.write(json.dumps({"code": code, "cpu_seconds": round(_cpu_seconds() - before, 2)}) + "\n")
        answers.flush()
        if code >= 128:
            sys.exit(code)


def _run(command: list[str], log: str, output: str) -> int:
    """Runs a command with its printed rows in the output, and everything else in the log.

    Returns its exit status."""
    # Output.
    with open(log, "a", encoding="utf-8") as file, open(output, "w", encoding="utf-8") as rows:
        os.dup2(rows.fileno(), 1)
        os.dup2(file.fileno(), 2)
    console.escape_unencodable()
    print(f"$ python -m {' '.join(command)}", file=sys.stderr, flush=True)

    # Command.
    sys.argv = list(command)
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _read(waiting: "queue.Queue[str]") -> None:
    """Passes lines on. Ends the process after the last line."""
    for line in sys.stdin:
        waiting.put(line)
    waiting.put("")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os._exit(128 + signal.SIGTERM)


def _cpu_seconds() -> float:
    """Returns the CPU seconds of this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


if __name__ == "__main__":
    main()
