"""The command `python -m evaluate experiment`."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from synth import console, options
from synth.errors import UserError
from synth.options import EMPTY, DryRun, RayAddress
from synth.sets import targets

if TYPE_CHECKING:
    from evaluate.experiments.running import ExperimentRequest
    from evaluate.experiments.table import Experiment

TABLES = Path(__file__).parent / "tables"


def experiment(
    name: Annotated[
        str,
        options.place_argument("NAME", "An experiment of experiments/tables, or a file FILE.py of yours."),
    ],
    *,
    out: Annotated[str, options.place("--out", "DIR", "The folder of steps and report.")],
    seeds: Annotated[
        int | None, options.integer("--seeds", "Seeds of each arm.  [default: as registered]", least=1)
    ] = None,
    arms: Annotated[list[str], options.text("--arm", "NAME", "Run this arm alone; may be repeated.")] = EMPTY,
    workers: Annotated[
        int | None,
        options.integer("--workers", "Steps at once; 0: one by one, without Ray.  [default: one a core]"),
    ] = None,
    ray_address: RayAddress = None,
    fresh: Annotated[bool, options.flag("--fresh", "Repeat shipped rows, and show old beside new.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Runs the missing arms of an experiment, and writes OUT/report.html.

    Finished (arm, seed) have a row, and are not done again in any checkout. The command is idempotent and
    resumable: stop it at any time and run it again."""
    from evaluate.experiments import running

    folder = targets.folder(out)
    table, shipped, path = load(name)
    if fresh and not shipped:
        raise UserError(f"--fresh repeats shipped rows, and {name} has none; leave it out")
    request = running.ExperimentRequest(
        experiment=table,
        out=folder,
        seeds=table.seeds if seeds is None else seeds,
        arms=tuple(arms),
        workers=workers,
        ray_address=options.cluster(ray_address, workers),
        fresh=fresh,
        shipped=shipped,
        path=path,
    )
    if dry_run:
        foreseen, steps = running.foresee(request)
        for step in steps:
            console.show({"step": step.name, "seconds": round(step.seconds), "command": step.line})
        console.show(foreseen._asdict())
        return
    watch(request)


def load(name: str) -> tuple["Experiment", bool, tuple[str, ...]]:
    """Returns an experiment, True if it is shipped, and the folders with its further modules.

    Raises UserError if there is none of this name."""
    if not name.endswith(".py"):
        known = names()
        if name not in known:
            problem = f"there is no experiment {name!r}; known are {', '.join(known)}"
            raise UserError(f"{problem}; or give a file FILE.py that holds EXPERIMENT")
        module = importlib.import_module(f"evaluate.experiments.tables.{name.replace('-', '_')}")
        return module.EXPERIMENT, True, ()

    # A file of the user.
    file = Path(name).resolve()
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise UserError(f"there is no file {name}; give a Python file that holds EXPERIMENT")
    module = importlib.util.module_from_spec(spec)
    from evaluate.experiments import table

    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} does not load: {type(error).__name__}: {error}; correct the file") from None
    if not isinstance(getattr(module, "EXPERIMENT", None), table.Experiment):
        raise UserError(f"{name} holds no EXPERIMENT; see evaluate/experiments/README.md")
    return module.EXPERIMENT, False, (str(file.parent),)


def names() -> Sequence[str]:
    """Returns the names of the shipped experiments."""
    files = sorted(path.stem for path in TABLES.glob("*.py") if not path.stem.startswith("_"))
    return [file.replace("_", "-") for file in files]


def watch(request: "ExperimentRequest") -> None:
    """Runs an experiment and shows its events."""
    import contextlib

    from evaluate.experiments import findings, running

    with contextlib.closing(running.run(request)) as events:
        for event in events:
            match event:
                case running.StepEnded(step, "", seconds, left):
                    console.note(f"{step.name}: {seconds:.0f} s ({left} steps to go)")
                case running.StepEnded(_, problem, _, _):
                    console.note(problem)
                case running.RowAdded(row, before):
                    figures = {"before": before["figures"]} if before else {}
                    short = {key: value for key, value in row["figures"].items() if key != "curve"}
                    console.show({"arm": row["arm"], "seed": row["seed"], **short, **figures})
                case running.Note(text):
                    console.note(text)
    conclusions = findings.read(request.experiment, running.sort(request), request.seeds)
    console.show({"report": str(request.out / running.REPORT), "shows": conclusions.sentence})
