"""Attribute agreement: the share of a run's pictures with the attributes in their prompts.

Prompts are short sentences of the caption grammar, from the facts of held-out pictures. Pixels decide colour
and background: the background is the commonest colour word along the border, the colour the commonest among
the other pixels. A ridge head, in closed form, decides the family from a detector's features. It is fitted to
pictures drawn by formulas. Two controls come with each figure: the judge on real renders gives the upper
bound, and shuffled prompts give the chance level.

Axes: N pictures, D dimensions of a feature, K families, H and W pixels.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from caption import encoders
from caption.sentences import attributes
from evaluate import detectors, prompts, results
from evaluate.detectors import Detector
from evaluate.distances import kernels
from evaluate.figures import named
from evaluate.measuring import Events, Json
from synth.errors import UserError
from synth.sets.completion import Progress
from synth.sets.shards import ShardSet
from synth.settings import digest
from train.runs import find
from train.sampling.draw import require_drawing

FACTS = ("family", "colour", "background")
_RIDGE = 1e-2  # of the features' mean variance
_BORDER = 1 / 16  # of a side
_AT_ONCE = 64


class Real(NamedTuple):
    """Pictures drawn by formulas, and their exact facts."""

    pixels: np.ndarray  # uint8 (N, H, W, 3)
    facts: list[dict[str, Any]]


class Head(NamedTuple):
    """A linear classifier of families on standardised features."""

    names: tuple[str, ...]  # K
    mean: np.ndarray  # (D,)
    spread: np.ndarray  # (D,)
    weights: np.ndarray  # (D + 1, K)

    def names_of(self, features: np.ndarray) -> list[str]:
        """Returns the family of each row of features (N, D)."""
        scores = _with_one((features - self.mean) / self.spread) @ self.weights
        return [self.names[k] for k in scores.argmax(axis=1)]


def agreement(
    place: str,
    sets: Sequence[str],
    *,
    n: int,
    detector: str,
    weights: str | None,
    seed: int,
    encoder: str | None,
    device: str,
    options: Mapping[str, str] | None = None,
) -> Events:
    """Measures a run. Yields the number of processed pictures, and at the end one row per fact.

    A row has the agreement of real renders, of the run's pictures, and of these with shuffled prompts. The
    last row has the kernel distance of the run's pictures from the renders of their facts. Appends each row
    to the run's figures. Raises UserError if the run or a set is not suitable."""
    # The run and the judge.
    device, run = encoders.choose_device(device), find(place)
    require_drawing(run.model, place)
    results.require_place(run.path)
    net = detectors.load(detector, weights=weights, device=device)
    folder, options = run.checkpoint(), options or {}
    forms = prompts.forms_of(run, options, encoder)
    model = run.encoder(encoder, device) if "vectors" in forms else None
    fitted, held_out = _halves(read(sets, n), seed)
    families = [f["family"] for f in fitted.facts]
    require_families(families)
    if len(held_out.facts) < kernels.FEWEST:
        problem = f"the distance needs at least {kernels.FEWEST} pictures, and half of these are fewer"
        raise UserError(f"{problem}; give a larger --n")
    prompted = prompts.of(model, [attributes.state(_prompted(f), "short") for f in held_out.facts])
    drawn = prompts.draw(run, folder, prompted, seed=seed, device=device, options=options)
    for name, count in ((name, len(ShardSet(name))) for name in sets):
        if count < n:
            yield Progress(0, note=f"note: {name} holds {count:,} pictures, so {count:,} are read, not {n:,}")
    yield from prompts.noted(run, prompted.texts, options)

    # The head, and pictures of the held-out facts.
    yield Progress(0)
    head = fit((yield from features(net, fitted.pixels)), families)
    pictures = np.concatenate(list(drawn.batches(0)))

    # Answers of the judge.
    real_features = yield from features(net, held_out.pixels)
    drawn_features = yield from features(net, pictures)
    judged_real = judge(head, real_features, held_out.pixels)
    judged_drawn = judge(head, drawn_features, pictures)

    # Rows.
    measured = [
        *_agreements(held_out.facts, judged_real, judged_drawn, net),
        _distance(drawn_features, real_features, net),
    ]
    notes, seen = prompts.notes_of(run, net.weights), {"images_seen": run.images_seen(folder)}
    shared: Json = {"seed": seed, "sets": digest([ShardSet(s).digest for s in sets])}
    if options:
        shared["drawing"] = dict(options)
    table = [{**seen, **row, **shared, "notes": list(notes) if row["weights"] else []} for row in measured]
    results.append(run.path, *table)
    yield table


def _agreements(
    facts: list[dict[str, Any]],
    real: list[dict[str, str | None]],
    drawn: list[dict[str, str | None]],
    net: Detector,
) -> Iterator[Json]:
    """Yields the row of each kind of fact, from the facts of pictures and the judge's answers on renders and
    on drawn pictures. The shuffled prompts are those of the next picture."""
    shifted = facts[1:] + facts[:1]
    for fact in FACTS:
        rows = [i for i, stated in enumerate(facts) if fact in _prompted(stated)]
        both = [i for i in rows if fact in _prompted(shifted[i])]
        yield {
            "metric": f"attribute agreement: {fact}",
            "value": _share(drawn, facts, fact, rows),
            "of_real_renders": _share(real, facts, fact, rows),
            "with_prompts_changed_round": _share(drawn, shifted, fact, both),
            "commonest_answer": _commonest(facts, fact, rows),
            "n": len(rows),
            "judge": f"ridge head on {net.name}" if fact == "family" else "pixels",
            "weights": net.weights if fact == "family" else None,
        }


