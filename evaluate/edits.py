"""Edits of a run, measured against the rendered truth.

A scene is rendered before and after the change of one fact. The run's model edits the first render by
prompts, and the second one is the truth. Methods:

    prompt-to-prompt      the inverted render, edited with injected attention (train/sampling/editing.py)
    invert, new prompt    the noise of the inverted render under the edited prompt
    same seed, new prompt noise of the edit's number under the edited prompt

Figures: the PSNR of the pixels that should stay, and how often the judge sees the changed fact and the rest.
With drawn sources, the run draws the first picture itself. What should stay then follows from the judge's
sight of it: all pixels outside of the changed object's box, or for another backdrop the objects.

Axes: N edits, R resolution, W words.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caption import encoders
from caption.sentences.scene_phrases import NOUNS
from evaluate import results
from evaluate.distances.psnr import psnr
from evaluate.inference import Z, variance_by_group
from evaluate.judge import exam, scene_edits, scoring, seeing
from evaluate.judge.rates import wilson_by_picture
from evaluate.judge.scene_edits import SceneEdit
from evaluate.measuring import Events
from evaluate.prompts import require_words
from synth.families.scene_world import PALETTE
from synth.sets.completion import Progress
from train.runs import find
from train.sampling import draw, maps
from train.sampling.alignment import Word, worded
from train.sampling.editing import Editor, Plan
from train.sampling.maps import Maps

SOURCES = ("rendered", "drawn")
EDITED, INVERTED, SEEDED, RENDERS = (
    *("prompt-to-prompt", "invert, new prompt", "same seed, new prompt"),
    "renders",  # the truth itself: the judge's own accuracy
)
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of injection
MOST_BY_SHARE = 200  # edits

_AT_ONCE = 16
_FAR = 40.0  # levels between a pixel of an object and the backdrop

Json = dict[str, Any]


@dataclass(frozen=True)
class EditsRequest:
    """The options of `edits`."""

    run: str
    name: str = "scenes_flat"  # the data set of the scenes
    facts: tuple[int, ...] = (3, 6)  # numbers of facts of the edited prompts
    n: int = 1000
    source: str = "rendered"
    cross: float = 0.4
    itself: float = 0.2
    seed: int = 0
    images_seen: int | None = None
    device: str = "auto"
    drawing: Mapping[str, str] = field(default_factory=dict)  # options, in their command-line form

    @property
    def processed(self) -> int:
        """Edits of the main rows and of the table over shares."""
        return self.n + len(SHARES) * self.by_share

    @property
    def by_share(self) -> int:
        """Edits of each share."""
        return min(self.n, MOST_BY_SHARE)


@dataclass
class Outcomes:
    """Figures of a method by edit."""

    kinds: list[str] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)  # of pixels that should stay
    changed: list[bool] = field(default_factory=list)  # the judge sees the changed fact
    others: list[list[bool]] = field(default_factory=list)  # and the unchanged ones

    def rows(self, kind: str) -> list[int]:
        """Returns the numbers of the edits of a kind, or of all."""
        return [i for i, name in enumerate(self.kinds) if kind in (name, "all")]

    def first(self, n: int) -> "Outcomes":
        """Returns the figures of the first n edits."""
        return Outcomes(self.kinds[:n], self.psnr[:n], self.changed[:n], self.others[:n])


def edits(request: EditsRequest) -> Events:
    """Measures the edits of a run. Appends the rows to the run's figures.

    Yields the number of processed edits, and at the end the rows. Raises UserError if the run's model has no
    attention to words, or draws other pictures than the judge reads."""
    # The run.
    device, run = encoders.choose_device(request.device), find(request.run)
    maps.require_attention(run, request.drawing)
    require_words(run)
    results.require_place(run.path)
    folder = run.checkpoint(request.images_seen)
    editor = Editor(run, run.load(folder, device), request.drawing, device)
    measuring = _Measuring(request, editor)

    # All methods, then the table over shares.
    outcomes = yield from measuring.methods()
    rows = measuring.rows(outcomes)
    for share, outcome in (yield from measuring.shares(outcomes[EDITED])).items():
        rows += _of_method(outcome, outcome.rows("all"), {"method": EDITED, "kind": "all", "cross": share})
    shared: Json = {"images_seen": run.images_seen(folder), "set": request.name, "seed": request.seed}
    shared |= {"source": request.source, "facts_of_prompts": list(request.facts)}
    if request.drawing:
        shared["drawing"] = dict(request.drawing)
    rows = [{**shared, **row} for row in rows]
    results.append(run.path, *rows)
    yield rows


class _Measuring:
    """The measurement of one request."""

    def __init__(self, request: EditsRequest, editor: Editor) -> None:
        self._request, self._editor = request, editor
        self._side = editor.model.config.model.resolution
        self._same = exam.of(exam.read(), request.name, self._side).same
        self._plan = Plan(request.cross, request.itself)
        self._aucs: dict[str, list[list[float]]] = {"colour": [], "kind": []}  # by scene

    def methods(self) -> Generator[Progress, None, dict[str, Outcomes]]:
        """Yields the number of processed edits. Returns the Outcomes of each method."""
        outcomes: dict[str, Outcomes] = {}
        for number, group in self._groups(self._request.n):
            sources, edited = [edit.source for edit in group], [edit.edited for edit in group]
            noise = self._editor.noise(range(number, number + len(group)), self._request.seed)
            before, path = self._before(group, noise, sources, keep=True)
            pictures = {
                EDITED: self._edited(group, self._plan, noise, path),
                SEEDED: draw.levels(self._editor.drawn(noise, edited)),
            }
            if path:
                pictures[INVERTED] = draw.levels(self._editor.from_path(path, edited))
                pictures[RENDERS] = np.stack([edit.after.pixels for edit in group])
            kept = self._kept(group, before)
            for method, levels in pictures.items():
                self._judge(outcomes.setdefault(method, Outcomes()), group, before, levels, kept)
            yield Progress(len(group))
        return outcomes

    def shares(self, main: Outcomes) -> Generator[Progress, None, dict[float, Outcomes]]:
        """Yields the number of processed edits. Returns the Outcomes of each share of injection.

        A share that the main edits have takes theirs."""
        ratio, n = self._request.itself / max(self._request.cross, 1e-9), self._request.by_share
        plans = {share: Plan(share, min(1.0, share * ratio)) for share in SHARES}
        outcomes = {share: main.first(n) if plans[share] == self._plan else Outcomes() for share in SHARES}
        new = [share for share in SHARES if plans[share] != self._plan]
        for number, group in self._groups(n):
            noise = self._editor.noise(range(number, number + len(group)), self._request.seed)
            before, path = self._before(group, noise, [edit.source for edit in group], keep=False)
            kept = self._kept(group, before)
            for share in new:
                levels = self._edited(group, plans[share], noise, path)
                self._judge(outcomes[share], group, before, levels, kept)
            yield Progress(len(group) * len(SHARES))
        return outcomes

    def _groups(self, n: int) -> Iterator[tuple[int, list[SceneEdit]]]:
        """Yields groups of the first n edits, with the number of their first."""
        request = self._request
        drawn = islice(scene_edits.drawn(request.name, request.facts, self._side, seed=request.seed), n)
        for number in range(0, n, _AT_ONCE):
            yield number, list(islice(drawn, _AT_ONCE))

    def _before(
        self, group: Sequence[SceneEdit], noise: Tensor, sources: list[str], *, keep: bool
    ) -> tuple[np.ndarray, list[Tensor]]:
        """Returns the pictures before the edits, and the inverted path of renders.

        If `keep`, the maps of the way up are compared with the true masks."""
        if self._request.source == "drawn":
            return draw.levels(self._editor.drawn(noise, sources)), []
        before = np.stack([edit.before.pixels for edit in group])
        planes = torch.from_numpy(before).permute(0, 3, 1, 2).to(noise) / 127.5 - 1
        seen = maps.maps_of(self._editor.tokens(sources))
        path = self._editor.inverted(planes, sources, seen)
        if keep:
            self._compare_maps(group, seen)
        return before, path

    def _edited(
        self, group: Sequence[SceneEdit], plan: Plan, noise: Tensor, path: list[Tensor]
    ) -> np.ndarray:
        """Returns the edits by prompt-to-prompt: uint8 (n, R, R, 3)."""
        pictures = self._editor.edited(
            [edit.source for edit in group],
            [edit.edited for edit in group],
            [replace(plan, weights=edit.weights) for edit in group],
            noise=noise,
            path=path,
        ).edit
        return draw.levels(pictures)

    def _compare_maps(self, group: Sequence[SceneEdit], seen: Maps) -> None:
        """Adds the areas under the curve of words' maps against the masks of the objects that they name."""
        planes = seen.whole(self._side)
        for edit, tokens in zip(group, planes, strict=True):
            words = worded(self._editor.tokenise, edit.source)
            of_scene: dict[str, list[float]] = {}
            for fact in edit.facts:
                named = _named(words, fact.type, str(fact.value))
                if not named:
                    continue
                mask = edit.before.mask == edit.numbers[fact.subject] + 1
                if mask.any():
                    plane = maps.of_words(tokens, named).sum(axis=0)
                    of_scene.setdefault(fact.type, []).append(auc(plane[mask], plane[~mask]))
            for fact_type, values in of_scene.items():
                self._aucs[fact_type].append(values)

    def _kept(self, group: Sequence[SceneEdit], before: np.ndarray) -> list[np.ndarray | None]:
        """Returns the pixels that should stay: bool (R, R) each, or None if the judge does not see them."""
        if self._request.source == "rendered":
            return [~edit.mask for edit in group]
        return [
            kept_of_drawn(edit, pixels, seen, self._same)
            for edit, pixels, seen in zip(group, before, seeing.see(before, self._request.name), strict=True)
        ]

    def _judge(
        self,
        outcomes: Outcomes,
        group: Sequence[SceneEdit],
        before: np.ndarray,
        edited: np.ndarray,
        kept: Sequence[np.ndarray | None],
    ) -> None:
        """Adds the figures of edited pictures."""
        for i, seen in enumerate(seeing.see(edited, self._request.name)):
            rights = list(scoring.score(seen, group[i].facts, same=self._same).rights)
            outcomes.kinds.append(group[i].kind)
            outcomes.changed.append(rights.pop(group[i].place))
            outcomes.others.append(rights)
            outcomes.psnr.append(_psnr(before[i], edited[i], kept[i]))

    # Rows.

    def rows(self, outcomes: Mapping[str, Outcomes]) -> list[Json]:
        """Returns the rows of methods, by kind of edit, and the differences of prompt-to-prompt to them."""
        rows = []
        for kind in ("all", *scene_edits.KINDS):
            # Few edits may lack a kind.
            members = outcomes[EDITED].rows(kind)
            if not members:
                continue
            for method, outcome in outcomes.items():
                rows += _of_method(outcome, members, {"method": method, "kind": kind})
            for method in (name for name in (INVERTED, SEEDED) if name in outcomes):
                rows += _differences(outcomes[EDITED], outcomes[method], members, method, kind)
        for word, by_scene in self._aucs.items():
            if by_scene:
                rows.append(_row_by_scene(f"edits: AUC of maps of {word} words", by_scene))
        return rows


