"""A toy experiment, in a folder of its own: its command `toy` and its table of two series."""

import textwrap
from pathlib import Path

# A stage in one file. It notes each call, so that tests count them.
STAGE = """
import json, os, pathlib, sys, time
words = sys.argv[1:]
pathlib.Path("calls").mkdir(exist_ok=True)
(pathlib.Path("calls") / f"{time.time_ns()}-{os.getpid()}").write_text(" ".join(words))
kind, *rest = words
time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
if kind == "train":
    seed, n, start, out = rest
    if os.environ.get("TOY_FAILS") == start:
        sys.exit("error: this toy breaks") if n == "64" else None
    pathlib.Path(out).mkdir(exist_ok=True)
    level = json.loads(pathlib.Path(start, "set.json").read_text())["level"] if start != "none" else 0.0
    loss = 2 * int(n) ** -0.2 - 0.01 * level + 0.03 * int(seed)
    pathlib.Path(out, "model.json").write_text(json.dumps(loss))
elif kind == "render":
    seed, out = rest
    pathlib.Path(out).mkdir(exist_ok=True)
    pathlib.Path(out, "set.json").write_text(json.dumps({"level": 5 + int(seed) % 2}))
elif kind == "measure":
    loss = json.loads(pathlib.Path(rest[0], "model.json").read_text())
    for k in range(4):
        print(json.dumps({"metric": "loss", "value": loss + (k - 2) ** 2 / 10, "images_seen": 10 * k}))
    print("not a row")
elif kind == "draw":
    from PIL import Image
    Image.new("RGB", (8, 8), (10, 20, 30)).save(rest[1])
"""

TABLE = """
from evaluate.experiments.table import Arm, Exchange, Experiment, Reading, Hypothesis, OUT, PICTURE, step

LAW = {law}


def toy(*words, **more):
    return step("toy", *words, law=LAW, **more)


def tuned(n, formulas):
    def steps(seed):
        start = toy("render", seed, OUT, seconds=60) if formulas else "none"
        run = toy("train", seed, n, start, OUT, seconds=600, megabytes=50, lasts=False)
        return [toy("measure", run), *([toy("draw", run, PICTURE)] if n == 64 else [])]

    return steps


EXPERIMENT = Experiment(
    "toy",
    "Do formulas help the toy?",
    (
        *(Arm(f"scratch-{{n}}", tuned(n, False), n, "scratch") for n in (32, 64, 128)),
        *(Arm(f"formulas-{{n}}", tuned(n, True), n, "formulas") for n in (32, 64)),
    ),
    Reading("lowest loss", "loss"),
    hypotheses=(Hypothesis("H1", "formulas-64", "{other}"),),
    exchanges=(Exchange("formulas", 64, "scratch"),),
    seeds=5,
)
"""


def toy(folder: Path, *, law: int = 1, other: str = "scratch-64") -> Path:
    """Writes the toy's command and table. Returns the table's file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.py").write_text(textwrap.dedent(STAGE))
    (folder / "table.py").write_text(TABLE.format(law=law, other=other))
    return folder / "table.py"


def calls(out: Path) -> list[str]:
    """Returns the first words of every call of the toy's command, in order."""
    return [path.read_text().split(" steps/")[0] for path in sorted((out / "calls").glob("*"))]
