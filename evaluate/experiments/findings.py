"""Findings: the comparisons of an experiment, and the sentence that follows from them.

Arms are compared seed by seed. A ratio is compared on logarithms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from evaluate import inference
from evaluate.experiments import exchange
from evaluate.experiments.exchange import ExchangeRate
from evaluate.experiments.rows import Results
from evaluate.experiments.table import Contrast, Exchange, Experiment, Hypothesis
from evaluate.inference import Interval
from synth.errors import UserError

SIGNIFICANT = 0.05
FEWEST = 5  # arms of a rank correlation


@dataclass(frozen=True)
class Comparison:
    """A hypothesis with its figures."""

    hypothesis: Hypothesis
    by_seed: Sequence[float]  # ratios, or differences
    interval: Interval | None  # None: fewer than two pairs
    p: float | None  # of the sign-flip test
    adjusted: float | None  # by Holm, over the registered hypotheses
    least: float  # of `adjusted` that the pairs of all hypotheses can reach
    null: float  # of the ratio or difference

    @property
    def confirmed(self) -> bool:
        """True if the claim holds at 5 % after Holm."""
        return self.adjusted is not None and self.adjusted <= SIGNIFICANT

    @property
    def verdict(self) -> str:
        """The judgement of the figures on the claim, in words."""
        if self.interval is None:
            return "not tested"
        if self.hypothesis.claim == "lower":
            opposite = self.interval.low > self.null
        else:
            opposite = self.interval.high < self.null
        if opposite:
            return "not confirmed: the figures show the opposite"
        return "confirmed" if self.confirmed else "not confirmed"

    @property
    def short(self) -> bool:
        """True if no figures of so few pairs could have confirmed the claim."""
        return self.interval is not None and self.least > SIGNIFICANT


@dataclass(frozen=True)
class Prediction:
    """The relation of a figure to the order of the arms."""

    figure: str
    arms: int  # with both figures
    correlation: Interval | None  # rank correlation with the endpoint; None: too few arms
    p: float = 1.0  # of the permutation test
    adjusted: float = 1.0  # by Holm, over all predictors


@dataclass(frozen=True)
class Findings:
    """The comparisons and exchange rates of an experiment, over the rows that exist."""

    experiment: Experiment
    seeds: int  # requested
    rows: int  # of the registered ones
    largest: int  # seeds of the arm with the most rows
    comparisons: Sequence[Comparison]
    rates: Sequence[tuple[Exchange, ExchangeRate | str]]  # or the reason why there is none
    contrasts: Sequence[tuple[Contrast, Sequence[tuple[float, float]]]] = ()  # figures of both arms, by seed
    predictions: Sequence[Prediction] = ()

    @property
    def sentence(self) -> str:
        """The findings in plain sentences, computed from the figures."""
        parts = [*map(self._comparison, self.comparisons), *(self._rate(*each) for each in self.rates)]
        parts += [self._contrast(*each) for each in self.contrasts]
        parts += map(self._prediction, self.predictions)
        if not parts:
            return "This experiment compares nothing. Its figures are below."
        registered = self.experiment.seeds
        whole = sum(min(arm.seeds or registered, registered) for arm in self.experiment.arms)
        if self.rows < whole:
            size = f"it has {self.rows} of {whole} rows"
            parts.insert(0, f"This run is smaller than the registered one: {size}.")
        elif self.largest > registered:
            size = f"{self.largest} seeds, not {registered}"
            parts.insert(0, f"This run is larger than the registered one: {size}.")
        pairs = max(registered, self.seeds)
        reachable = min(1.0, inference.least_p(pairs) * len(self.comparisons))
        if self.comparisons and reachable > SIGNIFICANT:
            least = f"p = {reachable:.3f} after Holm is the least that {pairs} pairs can reach"
            parts.append(f"The exact test cannot confirm anything here: {least}.")
        else:
            parts += [_too_few(each) for each in self.comparisons if each.short]
        if any(len(figures) == 1 for _, figures in self.contrasts):
            parts.append("One seed decides nothing.")
        return " ".join(parts)

    def _comparison(self, comparison: Comparison) -> str:
        """Returns one comparison as a sentence."""
        claim, figure = comparison.hypothesis, self.experiment.endpoint
        head, interval = f"{claim.name} ({claim.arm} {claim.claim} than {claim.other})", comparison.interval
        if interval is None:
            return f"{head} was not tested: it has fewer than two pairs."
        what, side = f"{figure.name} of {claim.arm} is", "of"
        value, low, high = interval
        if not figure.ratio:
            side = "below" if value < 0 else "above"
            value, low, high = (-value, -high, -low) if value < 0 else interval
        size = f"{value:.3f} [{low:.3f}, {high:.3f}] {side} that of {claim.other}"
        pairs = (
            f"{len(comparison.by_seed)} pairs, p = {comparison.p:.3f}, {comparison.adjusted:.3f} after Holm"
        )
        verdict = comparison.verdict
        return f"{head}: the {what} {size} ({pairs}). {verdict[0].upper()}{verdict[1:]}."

    def _contrast(self, contrast: Contrast, figures: Sequence[tuple[float, float]]) -> str:
        """Returns the figures of two arms as a sentence, without a verdict."""
        what = f"The {self.experiment.endpoint.name} of {contrast.arm}"
        if not figures:
            return f"{what} and {contrast.other} cannot be compared yet: a row is missing."
        a, b = (fmean(values) for values in zip(*figures, strict=True))
        side = "above" if a > b else "below"
        ratio = self.experiment.endpoint.ratio and b > 0
        size = f"{a / b:.2f} of" if ratio else f"{abs(a - b):.3f} {side}"
        return f"{what} is {a:.3f}, {size} that of {contrast.other} ({b:.3f})."

    def _prediction(self, prediction: Prediction) -> str:
        """Returns one rank correlation as a sentence."""
        what = f"the {self.experiment.endpoint.name} over {prediction.arms} arms"
        if prediction.correlation is None:
            return f"Not known yet: whether {prediction.figure} foresees {what}; it takes {FEWEST} arms."
        value, low, high = prediction.correlation
        verdict = "foresees" if prediction.adjusted <= SIGNIFICANT else "is not shown to foresee"
        p = f"p = {prediction.p:.3f}, {prediction.adjusted:.3f} after Holm"
        correlation = f"rank correlation {value:.2f} [{low:.2f}, {high:.2f}], {p}"
        return f"The figure {prediction.figure!r} {verdict} {what}: {correlation}."

    def _rate(self, question: Exchange, rate: ExchangeRate | str) -> str:
        """Returns one exchange rate as a sentence."""
        if isinstance(rate, str):
            return f"The exchange rate of {question} is not known: {rate}."
        value, low, high = rate.pictures
        pictures = f"{question.m} pictures of {question.series} are worth"
        interval = f"[{_bounded(low, rate)}, {_bounded(high, rate)}]"
        if rate.beyond:
            side = f"more than {rate.most}" if value > rate.most else f"fewer than {rate.least}"
            return f"{pictures} {side} {interval} of {question.other}, beyond the sizes that were measured."
        return f"{pictures} {value:.0f} {interval} of {question.other}."


def _bounded(pictures: float, rate: ExchangeRate) -> str:
    """Returns an end of an interval, or beyond the measured sizes a bound alone."""
    if pictures < rate.least:
        return f"under {rate.least}"
    return f"over {rate.most}" if pictures > rate.most else f"{pictures:.0f}"


def read(experiment: Experiment, results: Results, seeds: int) -> Findings:
    """Returns the findings of the rows of the first seeds."""
    pairs = [_pairs(experiment, results, seeds, hypothesis) for hypothesis in experiment.hypotheses]
    tested = [i for i, values in enumerate(pairs) if len(values) > 1]
    p_values = {i: inference.sign_flip(_signed(experiment.hypotheses[i], pairs[i])) for i in tested}
    # An untested hypothesis counts among the registered ones, with p = 1.
    adjusted = inference.holm([p_values.get(i, 1.0) for i in range(len(pairs))])
    least = inference.holm([inference.least_p(len(values)) for values in pairs])
    comparisons = [
        _comparison(experiment, i, pairs[i], p_values.get(i), adjusted[i], least[i])
        for i in range(len(pairs))
    ]
    rates = [(question, _rate(experiment, results, seeds, question)) for question in experiment.exchanges]
    arms = [results.values(arm.name, range(seeds), experiment.endpoint.name) for arm in experiment.arms]
    present = sum(value is not None for values in arms for value in values[: experiment.seeds])
    largest = max((sum(value is not None for value in values) for values in arms), default=0)
    contrasts = [(contrast, _both(experiment, results, seeds, contrast)) for contrast in experiment.contrasts]
    predictions = _predictions(experiment, results, seeds)
    return Findings(experiment, seeds, present, largest, comparisons, rates, contrasts, predictions)


def _pairs(experiment: Experiment, results: Results, seeds: int, claim: Hypothesis) -> np.ndarray:
    """Returns the paired differences of a hypothesis by seed (S,), on logarithms if it is a ratio.

    Raises UserError for a ratio of figures that are not above 0."""
    a, b = np.array(_both(experiment, results, seeds, claim), np.float64).reshape(-1, 2).T
    if experiment.endpoint.ratio and not (np.minimum(a, b) > 0).all():
        problem = f"{claim.name} compares figures by their ratio, and some are not above 0"
        raise UserError(f"{problem}; give the endpoint ratio=False")
    return np.log(a) - np.log(b) if experiment.endpoint.ratio else a - b


def _both(
    experiment: Experiment, results: Results, seeds: int, pair: Hypothesis | Contrast
) -> list[tuple[float, float]]:
    """Returns the endpoint of two arms by seed, of the seeds that have both."""
    name = experiment.endpoint.name
    both = [results.values(arm, range(seeds), name) for arm in (pair.arm, pair.other)]
    return [(a, b) for a, b in zip(*both, strict=True) if a is not None and b is not None]


def _signed(claim: Hypothesis, differences: np.ndarray) -> np.ndarray:
    """Returns differences that are negative if the claim is true."""
    return differences if claim.claim == "lower" else -differences


def _comparison(
    experiment: Experiment, number: int, values: np.ndarray, p: float | None, adjusted: float, least: float
) -> Comparison:
    """Returns the comparison of a hypothesis. Without a p-value, it was not tested."""
    claim = experiment.hypotheses[number]
    plain = np.exp if experiment.endpoint.ratio else np.asarray
    interval = inference.t_interval(values) if len(values) > 1 else None
    shown = Interval(*(float(plain(each)) for each in interval)) if interval else None
    null = 1.0 if experiment.endpoint.ratio else 0.0
    by_seed = [float(plain(value)) for value in values]
    return Comparison(claim, by_seed, shown, p, None if p is None else adjusted, least, null)


def _rate(experiment: Experiment, results: Results, seeds: int, question: Exchange) -> ExchangeRate | str:
    """Returns an exchange rate, or the reason why there is none."""
    name = experiment.endpoint.name
    curve = [arm for arm in experiment.arms if arm.series == question.other and arm.n]
    at = [arm for arm in experiment.arms if arm.series == question.series and arm.n == question.m]
    rows = [results.values(arm.name, range(seeds), name) for arm in (*curve, *at)]
    whole = [column for column in zip(*rows, strict=True) if None not in column]
    if len(whole) < 3:
        return f"three seeds with all its arms are needed, not {len(whole)}"
    values = np.array(whole, np.float64)
    if not (values > 0).all():
        return "its figures are not above 0"
    try:
        return exchange.rate([arm.n or 0 for arm in curve], values[:, :-1], question.m, values[:, -1])
    except ValueError as error:
        return str(error)


def _predictions(experiment: Experiment, results: Results, seeds: int) -> list[Prediction]:
    """Returns the rank correlation of each predictor with the endpoint, over the arms that have both.

    Seeds are averaged first."""
    names, predictions = [arm.name for arm in experiment.arms], []
    for figure in experiment.predictors:
        means = [_means(results, name, seeds, (figure, experiment.endpoint.name)) for name in names]
        x, y = np.array([pair for pair in means if pair], np.float64).reshape(-1, 2).T
        if len(x) < FEWEST:
            predictions.append(Prediction(figure, len(x), None))
        else:
            correlation = inference.rank_correlation(x, y)
            predictions.append(Prediction(figure, len(x), correlation, inference.rank_test(x, y)))
    adjusted = inference.holm([each.p for each in predictions])
    return [replace(each, adjusted=p) for each, p in zip(predictions, adjusted, strict=True)]


def _means(results: Results, arm: str, seeds: int, figures: Sequence[str]) -> list[float] | None:
    """Returns the means of figures over the seeds of an arm that have them, or None if one has none."""
    columns = [[v for v in results.values(arm, range(seeds), name) if v is not None] for name in figures]
    return [fmean(column) for column in columns] if all(columns) else None


def _too_few(comparison: Comparison) -> str:
    """Returns the sentence of a comparison that lacks pairs."""
    pairs = len(comparison.by_seed)
    least = f"p = {comparison.least:.3f} after Holm is the least that {pairs} pairs can reach"
    return f"{comparison.hypothesis.name} cannot be confirmed yet: {least}."