def kept_of_drawn(
    edit: SceneEdit, pixels: np.ndarray, seen: seeing.Seen, same: scoring.Same
) -> np.ndarray | None:
    """Returns the pixels of a drawn picture (R, R, 3) that an edit should leave alone: bool (R, R).

    They are the objects without their soft edges if the backdrop changes, else all pixels outside of the box
    of the changed object. Returns None if the judge does not see the object."""
    if edit.changed.type == "backdrop":
        behind = np.array(PALETTE[seen.backdrop])
        objects = np.abs(pixels.astype(int) - behind).max(axis=2) > _FAR
        inner = _without_edge(objects)
        return inner if inner.any() else None

    # The seen object with most of the facts that the source states of it.
    stated = [f for f in edit.facts if f.subject == edit.changed.subject and f.type in ("kind", "colour")]
    stated = [fact for fact in stated if fact is not edit.changed]
    scores = [sum(scoring.of_object(thing, fact, same) for fact in stated) for thing in seen.objects]
    if not scores or not max(scores):
        return None
    left, top, right, bottom = seen.objects[int(np.argmax(scores))].box
    side = len(pixels)
    kept = np.ones((side, side), bool)
    rows, columns = (
        slice(max(0, int(low * side) - 1), int(np.ceil(high * side)) + 1)
        for low, high in ((top, bottom), (left, right))
    )
    kept[rows, columns] = False
    return kept if kept.any() else None


