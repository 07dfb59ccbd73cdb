"""The power of the protocol's test, in closed form and in the README."""

import math
import re

import numpy as np
import pytest

from tests.bench.power import DEVIATIONS, PAIRS, RATIOS, TRIALS, p_values, power
from tests.kit import ROOT


def test_p_is_the_share_of_flips_with_as_large_a_sum() -> None:
    small = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, -1.0], [1.0, 1.0, -2.0], [-1.0, -1.0, -1.0]])
    assert p_values(small).tolist() == [1 / 8, 2 / 8, 5 / 8, 1.0]


@pytest.mark.parametrize("deviation", DEVIATIONS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_five_pairs_tell_arms_apart_if_all_have_one_sign(ratio: float, deviation: float) -> None:
    share = (0.5 * math.erfc(-ratio / deviation / math.sqrt(2))) ** 5  # the one p below 5 % is 1 / 32
    assert (
        abs(power(ratio, deviation, 5) - share) <= 3.3 * math.sqrt(share * (1 - share) / TRIALS) + 1 / TRIALS
    )


def test_the_readme_has_these_figures() -> None:
    page = (ROOT / "evaluate/README.md").read_text()
    for ratio, name in RATIOS.items():
        [cells] = re.findall(rf"^\| {ratio:.2f} \({re.escape(name)}\) \| (.*) \|$", page, re.MULTILINE)
        printed = [
            " / ".join(f"{power(ratio, deviation, pairs):.2f}" for deviation in DEVIATIONS)
            for pairs in PAIRS[:2]
        ]
        assert cells.split(" | ")[:2] == printed
