"""The judge behind an endpoint, against a server of its own process."""

from collections.abc import Iterator

import numpy as np
import pytest

from caption.endpoint import Endpoint
from caption.sentences.scene_facts import SceneFact
from evaluate.judge import vision_model
from evaluate.judge.scene_prompts import ScenePrompt
from evaluate.sources import Pictures
from synth.errors import UserError
from tests.kit import chat_server

RED = SceneFact("colour", 0, "red")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with chat_server() as address:
        yield address


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("The star is red. Correct", True),
        ("It looks correct at first, but the disc is green: INCORRECT.", False),
        ("'incorrect' would be too strict; 'correct'", True),
    ],
)
def test_the_last_verdict_of_an_answer_counts(answer: str, right: bool) -> None:
    assert vision_model.verdict(answer) is right


def test_an_answer_without_a_verdict_is_refused(server: str) -> None:
    with pytest.raises(UserError, match="neither correct nor incorrect: 'a fine star'"):
        vision_model.verdict("a fine star")

    # Sentences of the server describe a picture.
    endpoint = Endpoint(f"{server}/v1", "tiny", pause=0.01)
    with pytest.raises(UserError, match="neither correct nor incorrect"):
        next(vision_model.verdicts(endpoint, [np.zeros((8, 8, 3), np.uint8)], ["a red star"]))


def test_rates_are_by_number_of_facts(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = np.zeros((4, 8, 8, 3), np.uint8)
    pictures = Pictures("toy", "digest", 4, lambda first: iter([shown[first:]]))
    prompted = [ScenePrompt("a red star", (RED,) * count, False) for count in (1, 2, 2, 2)]
    answers = iter(["correct", "incorrect", "correct", "correct"])
    endpoint = Endpoint(f"{server}/v1", "tiny")
    monkeypatch.setattr(
        Endpoint, "answers", lambda self, conversations: (next(answers) for _ in conversations)
    )
    one, two = vision_model.table(endpoint, pictures, prompted)
    assert (one["value"], one["pictures"], one["metric"]) == (1, 1, "correct by tiny: prompts of 1 fact")
    assert (two["value"], two["pictures"]) == (0.6667, 3)
    assert two["interval"][0] < 0.6667 < two["interval"][1]