def _without_edge(area: np.ndarray) -> np.ndarray:
    """Returns the pixels of an area (R, R) with all four neighbours in it."""
    wide = np.pad(area, 1)
    return np.asarray(area & wide[2:, 1:-1] & wide[:-2, 1:-1] & wide[1:-1, 2:] & wide[1:-1, :-2])


def _psnr(before: np.ndarray, after: np.ndarray, kept: np.ndarray | None) -> float:
    """Returns the PSNR in dB of the kept pixels, or nan without any."""
    if kept is None or not kept.any():
        return float("nan")
    return psnr(before[kept], after[kept])


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Returns the area under the curve: how often a value inside is above one outside."""
    order = np.sort(outside)
    below = np.searchsorted(order, inside, "left") + np.searchsorted(order, inside, "right")
    return float(below.mean() / (2 * len(outside)))


def _named(words: Sequence[Word], fact: str, value: str) -> list[Word]:
    """Returns the words of a colour or a kind, or nothing if the prompt has them not exactly once."""
    if fact not in ("colour", "kind"):
        return []
    name = (NOUNS[value][0] if fact == "kind" else value).split()
    texts = [word.text for word in words]
    starts = [i for i in range(len(texts)) if texts[i : i + len(name)] == name]
    return list(words[starts[0] : starts[0] + len(name)]) if len(starts) == 1 else []


def _of_method(outcome: Outcomes, members: Sequence[int], shared: Json) -> list[Json]:
    """Returns the rows of a method's edits with these numbers."""
    psnrs = np.array([outcome.psnr[i] for i in members])
    rows = [] if shared["method"] == RENDERS else [_mean_row("edits: background PSNR", psnrs, shared)]
    changed, others = [[outcome.changed[i]] for i in members], [outcome.others[i] for i in members]
    for metric, rights in (("edits: changed fact", changed), ("edits: unchanged facts", others)):
        if n := sum(map(len, rights)):
            interval = [round(end, 4) for end in wilson_by_picture(rights)]
            value = round(sum(map(sum, rights)) / n, 4)
            rows.append({"metric": metric, **shared, "value": value, "interval": interval, "n": n})
    return rows


