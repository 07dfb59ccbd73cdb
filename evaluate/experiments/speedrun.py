"""The speedrun: how well a denoiser follows its words after 120 CPU seconds of training from nothing.

One thread trains on live scenes_flat, for a number of images that takes at most 120 CPU seconds. The clock
runs from the first step to the last, with drawing, reading and optimisers. Set-up and judging are outside.
The score is the arithmetic mean of the rates at which backdrop, colour, kind and relation are right, over
prompts of 3 and of 6 facts. records.jsonl holds the records: settings, and the score of every seed. A run
counts as a record if its seeds score higher than those of the record before, at p < .01 by Welch's test, and
both are judged by as many prompts.
"""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from evaluate import results
from synth import console, options
from synth.checkout import ROOT
from synth.errors import UserError
from synth.options import EMPTY
from synth.sets import completion, targets

PROGRAM = "python -m evaluate.experiments.speedrun"
RECORDS = Path(__file__).with_name("records.jsonl")
FACTS = ("backdrop", "colour", "kind", "relation")
LIMIT = 120  # CPU seconds
SIGNIFICANT = 0.01

_PROMPTS = (3, 6)  # facts
_KEPT = ("score", "scores", *FACTS, "cpu_seconds", "n")  # of a summary in a record

app = console.app("", f"{PROGRAM} --seeds 3")

Json = dict[str, Any]


@dataclass(frozen=True)
class SpeedrunRequest:
    """The options of the speedrun."""

    out: str
    seeds: int
    images: int
    prompts: int  # of each number of facts
    settings: tuple[str, ...]


def main() -> None:
    """Runs `python -m evaluate.experiments.speedrun`."""
    console.run(app, PROGRAM)


@app.command(epilog=console.epilog(f"{PROGRAM} --set training.batch=32 --record 'half the batch'"))
def speedrun(
    out: Annotated[str, options.place("--out", "DIR", "The runs.")] = "runs/speedrun",
    seeds: Annotated[int, options.integer("--seeds", "Runs, each with a seed of its own.", least=2)] = 3,
    images: Annotated[
        int, options.integer("--images", "Images of a run, within 120 CPU seconds.", least=64)
    ] = 20_480,
    prompts: Annotated[int, options.integer("--n", "Prompts of 3 and of 6 facts, each.", least=1)] = 128,
    record: Annotated[
        str | None, options.text("--record", "CHANGE", "Keep the result, if it is a record, as this change.")
    ] = None,
    settings: Annotated[
        list[str], options.place("--set", "GROUP.KEY=VALUE", "Change a setting; may be repeated.")
    ] = EMPTY,
) -> None:
    """Trains diffusion-32 for 120 CPU seconds, on several seeds, and compares with the record."""
    targets.folder(out)
    if fixed := [change for change in settings if change.startswith("training.seed=")]:
        raise UserError(f"--set {fixed[0]} has no use: each run has a seed of its own; leave it out")
    request = SpeedrunRequest(out, seeds, images, prompts, tuple(settings))
    rows = []
    for row in _runs(request):
        console.show(row)
        rows.append(row)
    result = summary(rows, standing())
    console.show(result)
    if record is None:
        return
    if not result["is_record"]:
        raise UserError(f"this is no record: {result['reason']}; leave --record out")
    entry = {"change": record, "settings": list(settings), "images": images}
    results.add(RECORDS, {**entry, **{key: result[key] for key in _KEPT}})


def standing() -> Json | None:
    """Returns the last record, or None if there is none yet."""
    records = results.rows_of(RECORDS) if RECORDS.exists() else []
    return records[-1] if records else None


def summary(rows: Sequence[Json], before: Json | None) -> Json:
    """Returns the means over seeds, and if they are a record: in time, and better than the one before on as
    many prompts."""
    # scipy is slow to import.
    from scipy.stats import ttest_ind

    scores, seconds = [row["score"] for row in rows], [row["cpu_seconds"] for row in rows]
    p = None
    if before is not None:
        test = ttest_ind(scores, before["scores"], equal_var=False, alternative="greater")
        p = float(test.pvalue)
    reason = ""
    if max(seconds) > LIMIT:
        reason = f"a run took {max(seconds)} CPU seconds, and {LIMIT} are allowed"
    elif before is not None and rows[0]["n"] != before["n"]:
        reason = f"the score is of {rows[0]['n']} prompts of each number of facts, not {before['n']}"
    elif p is not None and not p < SIGNIFICANT:
        reason = f"p is {p:.2g} against the record before"
    return {
        "score": round(fmean(scores), 4),
        "scores": scores,
        **{fact: round(fmean(row[fact] for row in rows), 4) for fact in FACTS},
        "cpu_seconds": max(seconds),
        "n": rows[0]["n"],
        "record_before": before and before["score"],
        "p": p,
        "is_record": not reason,
        "reason": reason,
    }


def _runs(request: SpeedrunRequest) -> Generator[Json, None, None]:
    """Yields the row of every seed."""
    runs = [str(Path(request.out).absolute() / str(seed)) for seed in range(request.seeds)]
    if existing := [run for run in runs if Path(run).exists()]:
        raise UserError(f"{existing[0]} exists; remove it, or give another --out")
    for seed, run in enumerate(runs):
        seconds = _trained(request, run, seed)
        facts = _judged(run, request.prompts, seed)
        score = round(fmean(facts.values()), 4)
        yield {"seed": seed, "score": score, **facts, "cpu_seconds": seconds, "n": request.prompts}


def _trained(request: SpeedrunRequest, run: str, seed: int) -> float:
    """Trains a run. Returns its CPU seconds from the first step to the last."""
    images = request.images
    fall = [f"training.decay_from={images * 3 // 4}", f"training.decay_to={images}"]
    settings = [f"training.seed={seed}", "training.drop_vector=1", *fall]
    settings += ["run.workers=0", "run.tick=1024", f"run.checkpoint={images}", f"run.samples={2 * images}"]
    command = [sys.executable, "-m", "train", "pretrain", "diffusion-32", "--live", "scenes_flat"]
    command += ["--text", "blend:1,plain", "--images", str(images), "--out", run, "--device", "cpu"]
    command += ["--precision", "bf16"]
    for setting in (*settings, *request.settings):
        command += ["--set", setting]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if ended.returncode:
        raise UserError(f"the run {run} ended with code {ended.returncode}; its message is above")
    with open(f"{run}/log.jsonl", encoding="utf-8") as log:
        return round(sum(json.loads(line)["cpu_seconds"] for line in log), 1)


def _judged(run: str, prompts: int, seed: int) -> dict[str, float]:
    """Returns the rates of right facts by type."""
    from evaluate.judge import obedience, scene_prompts, seeing

    prompted = scene_prompts.listed(seeing.FLAT, _PROMPTS, prompts)
    events = obedience.of_run(
        *(run, prompted, seeing.FLAT), seed=seed, images_seen=None, encoder=None, device="cpu"
    )
    rows = {row["metric"]: row["value"] for row in completion.finish(events) if row["split"] == "all"}
    return {fact: rows[f"obedience: {fact}"] for fact in FACTS}


if __name__ == "__main__":
    main()
