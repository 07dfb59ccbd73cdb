"""Textual inversion of a run, measured on concepts that a judge can decide.

For each concept, such as purple stars, a word is learned from a few renders. Its prompts are then drawn with
different phrases in the place of the concept:

    initial word   a star left of a red ring on white: the word of its kind, at which a new word begins
    row, keys      a <thing> left of a red ring on white, by both methods of textual_inversion.py
    name           a purple star left of a red ring on white: words of the run's training texts
    renders        renders of the concept, and those that the prompts are true of

Figures, as in the two-axis plot of Gal et al. (ICLR 2023, figure 10), each the mean over concepts:

    similarity        cosine of a detector's features, between eight pictures of "a <thing>" and other renders
    class alone       share of these eight in which the judge sees the concept's kind and colour, and on
                      scenes_flat nothing else
    class in prompts  share of the pictures of prompts in which it sees that kind and colour
    fidelity          share of the other facts of prompts that it sees: the other object, direction, backdrop
                      if it is stated, and on scenes_flat the number of objects

Axes: K renders of a concept, N pictures, D dimensions of a feature.
"""

import dataclasses
import io
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caption import encoders
from caption.sentences.scene_facts import SceneFact
from evaluate import detectors, results
from evaluate.detectors import Detector
from evaluate.inference import t_interval
from evaluate.judge import exam, scene_concepts, scoring, seeing
from evaluate.judge.scene_concepts import Concept
from evaluate.measuring import Events
from evaluate.prompts import notes_of, require_words
from synth.errors import UserError
from synth.sets.completion import Progress
from train.runs import find
from train.sampling.inverting import METHODS, settings_of
from train.sampling.word_learner import WordLearner

INITIAL, NAME, RENDERS = "initial word", "name", "renders"
FIGURES = ("similarity", "class alone", "class in prompts", "fidelity")
SPLITS = ("all", "seen", "held_out")

_WORD = "<thing>"
_ALONE = 8  # pictures of "a <thing>"
_PAIRS = (*((method, INITIAL) for method in METHODS), tuple(reversed(METHODS)))  # of compared methods
_FIXED = ("method", "seed")  # settings of the inversion that the measurement chooses

Json = dict[str, Any]
Outcomes = dict[str, dict[str, list[float]]]  # by method and figure, a value of each concept


@dataclass(frozen=True)
class ConceptsRequest:
    """The options of `concepts`."""

    run: str
    name: str = "scenes_flat"  # the data set of the concepts
    n: int = 20
    facts: tuple[int, ...] = (3, 6)  # numbers of facts of the prompts
    prompts: int = 8  # of a concept, of each number of facts
    pictures: int = 4  # renders that a word is learned from
    detector: str = detectors.LITE
    seed: int = 0
    images_seen: int | None = None
    device: str = "auto"
    settings: tuple[str, ...] = ()  # of the inversion, in their command-line form
    drawing: Mapping[str, str] = field(default_factory=dict)  # options, in their command-line form

    @property
    def processed(self) -> int:
        """Steps of all words."""
        return self.n * len(METHODS) * settings_of(self.settings).steps


def concepts(request: ConceptsRequest) -> Events:
    """Measures words that a run learns. Appends the rows to its figures.

    Yields the number of finished steps, and at the end the rows. Raises UserError if the run learns no words,
    its texts name too few concepts of the data set, or a setting or a number of facts has no use here."""
    # The request.
    scene_concepts.require_facts(request.facts)
    for change in request.settings:
        if change.partition("=")[0] in _FIXED:
            problem = f"--set {change} has no use: both methods are measured, with seeds from --seed"
            raise UserError(f"{problem}; leave it out")
    device, run = encoders.choose_device(request.device), find(request.run)
    require_words(run)
    results.require_place(run.path)
    folder = run.checkpoint(request.images_seen)
    learner = WordLearner(run, run.load(folder, device), request.drawing, device)
    net = detectors.load(request.detector, device=device)

    # Concept by concept.
    measured = yield from _Measuring(request, learner, net).concepts()
    shared: Json = {"images_seen": run.images_seen(folder), "set": request.name, "seed": request.seed}
    shared |= {"facts_of_prompts": list(request.facts), "prompts": request.prompts}
    shared |= {"pictures": request.pictures, "inversion": _inversion(request)}
    shared |= {"detector": net.name, "weights": net.weights, "resize": net.resize}
    if request.drawing:
        shared["drawing"] = dict(request.drawing)
    rows = [{**shared, **row} for row in measured]
    notes = list(notes_of(run, net.weights))
    for row in (row for row in rows if notes and row["metric"].endswith("similarity")):
        row["notes"] = notes
    results.append(run.path, *rows)
    yield rows


