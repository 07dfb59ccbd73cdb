"""Power of the test in evaluate/README.md: the exact one-sided sign-flip test of paired differences.

`python -m tests.bench.power` prints README's table.
"""

import math

import numpy as np

from evaluate.inference import sign_flips

LEVEL = 0.05
RATIOS = {
    0.45: "pre-training, in the paper",
    0.35: "colour",
    0.15: "contour, best set",
    0.10: "contour, typical",
}
PAIRS, DEVIATIONS = (5, 8, 15), (0.1, 0.2)
TRIALS = 4_000

_AT_ONCE = 100  # experiments


def p_values(differences: np.ndarray) -> np.ndarray:
    """The exact one-sided p-values of experiments (T, N): shares of sign flips at or above the sum."""
    starts = range(0, len(differences), _AT_ONCE)
    return np.concatenate([sign_flips(-differences[start : start + _AT_ONCE]) for start in starts])


def power(ratio: float, deviation: float, pairs: int) -> float:
    """The share of experiments that the test tells from chance, differences being normal."""
    differences = np.random.default_rng(0).normal(ratio, deviation, (TRIALS, pairs))
    return float((p_values(differences) <= LEVEL).mean())


def main() -> None:
    """Prints the table; each figure has a standard error of at most .008."""
    print(f"| true log ratio | {' | '.join(f'{pairs} pairs' for pairs in PAIRS)} |")
    print("|" + " --- |" * (1 + len(PAIRS)))
    for ratio, name in RATIOS.items():
        cells = [
            " / ".join(f"{power(ratio, deviation, pairs):.2f}" for deviation in DEVIATIONS) for pairs in PAIRS
        ]
        print(f"| {ratio:.2f} ({name}) | {' | '.join(cells)} |", flush=True)
    closed = [
        0.5 * math.erfc(-ratio / deviation / math.sqrt(2)) for ratio in RATIOS for deviation in DEVIATIONS
    ]
    print(f"5 pairs in closed form, all of one sign: {', '.join(f'{share**5:.3f}' for share in closed)}")


if __name__ == "__main__":
    main()
