"""Registered hypotheses: a file with its hash, written before the first row exists.

It has the question, the endpoint, the number of seeds, and the hypotheses. Arms may be added later, and
hypotheses may not be changed.
"""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from evaluate.experiments.table import Experiment
from synth.checkout import ROOT
from synth.errors import UserError
from synth.sets.storage import Folder
from synth.settings import canonical, digest

NAME = "registered.json"  # in the folder of an experiment

_HASH = "sha256"
_DATE = "registered"

Json = dict[str, Any]


def claims(experiment: Experiment) -> Json:
    """Returns the claims of a table, as plain JSON: everything that a registration fixes."""
    content: Json = {
        "experiment": experiment.name,
        "question": experiment.question,
        "endpoint": experiment.endpoint,
        "seeds": experiment.seeds,
        "hypotheses": experiment.hypotheses,
        "exchanges": experiment.exchanges,
    }
    if experiment.predictors:
        content["predictors"] = experiment.predictors
    return dict(json.loads(canonical(content)))


def read(experiment: Experiment, path: Path) -> Json | None:
    """Returns the registration of an experiment, or None if it is not registered yet.

    Raises UserError if the file or the table was changed afterwards, with the difference."""
    if not path.exists():
        return None
    try:
        stored = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(f"{path} is damaged; restore the file") from None
    registered = {name: value for name, value in stored.items() if name not in (_HASH, _DATE)}
    if digest(registered) != stored.get(_HASH):
        raise UserError(f"{path} was changed after its registration: its sha256 differs; restore the file")
    claimed = claims(experiment)
    differences = [
        f"{name} was {json.dumps(registered.get(name))} and is {json.dumps(claimed.get(name))}"
        for name in dict.fromkeys([*claimed, *registered])
        if registered.get(name) != claimed.get(name)
    ]
    if differences:
        problem = f"{experiment.name} was changed after its registration: {'; '.join(differences)}"
        raise UserError(f"{problem}; restore the table, or give the experiment another name")
    return dict(stored)


def write(experiment: Experiment, path: Path) -> Json:
    """Registers an experiment. Returns the registration."""
    content = claims(experiment)
    stored = {**content, _HASH: digest(content), _DATE: time.strftime("%Y-%m-%d", time.gmtime())}
    Folder(str(path.parent)).write(path.name, (json.dumps(stored, indent=1) + "\n").encode())
    return stored


def committed(path: Path) -> bool:
    """Returns True if git has the file as it is. False without git."""
    try:
        name = str(path.resolve().relative_to(ROOT))
        for command in (("ls-files", "--error-unmatch", name), ("diff", "--quiet", "HEAD", "--", name)):
            if subprocess.run(["git", *command], cwd=ROOT, capture_output=True, check=False).returncode:
                return False
    except (FileNotFoundError, ValueError):
        return False
    return True