def _inversion(request: ConceptsRequest) -> Json:
    """Returns the settings that all words have, as plain JSON."""
    settings = dataclasses.asdict(settings_of(request.settings))
    return {name: value for name, value in settings.items() if name not in _FIXED}


class _Measuring:
    """The measurement of one request."""

    def __init__(self, request: ConceptsRequest, learner: WordLearner, net: Detector) -> None:
        self._request, self._learner, self._net = request, learner, net
        self._same = exam.of(exam.read(), request.name, learner.side).same
        self._flat = request.name == seeing.FLAT  # prompts name all objects

    def concepts(self) -> Generator[Progress, None, list[Json]]:
        """Yields the number of finished steps. Returns the rows."""
        request, outcomes = self._request, Outcomes()
        chosen = scene_concepts.drawn(
            request.name,
            self._learner.knows,
            request.n,
            self._learner.side,
            pictures=request.pictures,
            facts=request.facts,
            prompts=request.prompts,
            seed=request.seed,
        )
        yield Progress(0)
        for number, concept in enumerate(chosen):
            _add(outcomes, RENDERS, self._of_renders(concept))
            for method, phrase in ((INITIAL, f"a {concept.noun}"), (NAME, concept.name)):
                _add(outcomes, method, self._of_phrase(self._learner, number, concept, phrase))
            for method in METHODS:
                settings = settings_of(request.settings, method=method, seed=request.seed + number)
                learner = yield from self._learner.learned(_WORD, concept.noun, concept.pictures, settings)
                _add(outcomes, method, self._of_phrase(learner, number, concept, f"a {_WORD}"))
        return table(outcomes, chosen)

    def _of_phrase(self, learner: WordLearner, number: int, concept: Concept, phrase: str) -> Sequence[float]:
        """Returns the figures of pictures with a phrase in the place of the concept of this number.

        Every concept has its own noise, which all phrases share."""
        prompts = [phrase] * _ALONE + concept.prompted(phrase)
        drawn = learner.drawn(prompts, self._request.seed, number * len(prompts))
        return self._figures(concept, drawn[:_ALONE], drawn[_ALONE:])

    def _of_renders(self, concept: Concept) -> Sequence[float]:
        """Returns the figures of the renders that the word is learned from, and of the prompts' scenes."""
        return self._figures(concept, concept.pictures, concept.scenes)

    def _figures(self, concept: Concept, alone: np.ndarray, prompted: np.ndarray) -> Sequence[float]:
        """Returns the figures of pictures of the concept alone, and of one picture for each prompt: both
        uint8 (N, R, R, 3)."""
        similarity = float((self._features(alone) @ self._features(concept.others).T).mean())

        # The concept alone.
        identity = [fact for fact in concept.prompts[0].facts if scene_concepts.of_concept(fact)]
        scenes = seeing.see(alone, self._request.name)
        right_alone = [scoring.score(s, identity, closed=self._flat, same=self._same).whole for s in scenes]

        # The prompts.
        right: list[bool] = []
        others: list[bool] = []
        scenes = seeing.see(prompted, self._request.name)
        for prompt, scene in zip(concept.prompts, scenes, strict=True):
            rights = scoring.score(scene, prompt.facts, same=self._same).rights
            facts: list[tuple[SceneFact, bool]] = list(zip(prompt.facts, rights, strict=True))
            right.append(all(seen for fact, seen in facts if scene_concepts.of_concept(fact)))
            others += [seen for fact, seen in facts if not scene_concepts.of_concept(fact)]
            if self._flat:
                others.append(len(scene.objects) == len({f.subject for f in prompt.facts if f.subject >= 0}))
        return similarity, *(float(np.mean(values)) for values in (right_alone, right, others))

    def _features(self, pictures: np.ndarray) -> np.ndarray:
        """Returns unit features float32 (N, D), or zeros for a picture without any."""
        features = self._net(pictures).features
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        unit: np.ndarray = features / np.maximum(lengths, 1e-12)
        return unit


