"""Obedience: how often pictures have the facts of their prompts, with the judge's own error beside it.

Rows are by type of fact and for whole prompts by number of facts, for all prompts, those of combinations that
training shows, and held-out ones. A control judges each picture by the next prompt. Rates of whole prompts
come raw and with the judge's error removed.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caption import encoders
from caption.endpoint import Endpoint
from evaluate import prompts, results, sources
from evaluate.judge import exam, scoring, seeing, vision_model
from evaluate.judge.rates import Counted, corrected_interval, rogan_gladen, wilson, wilson_by_picture
from evaluate.judge.scene_prompts import ScenePrompt
from evaluate.judge.scoring import Score
from evaluate.measuring import Events
from evaluate.sources import Pictures
from synth.errors import UserError
from synth.sets.completion import Progress
from synth.settings import digest
from train.runs import find
from train.sampling.draw import require_drawing

Json = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """Pictures with their prompts and scores."""

    prompts: Sequence[ScenePrompt]
    scores: Sequence[Score]
    shifted: Sequence[Score]  # each picture by the next prompt
    side: int


def of_run(
    place: str,
    prompted: Sequence[ScenePrompt],
    name: str,
    *,
    seed: int,
    images_seen: int | None,
    encoder: str | None,
    device: str,
    options: Mapping[str, str] | None = None,
    endpoint: Endpoint | None = None,
) -> Events:
    """Judges the pictures that a run draws of prompts, one each. Appends the rows to its figures.

    `options` of drawing are in their command-line form. The model of an endpoint judges, if one is given.
    Yields the number of judged pictures, and at the end the rows. Raises UserError if the run draws none."""
    # A folder of pictures.
    if Path(place).is_dir() and not sources.is_run(place):
        advice = "give a run, or --prompts FILE too if these are pictures"
        raise UserError(f"{place} is no run, and pictures that exist need their prompts; {advice}")

    # Texts.
    device, run, options = encoders.choose_device(device), find(place), options or {}
    require_drawing(run.model, place)
    results.require_place(run.path)
    folder = run.checkpoint(images_seen)
    forms = prompts.forms_of(run, options, encoder)
    net = run.encoder(encoder, device) if "vectors" in forms else None
    texts = prompts.of(net, [prompt.prompt for prompt in prompted])

    # Pictures and their scores.
    pictures = prompts.draw(run, folder, texts, seed=seed, device=device, options=options)
    yield from prompts.noted(run, texts.texts, options)
    yield Progress(0)
    judged = yield from _rows(pictures, prompted, name, endpoint)
    shared: Json = {"images_seen": run.images_seen(folder), "seed": seed, "prompts": texts.digest}
    if options:
        shared["drawing"] = dict(options)
    rows = [{**shared, **row} for row in judged]
    results.append(run.path, *rows)
    yield rows


def of_pictures(
    place: str, prompted: Sequence[ScenePrompt], name: str, endpoint: Endpoint | None = None
) -> Events:
    """Judges the pictures of a folder or a set, the i-th by the i-th prompt.

    The model of an endpoint judges, if one is given. Yields the number of judged pictures, and at the end the
    rows. Raises UserError if the numbers differ."""
    if sources.is_run(place):
        advice = "leave --prompts out, or give a folder or set of pictures in place of the run"
        raise UserError(f"{place} is a run, and --prompts is for pictures that exist; {advice}")
    pictures = sources.find(place)
    if pictures.count != len(prompted):
        problem = f"{place} holds {pictures.count:,} pictures for {len(prompted):,} prompts"
        raise UserError(f"{problem}; give one prompt for each picture, in the order of the files' names")
    judged = yield from _rows(pictures, prompted, name, endpoint)
    shared = {"pictures": place, "prompts": digest([prompt.row for prompt in prompted])}
    yield [{**shared, **row} for row in judged]


def _rows(
    pictures: Pictures, prompted: Sequence[ScenePrompt], name: str, endpoint: Endpoint | None
) -> Generator[Progress, None, list[Json]]:
    """Yields the number of judged pictures. Returns the rows of their judge."""
    if endpoint:
        rows = vision_model.table(endpoint, pictures, prompted)
        yield Progress(len(prompted))
        return rows
    judged = yield from _judged(pictures, prompted, name)
    return table(judged, name)


def table(judged: Judged, name: str, folder: Path = seeing.SHIPPED) -> list[Json]:
    """Returns the rows of judged pictures."""
    accuracy = exam.of(exam.read(folder), name, judged.side)
    shared: Json = {"set": name, "side": accuracy.side}
    shared["shared_words"] = accuracy.same
    if judged.side != accuracy.side:
        resized = f"pictures of {judged.side} px were judged at {accuracy.side} px"
        shared["notes"] = [f"{resized}, and the judge's accuracy is that on renders of {accuracy.side} px"]
    rows = []
    for split in ("all", "seen", "held_out"):
        # Pictures of the split.
        numbers = [
            i for i, p in enumerate(judged.prompts) if split == "all" or p.held_out == (split == "held_out")
        ]
        if not numbers:
            continue
        of_split: list[Json] = []
        facts = _by_type(judged.prompts, judged.scores, numbers)
        controls = _by_type([*judged.prompts[1:], judged.prompts[0]], judged.shifted, numbers)
        of_split += [_fact_row(fact, facts[fact], controls.get(fact), accuracy, split) for fact in facts]
        if both := _with_both(judged, numbers):
            row = {"metric": "obedience: relation, both kinds right", "split": split}
            value, interval = round(_counted(both).rate, 4), _rounded(wilson_by_picture(both))
            of_split.append({**row, "value": value, "interval": interval, "pictures": len(both)})
        rates = [_counted(rights).rate for rights in facts.values()]
        of_split += _means("facts", rates, len(numbers), split)

        # Whole prompts.
        wholes: dict[int, list[int]] = {}
        for i in numbers:
            wholes.setdefault(len(judged.prompts[i].facts), []).append(i)
        for count, members in sorted(wholes.items()):
            of_split.append(_whole_row(count, judged, members, accuracy, split))
        values = [row["value"] for row in of_split[-len(wholes) :]]
        of_split += _means("whole prompts", values, len(numbers), split)
        rows += [{"n": len(numbers), **row} for row in of_split]
    return [{**shared, **row} for row in rows]


def _judged(
    pictures: Pictures, prompted: Sequence[ScenePrompt], name: str
) -> Generator[Progress, None, Judged]:
    """Yields the number of judged pictures. Returns them with their scores."""
    accuracies, closed = exam.read(), name == seeing.FLAT
    scores: list[Score] = []
    shifted: list[Score] = []
    side = 0
    for batch in pictures.batches(0):
        side = batch.shape[1]
        same = exam.of(accuracies, name, side).same
        for seen in seeing.see(batch, name):
            number = len(scores)
            for offset, target in ((0, scores), (1, shifted)):
                facts = prompted[(number + offset) % len(prompted)].facts
                target.append(scoring.score(seen, facts, closed=closed, same=same))
        yield Progress(len(batch))
    return Judged(prompted, scores, shifted, side)


def _by_type(
    prompted: Sequence[ScenePrompt], scores: Sequence[Score], numbers: Sequence[int]
) -> dict[str, list[list[bool]]]:
    """Returns which facts of each picture are right, by type."""
    answers: dict[str, dict[int, list[bool]]] = {}
    for i in numbers:
        for fact, right in zip(prompted[i].facts, scores[i].rights, strict=True):
            answers.setdefault(fact.type, {}).setdefault(i, []).append(right)
    return {fact: list(by_picture.values()) for fact, by_picture in sorted(answers.items())}


def _counted(rights: Sequence[Sequence[bool]]) -> Counted:
    """Returns right facts among all facts."""
    return Counted(sum(map(sum, rights)), sum(map(len, rights)))


def _with_both(judged: Judged, numbers: Sequence[int]) -> list[list[bool]]:
    """Returns which relations of each picture are right.

    Leaves out relations of an object with a wrong kind, and pictures without a relation."""
    by_picture = []
    for i in numbers:
        facts = list(zip(judged.prompts[i].facts, judged.scores[i].rights, strict=True))
        shown = {fact.subject for fact, right in facts if fact.type == "kind" and right}
        rights = [
            right for fact, right in facts if fact.type == "relation" and {fact.subject, fact.object} <= shown
        ]
        if rights:
            by_picture.append(rights)
    return by_picture


def _fact_row(
    fact: str,
    rights: Sequence[Sequence[bool]],
    control: Sequence[Sequence[bool]] | None,
    accuracy: exam.Accuracy,
    split: str,
) -> Json:
    """Returns the row of a type of fact, from the facts of each picture.

    Without a control, no next prompt has a fact of this type."""
    figure, counted = accuracy.facts.get(fact), _counted(rights)
    return {
        "metric": f"obedience: {fact}",
        "split": split,
        "value": round(counted.rate, 4),
        "interval": _rounded(wilson_by_picture(rights)),
        "facts": counted.n,
        "with_prompts_changed_round": round(_counted(control).rate, 4) if control else None,
        "judge_accuracy": round(figure.rate, 4) if figure else None,
    }


def _whole_row(
    count: int, judged: Judged, members: Sequence[int], accuracy: exam.Accuracy, split: str
) -> Json:
    """Returns the row of whole prompts of a number of facts.

    It has no corrected rate if the judge accepts right pictures no more often than wrong ones."""
    raw, control = (
        Counted(sum(scores[i].whole for i in members), len(members))
        for scores in (judged.scores, judged.shifted)
    )
    right, wrong = accuracy.accepted[count], accuracy.false_accepts[count]
    corrected = rogan_gladen(raw.rate, right.rate, wrong.rate)
    return {
        "metric": f"obedience: whole prompts of {count} fact{'s' if count > 1 else ''}",
        "split": split,
        "value": round(raw.rate, 4),
        "interval": _rounded(wilson(raw)),
        "corrected": None if corrected is None else round(corrected, 4),
        "corrected_interval": None if corrected is None else _rounded(corrected_interval(raw, right, wrong)),
        "pictures": raw.n,
        "with_prompts_changed_round": round(control.rate, 4),
        "judge_sensitivity": round(right.rate, 4),
        "judge_false_accepts": round(wrong.rate, 4),
    }


def _means(what: str, rates: Sequence[float], count: int, split: str) -> list[Json]:
    """Returns the arithmetic and the geometric mean of rates. The latter is 0 if one of them is."""
    geometric = float(np.exp(np.log(rates).mean())) if all(rates) else 0.0
    means = {"arithmetic": float(np.mean(rates)), "geometric": geometric}
    metric = f"obedience: {what}"
    return [
        {"metric": f"{metric}, {mean} mean", "split": split, "value": round(value, 4), "pictures": count}
        for mean, value in means.items()
    ]


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(end, 4) for end in interval]