def _distance(drawn: np.ndarray, real: np.ndarray, net: Detector) -> Json:
    """Returns the row of the kernel distance of features (N, D), with its standard error."""
    kid = kernels.kid(drawn, real)
    figures = {"value": round(kid.value, 5), "error": round(kid.error, 5), "n": len(drawn)}
    return {"metric": named("kid", net.name), **figures, "weights": net.weights}


def read(sets: Sequence[str], n: int) -> Real:
    """Returns the first n pictures of every set.

    Raises UserError if a set is not drawn by formulas, or sizes differ."""
    pixels: list[np.ndarray] = []
    facts: list[dict[str, Any]] = []
    for place in sets:
        shards, count = ShardSet(place), 0
        for sample in (s for shard in shards.shards for s in shards.read(shard)):
            # Formula pictures of one size.
            if "stats" not in sample.metadata:
                problem = f"sample {sample.key} of {place} states no facts"
                raise UserError(f"{problem}; give sets that `python -m synth shards` made")
            if pixels and sample.pixels.shape != pixels[0].shape:
                problem = f"the pictures of {place} have another size than those of {sets[0]}"
                raise UserError(f"{problem}; give sets of one size")

            # The first n.
            pixels.append(sample.pixels)
            facts.append(attributes.facts(sample.metadata))
            if (count := count + 1) == n:
                break
    return Real(np.stack(pixels), facts)


def require_families(families: Sequence[str]) -> None:
    """Raises UserError for fewer than two different families."""
    names = sorted(set(families))
    if len(names) < 2:
        problem = f"the judge of families needs pictures of at least two families, not of {names[0]} alone"
        raise UserError(f"{problem}; give more sets by --on")


def fit(features_: np.ndarray, families: Sequence[str]) -> Head:
    """Returns the ridge head of features (N, D) and their families: W = (X'X + l I)^-1 X'Y.

    Raises UserError for fewer than two families."""
    require_families(families)
    names = tuple(sorted(set(families)))

    # Standardised features and one-hot families.
    x = features_.astype(np.float64)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    x = _with_one((x - mean) / spread)  # (N, D + 1)
    y = np.array([[family == name for name in names] for family in families], np.float64)  # (N, K)

    # Ridge regression.
    regularised = x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1])  # (D + 1, D + 1)
    return Head(names, mean, spread, np.linalg.solve(regularised, x.T @ y))


def features(net: Detector, pixels: np.ndarray) -> Generator[Progress, None, np.ndarray]:
    """Yields the number of processed pictures (N, H, W, 3). Returns their features, float32 (N, D)."""
    parts = []
    for start in range(0, len(pixels), _AT_ONCE):
        parts.append(net(pixels[start : start + _AT_ONCE]).features)
        yield Progress(len(parts[-1]))
    return np.concatenate(parts)


def judge(head: Head, features_: np.ndarray, pixels: np.ndarray) -> list[dict[str, str | None]]:
    """Returns the judge's family, colour and background of each picture."""
    colours = [colours_of(picture) for picture in pixels]
    families = head.names_of(features_)
    return [{"family": f, "colour": c, "background": b} for f, (c, b) in zip(families, colours, strict=True)]


def colours_of(pixels: np.ndarray) -> tuple[str | None, str | None]:
    """Returns the words of colour and background of a picture uint8 (H, W, 3); None if it has no word."""
    words = attributes.colour_numbers(pixels)  # (H, W)

    # Background, by the four sides of the border.
    width = max(1, round(_BORDER * len(words)))
    sides = (words[:width], words[-width:], words[:, :width], words[:, -width:])
    background = _mode(np.concatenate([side.ravel() for side in sides]))

    # Colour, by all other pixels.
    colour = _mode(words[words != background])
    return _word(colour), _word(background)


def _halves(real: Real, seed: int) -> tuple[Real, Real]:
    """Returns two random halves of the pictures."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, 1], np.uint64)))
    halves = np.array_split(random.permutation(len(real.facts)), 2)
    first, second = (Real(real.pixels[half], [real.facts[i] for i in half]) for half in halves)
    return first, second


def _prompted(facts: dict[str, Any]) -> dict[str, Any]:
    """Returns the facts of a prompt: those that the judge decides and that pixels show."""
    return {fact: facts[fact] for fact in FACTS if fact in facts and facts[fact] != attributes.MANY}


def _share(
    judged: Sequence[dict[str, str | None]], facts: Sequence[dict[str, Any]], fact: str, rows: Sequence[int]
) -> float | None:
    """Returns the share of rows with the right answer, or None if there are no rows."""
    return round(sum(judged[i][fact] == facts[i][fact] for i in rows) / len(rows), 4) if rows else None


def _commonest(facts: Sequence[dict[str, Any]], fact: str, rows: Sequence[int]) -> float | None:
    """Returns the share of the most frequent answer, or None if there are no rows."""
    return round(Counter(facts[i][fact] for i in rows).most_common(1)[0][1] / len(rows), 4) if rows else None


def _mode(numbers: np.ndarray) -> int:
    """Returns the commonest number that names a colour, or -1 if there is none."""
    named = numbers[numbers >= 0]
    return int(np.bincount(named).argmax()) if named.size else -1


def _word(number: int) -> str | None:
    return attributes.COLOURS[number] if number >= 0 else None


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)