def _add(outcomes: Outcomes, method: str, values: Sequence[float]) -> None:
    """Adds the figures of a concept."""
    of_method = outcomes.setdefault(method, {name: [] for name in FIGURES})
    for name, value in zip(FIGURES, values, strict=True):
        of_method[name].append(value)


def table(outcomes: Outcomes, chosen: Sequence[Concept]) -> list[Json]:
    """Returns the rows of all concepts, then those of seen and of held-out ones.

    Each split has the figures of all methods, and the paired differences of both methods to the initial word
    and to each other, with Student's intervals over concepts. A split of fewer than two concepts has no rows.
    Rows of all concepts have each concept's value."""
    rows = []
    for split in SPLITS:
        members = [i for i, c in enumerate(chosen) if split == "all" or c.held_out == (split == "held_out")]
        if len(members) < 2:
            continue
        for method, figures in outcomes.items():
            for name, values in figures.items():
                row = _row(name, [values[i] for i in members], {"method": method, "split": split})
                if split == "all":
                    row["values"] = {
                        concept.name: round(value, 4) for concept, value in zip(chosen, values, strict=True)
                    }
                rows.append(row)
        for method, other in _PAIRS:
            for name in FIGURES:
                pairs = zip(outcomes[method][name], outcomes[other][name], strict=True)
                differences = [one - second for one, second in pairs]
                shared = {"method": method, "minus": other, "split": split}
                rows.append(_row(f"difference in {name}", [differences[i] for i in members], shared))
    return rows


def plot(rows: Sequence[Json]) -> bytes:
    """Plots the methods between fidelity and similarity, with intervals over concepts: a PNG.

    Discs are concepts of seen combinations, squares those of held-out ones."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = canvas.add_subplot()
    points = {(row["method"], row["split"], row["metric"]): row for row in rows if "minus" not in row}
    for number, method in enumerate(dict.fromkeys(name for name, *_ in points)):
        for split, marker in (("seen", "o"), ("held_out", "s")):
            if (method, split, "concepts: fidelity") not in points:
                continue
            x, y = (points[method, split, f"concepts: {name}"] for name in ("fidelity", "similarity"))
            bars = [[[r["value"] - r["interval"][0]], [r["interval"][1] - r["value"]]] for r in (x, y)]
            label = f"{method}, {split.replace('_', ' ')}"
            style: Any = {"color": f"C{number}", "marker": marker, "ls": "", "lw": 1, "label": label}
            axes.errorbar(x["value"], y["value"], xerr=bars[0], yerr=bars[1], **style)
    axes.set(
        xlabel="fidelity to the rest of the prompt", ylabel="similarity to other pictures of the concept"
    )
    axes.grid(alpha=0.3)
    canvas.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    file = io.BytesIO()
    canvas.savefig(file, dpi=120, format="png", metadata={"Software": None})
    return file.getvalue()


def _row(name: str, values: Sequence[float], shared: Json) -> Json:
    """Returns the row of a figure's mean, with Student's interval."""
    value, low, high = t_interval(values)
    return {
        "metric": f"concepts: {name}",
        **shared,
        "value": round(value, 4),
        "interval": [round(low, 4), round(high, 4)],
        "n": len(values),
    }