def _differences(
    one: Outcomes, other: Outcomes, members: Sequence[int], method: str, kind: str
) -> list[Json]:
    """Returns the mean paired differences of two methods, the first minus the second."""
    shared: Json = {"method": EDITED, "minus": method, "kind": kind}
    psnrs = np.array([one.psnr[i] - other.psnr[i] for i in members])
    changed = np.array([float(one.changed[i]) - float(other.changed[i]) for i in members])
    return [
        _mean_row("edits: difference in background PSNR", psnrs, shared),
        _mean_row("edits: difference in the changed fact", changed, shared),
    ]


def _mean_row(metric: str, values: np.ndarray, shared: Json) -> Json:
    """Returns a row with the mean of values and its 95 % interval. Values of nan are left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {"metric": metric, **shared, "value": None, "interval": None, "n": 0}
    mean = float(values.mean())
    interval = None
    if len(values) > 1:
        error = float(values.std(ddof=1)) / len(values) ** 0.5
        interval = [round(mean - Z * error, 4), round(mean + Z * error, 4)]
    return {"metric": metric, **shared, "value": round(mean, 4), "interval": interval, "n": len(values)}


def _row_by_scene(metric: str, by_scene: Sequence[Sequence[float]]) -> Json:
    """Returns a row with the mean of the values of all scenes, and its 95 % interval over scenes.

    Values of one scene are not independent."""
    values = np.concatenate(by_scene)
    mean, interval = float(values.mean()), None
    if len(by_scene) > 1:
        sums, counts = (np.array([f(each) for each in by_scene], float) for f in (sum, len))
        error = variance_by_group(sums, counts) ** 0.5
        interval = [round(mean - Z * error, 4), round(mean + Z * error, 4)]
    return {"metric": metric, "value": round(mean, 4), "interval": interval, "n": len(values)}
