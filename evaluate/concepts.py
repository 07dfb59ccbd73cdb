"""Textual inversion of a run, measured on concepts that a judge can decide.

For each concept, such as purple stars, a word is learned from a few renders. Its prompts are then drawn with
different phrases in the place of the concept:

    initial word   a star left of a red ring on white
    row, keys      a <thing> left of a red ring on white, by both methods of textual_inversion.py
    name           a purple star left of a red ring on white: words that the run has learned before
    renders        the pictures that the word is learned from, and renders that the prompts are true of

Figures, as in the two-axis plot of Gal et al. (ICLR 2023, figure 10), each the mean over concepts:

    similarity  cosine of a net that trained none of it, between pictures of "a <thing>" and the renders
    class       how often the judge sees the concept's kind and colour, in "a <thing>" and in the prompts
    fidelity    share of the other facts that the judge sees: backdrop, the other object, direction, and on
                scenes_flat the number of objects

Axes: K renders of a concept, N pictures, D dimensions of a feature.
"""

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
from synth.sets.completion import Progress
from train.runs import find
from train.sampling.inverting import METHODS, Pupil, settings_of

INITIAL, NAME, RENDERS = "initial word", "name", "renders"
FIGURES = ("similarity", "class", "fidelity")

_WORD = "<thing>"
_ALONE = 8  # pictures of "a <thing>"

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

    Yields the number of finished steps, and at the end the rows. Raises UserError if the run's model has no
    attention to words, or the data set has too few concepts that its words name."""
    # The run, and a net that judges similarity.
    device, run = encoders.choose_device(request.device), find(request.run)
    results.require_place(run.path)
    folder = run.checkpoint(request.images_seen)
    pupil = Pupil(run, run.load(folder, device), request.drawing, device)
    measuring = _Measuring(request, pupil, detectors.load(request.detector, device=device))

    # Concept by concept.
    shared: Json = {"images_seen": run.images_seen(folder), "set": request.name, "seed": request.seed}
    shared |= {"facts_of_prompts": list(request.facts), "pictures": request.pictures}
    shared |= {"steps": settings_of(request.settings).steps, "features": request.detector}
    if request.settings:
        shared["settings"] = list(request.settings)
    if request.drawing:
        shared["drawing"] = dict(request.drawing)
    measured = yield from measuring.concepts()
    rows = [{**shared, **row} for row in measured]
    for row in rows:
        results.append(run.path, row)
    yield rows


class _Measuring:
    """The measurement of one request."""

    def __init__(self, request: ConceptsRequest, pupil: Pupil, net: Detector) -> None:
        self._request, self._pupil, self._net = request, pupil, net
        self._same = exam.of(exam.read(), request.name, pupil.side).same

    def concepts(self) -> Generator[Progress, None, list[Json]]:
        """Yields the number of finished steps. Returns the rows."""
        request, outcomes = self._request, Outcomes()
        chosen = scene_concepts.drawn(
            request.name,
            self._pupil.words,
            request.n,
            self._pupil.side,
            pictures=request.pictures,
            facts=request.facts,
            prompts=request.prompts,
            seed=request.seed,
        )
        for concept in chosen:
            _add(outcomes, RENDERS, self._of_renders(concept))
            for method, phrase in ((INITIAL, f"a {concept.noun}"), (NAME, concept.name)):
                _add(outcomes, method, self._of_phrase(self._pupil, concept, phrase))
            for method in METHODS:
                settings = settings_of(request.settings, method=method)
                pupil = yield from self._pupil.taught(_WORD, concept.noun, concept.pictures, settings)
                _add(outcomes, method, self._of_phrase(pupil, concept, f"a {_WORD}"))
        return table(outcomes, [concept.held_out for concept in chosen])

    def _of_phrase(self, pupil: Pupil, concept: Concept, phrase: str) -> Sequence[float]:
        """Returns the figures of pictures drawn with a phrase in the place of the concept."""
        drawn = pupil.drawn([phrase] * _ALONE + concept.prompted(phrase), self._request.seed)
        similarity = float((self._features(drawn[:_ALONE]) @ self._features(concept.pictures).T).mean())
        return similarity, *self._judged(concept, drawn)

    def _of_renders(self, concept: Concept) -> Sequence[float]:
        """Returns the figures of the concept's renders, each compared with the others, and of its scenes."""
        features = self._features(concept.pictures)
        count = len(features)
        similarity = (float((features @ features.T).sum()) - count) / (count * (count - 1))
        alone = concept.pictures[np.arange(_ALONE) % count]
        return similarity, *self._judged(concept, np.concatenate([alone, concept.scenes]))

    def _judged(self, concept: Concept, pictures: np.ndarray) -> tuple[float, float]:
        """Returns `class` and `fidelity` of pictures uint8 (N, R, R, 3): first those of the concept alone,
        then one of each prompt."""
        alone = [fact for fact in concept.prompts[0].facts if scene_concepts.of_concept(fact)]
        stated: list[Sequence[SceneFact]] = [alone] * _ALONE
        stated += [prompt.facts for prompt in concept.prompts]
        rights_of_concept: list[bool] = []
        others: list[bool] = []
        for facts, seen in zip(stated, seeing.see(pictures, self._request.name), strict=True):
            rights = scoring.score(seen, facts, same=self._same).rights
            by_fact = list(zip(facts, rights, strict=True))
            rights_of_concept.append(all(right for fact, right in by_fact if scene_concepts.of_concept(fact)))
            if facts is not alone:
                others += [right for fact, right in by_fact if not scene_concepts.of_concept(fact)]
                if self._request.name == seeing.FLAT:
                    named = {fact.subject for fact in facts if fact.subject >= 0}
                    others.append(len(seen.objects) == len(named))
        return float(np.mean(rights_of_concept)), float(np.mean(others))

    def _features(self, pictures: np.ndarray) -> np.ndarray:
        """Returns unit features float32 (N, D)."""
        features = self._net(pictures).features
        unit: np.ndarray = features / np.linalg.norm(features, axis=1, keepdims=True)
        return unit


