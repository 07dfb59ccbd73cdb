"""The audit: measures of caption tables before anybody trains on them.

Counts of one pass cover all rows. Comparisons of every picture with every other use a sample. Axes: S rows of
the sample, D dimensions of the embedding.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from caption.audit import measures
from caption.audit.measures import Cosines, Retrieval, Spread, Sweep
from caption.audit.scan import IMAGE, PSEUDO, TEXT, Pass, Sampled, slices
from caption.audit.wording import Wording, WordTally, named, wording
from caption.pseudo import mean_cosine, noise
from caption.sentences import attributes
from caption.table import CaptionSet
from synth.errors import UserError
from synth.sets.completion import Progress

SAMPLE = (32, 16384)  # least and most rows of a sample
CAPTIONS = 1000  # captions per form, the number of the paper's table 4
DUPLICATE = 0.999  # two pictures with a greater cosine count as one
EQUAL = 0.98  # above this mean cosine of different pictures, the encoder hardly tells them apart
NARROW = 1 / 32  # below this effective rank per dimension, embeddings fill almost nothing of their space
REPEATED = 0.1  # above this share of pictures with a duplicate, the set repeats itself
FEW = 0.1  # below this ratio of distinct sentences to captions, nearly all are the same
USUAL = 0.5  # above this share of the most frequent sentence, nearly all are the same

_COMMONEST = 8  # sentences that are listed
_CLOSEST = 8  # pairs of pictures that are listed
_SWEPT = 1024  # rows of the sweep
_AMOUNTS = np.geomspace(0.05, 12, 19)

Json = dict[str, Any]


class Pair(NamedTuple):
    """Two pictures that are near each other."""

    first: str
    second: str
    cosine: float
    numbers: tuple[int, int]  # of the rows


@dataclass(frozen=True)
class Audit:
    """All measured figures."""

    tables: CaptionSet
    sample: Sampled
    cosines: dict[tuple[str, str], Cosines]
    moments: dict[str, Spread]
    nearest: np.ndarray  # float32 (S,)
    closest: list[Pair]
    retrieval: dict[str, Retrieval]
    sweep: Sweep
    tally: WordTally
    wordings: dict[str, Wording]  # of 1,000 captions each: by form, the longest last, and of captioners
    longest: str  # form
    captioners: dict[str, dict[str, str]]  # their captions by key
    commonest: list[tuple[str, int]]
    spectra: dict[str, np.ndarray] = field(init=False)
    ranks: dict[str, float] = field(init=False)  # effective

    def __post_init__(self) -> None:
        spectra = {kind: measures.spectrum(m.covariance) for kind, m in self.moments.items()}
        object.__setattr__(self, "spectra", spectra)
        object.__setattr__(self, "ranks", {kind: measures.effective_rank(s) for kind, s in spectra.items()})

    def beside(self, name: str, captions: dict[str, str]) -> "Audit":
        """Returns this audit with a captioner's captions of the pictures, by key.

        A captioner with the name of a form, or of another captioner, gets another name."""
        while name in self.wordings:
            name = f"captioner {name}"
        wordings = {**self.wordings, name: wording(captions.values())}
        return replace(self, wordings=wordings, captioners={**self.captioners, name: captions})

    @property
    def closest_keys(self) -> dict[int, str]:
        """The keys of the listed pairs, by row."""
        keys: dict[int, str] = {}
        for pair in self.closest:
            keys |= dict(zip(pair.numbers, (pair.first, pair.second), strict=True))
        return keys

    @property
    def duplicates(self) -> int:
        """Pictures of the sample with another one above DUPLICATE."""
        return int((self.nearest > DUPLICATE).sum())

    @property
    def gaps(self) -> dict[tuple[str, str], float]:
        return {(a, b): measures.gap(self.moments[a], self.moments[b]) for a, b in self.cosines}

    @property
    def strangers(self) -> dict[tuple[str, str], float]:
        """Mean cosine of any vector of one kind and any of the other: the product of their means."""
        return {(a, b): float(self.moments[a].mean @ self.moments[b].mean) for a, b in self.cosines}

    @property
    def law(self) -> float:
        """The expected mean cosine at this xi."""
        return mean_cosine(float(self.tables.identity["xi"]), self.tables.dimensions)

    def warnings(self) -> list[str]:
        """Returns the signs of collapse, one sentence each."""
        dimensions, sentences = self.tables.dimensions, []

        # Embeddings.
        for kind in (k for k in self.moments if k != PSEUDO):
            cosine, rank = self.moments[kind].pair_cosine, self.ranks[kind]
            if cosine > EQUAL:
                limit = f"{cosine:.4f}, above {EQUAL}"
                sentences.append(f"{kind} embeddings are nearly equal: the mean cosine of two is {limit}")
            if rank < NARROW * dimensions:
                limit = f"{rank:.1f} of {dimensions}, below {NARROW * dimensions:g}"
                sentences.append(f"{kind} embeddings fill few directions: their effective rank is {limit}")

        # Pictures.
        share = self.duplicates / len(self.nearest)
        if share > REPEATED:
            limit = f"a cosine above {DUPLICATE}, more than {REPEATED:.0%}"
            sentences.append(f"{share:.0%} of the sampled pictures have another with {limit}")

        # Captions. Short forms contain few facts by design, so that only the longest form counts.
        for name in (self.longest, *self.captioners):
            w = self.wordings.get(name)
            if w and (w.commonest > USUAL or w.distinct < FEW * w.captions):
                counts = f"{w.distinct:,} distinct in {w.captions:,}, the most frequent {w.commonest:.0%}"
                limits = f"of them; the limits are {FEW:.0%} and {USUAL:.0%}"
                sentences.append(f"captions ({name}) are nearly all the same: {counts} {limits}")
        return sentences

    def row(self) -> Json:
        """Returns the rounded figures by name."""
        identity = self.tables.identity
        retrieval = {}
        for kind, r in self.retrieval.items():
            retrieval[f"{kind}_finds_image_top_1"] = round(r.top_1, 4)
            retrieval[f"{kind}_finds_image_top_5"] = round(r.top_5, 4)
        return {
            "tables": self.tables.storage.url,
            "dataset": identity["shards"]["dataset"],
            "encoder": identity["encoder"],
            "pictures": len(self.tables),
            "sample": len(self.nearest),
            "dimensions": self.tables.dimensions,
            "xi": identity["xi"],
            **{f"cosine_{a}_{b}": round(c.mean, 4) for (a, b), c in self.cosines.items()},
            "cosine_by_law": round(self.law, 4),
            **{f"gap_{a}_{b}": round(value, 4) for (a, b), value in self.gaps.items()},
            **{f"effective_rank_{kind}": round(rank, 1) for kind, rank in self.ranks.items()},
            "cosine_of_two_pictures": round(self.moments[IMAGE].pair_cosine, 4),
            "duplicates": self.duplicates,
            **retrieval,
            "captions": self.tally.captions,
            "distinct_captions": self.tally.wording().distinct,
            "vocabulary": self.tally.wording().vocabulary,
            "warnings": "; ".join(self.warnings()) or "none",
        }


def audit(tables: CaptionSet, *, sample: int, seed: int) -> Generator[Progress | Audit, None, None]:
    """Measures a set of tables. Yields the progress in rows, and at the end the audit.

    Raises UserError if they are damaged, or the sample is too small or too large."""
    passed = Pass(tables, _chosen(tables, sample, seed))
    for start, rows in slices(tables):
        passed.add(start, rows)
        yield Progress(rows.num_rows)
    yield _measured(tables, passed, np.random.default_rng([seed, 1]))


def _chosen(tables: CaptionSet, sample: int, seed: int) -> np.ndarray:
    """Returns the row numbers of the sample, sorted. Raises UserError."""
    # Bounds.
    least, most = SAMPLE
    if not least <= sample <= most:
        raise UserError(
            f"--sample is {sample}; it must be {least} to {most:,} (the work grows with its square)"
        )
    if len(tables) < least:
        raise UserError(f"{tables.storage.url} holds {len(tables)} pictures; an audit needs at least {least}")

    # Rows without repetition.
    random = np.random.default_rng([seed, 0])
    return np.sort(random.choice(len(tables), min(sample, len(tables)), replace=False))


def _measured(tables: CaptionSet, passed: Pass, random: np.random.Generator) -> Audit:
    """Returns the audit: the measures of the sample and the counts of the pass."""
    # Neighbours and retrieval within the sample.
    sample = passed.sampled()
    near, which = measures.nearest(sample.image)
    retrieval = {PSEUDO: Retrieval.of(sample.pseudo, sample.image)}
    if len(sample.text) > 1:
        retrieval[TEXT] = Retrieval.of(sample.text, sample.image[sample.with_text])

    # Rows and amounts of noise of the sweep.
    swept = np.sort(random.permutation(len(near))[:_SWEPT])
    eps = noise(int(tables.identity["seed"]), sample.indices[swept].tolist(), 0, tables.dimensions)
    amounts = np.unique(np.append(_AMOUNTS, [0.25, 3.0]))

    # Wording.
    codes = passed.tally.commonest(_COMMONEST)
    texts = named(codes, _captions(tables))
    forms = attributes.FORMS if tables.identity["sentences"] else ("first",)
    wordings = _wordings(sample.captions, random, forms)
    return Audit(
        tables=tables,
        sample=sample,
        cosines={pair: c for pair, c in passed.cosines.items() if c.total},
        moments={kind: m for kind, m in passed.moments.items() if m.count > 1},
        nearest=near,
        closest=_closest(sample, near, which),
        retrieval=retrieval,
        sweep=measures.sweep(sample.image[swept], eps, amounts),
        tally=passed.tally,
        wordings=wordings,
        longest=next(reversed(wordings), ""),
        captioners={},
        commonest=[(texts[code], times) for code, times in codes.items()],
    )


def _captions(tables: CaptionSet) -> Iterator[str]:
    for part in tables.parts:
        yield from tables.read(part, ["caption"])["caption"].combine_chunks().flatten().to_pylist()


def _closest(sample: Sampled, near: np.ndarray, which: np.ndarray) -> list[Pair]:
    """Returns the nearest pairs, each once."""
    pairs: dict[tuple[int, int], Pair] = {}
    for i in np.argsort(-near, kind="stable").tolist():
        # Two pictures that are each other's nearest make one pair.
        a, b = sorted((i, int(which[i])))
        numbers = int(sample.indices[a]), int(sample.indices[b])
        pairs.setdefault((a, b), Pair(sample.keys[a], sample.keys[b], float(near[i]), numbers))
        if len(pairs) == _CLOSEST:
            break
    return list(pairs.values())


def _wordings(
    captions: list[list[str]], random: np.random.Generator, forms: Sequence[str]
) -> dict[str, Wording]:
    """Returns the figures of 1,000 captions of each form. Form i is caption i of a picture."""
    chosen = [captions[i] for i in random.permutation(len(captions))[:CAPTIONS]]
    texts = {form: [row[i] for row in chosen if len(row) > i] for i, form in enumerate(forms)}
    return {form: wording(sentences) for form, sentences in texts.items() if sentences}