def _add(outcomes: Outcomes, method: str, values: Sequence[float]) -> None:
    """Adds the figures of a concept."""
    of_method = outcomes.setdefault(method, {name: [] for name in FIGURES})
    for name, value in zip(FIGURES, values, strict=True):
        of_method[name].append(value)


def table(outcomes: Outcomes, held_out: Sequence[bool]) -> list[Json]:
    """Returns the rows of all concepts, then those of seen and of held-out ones.

    Each split has the figures of all methods, and the paired differences of both methods to the initial word,
    with Student's intervals over concepts. A split of fewer than two concepts has no rows."""
    rows = []
    for split in ("all", "seen", "held_out"):
        members = [i for i, held in enumerate(held_out) if split == "all" or held == (split == "held_out")]
        if len(members) < 2:
            continue
        for method, figures in outcomes.items():
            for name, values in figures.items():
                shared = {"method": method, "split": split}
                rows.append(_row(name, [values[i] for i in members], shared))
        for method in METHODS:
            for name in FIGURES:
                pairs = zip(outcomes[method][name], outcomes[INITIAL][name], strict=True)
                differences = [one - other for one, other in pairs]
                shared = {"method": method, "minus": INITIAL, "split": split}
                rows.append(_row(f"difference in {name}", [differences[i] for i in members], shared))
    return rows


def plot(rows: Sequence[Json]) -> bytes:
    """Plots the methods between fidelity and similarity, with their intervals over all concepts: a PNG."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = canvas.add_subplot()
    points = {(row["method"], row["metric"]): row for row in rows if row["split"] == "all"}
    for method in dict.fromkeys(name for name, _ in points):
        x, y = (points[method, f"concepts: {name}"] for name in ("fidelity", "similarity"))
        bars = [[[r["value"] - r["interval"][0]], [r["interval"][1] - r["value"]]] for r in (x, y)]
        axes.errorbar(x["value"], y["value"], xerr=bars[0], yerr=bars[1], marker="o", ls="", label=method)
    axes.set(xlabel="fidelity to the rest of the prompt", ylabel="similarity to the concept's pictures")
    axes.grid(alpha=0.3)
    canvas.legend(loc="outside upper left", ncols=5, frameon=False)
    file = io.BytesIO()
    canvas.savefig(file, dpi=120, format="png", metadata={"Software": None})
    return file.getvalue()


def _row(name: str, values: Sequence[float], shared: Json) -> Json:
    value, low, high = t_interval(values)
    interval = [round(low, 4), round(high, 4)]
    return {
        "metric": f"concepts: {name}",
        **shared,
        "value": round(value, 4),
        "interval": interval,
        "n": len(values),
    }
