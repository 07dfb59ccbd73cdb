"""A vision-language model as judge, behind an OpenAI-compatible endpoint (Betker et al., Improving Image
Generation with Better Captions, 2023, appendix D).

The model sees a picture and its prompt, thinks in words, and ends with correct or incorrect. Its last such
word counts. Its error is not known here, so its figures come raw, each with an interval.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from caption.endpoint import Endpoint, message
from evaluate.judge.rates import Counted, wilson
from evaluate.judge.scene_prompts import ScenePrompt
from evaluate.sources import Pictures
from synth.errors import UserError
from synth.images.codecs import encode_png

_INSTRUCTIONS = Path(__file__).with_name("instructions.json")  # quoted from the paper
_VERDICT = re.compile(r"\b(in)?correct\b", re.IGNORECASE)
_SHOWN = 200  # characters of an answer in an error
_LEAST_SIDE = 128  # pixels; smaller pictures are enlarged by a whole factor

Json = dict[str, Any]


def verdict(answer: str) -> bool:
    """Returns the last verdict of an answer: True for correct. Raises UserError if there is none."""
    verdicts = _VERDICT.findall(answer)
    if not verdicts:
        raise UserError(
            f"the judge says neither correct nor incorrect: {answer[:_SHOWN]!r}; give another --model"
        )
    return not verdicts[-1]


def verdicts(endpoint: Endpoint, pictures: Iterable[np.ndarray], prompts: Iterable[str]) -> Iterator[bool]:
    """Yields the verdict on each picture, uint8 (R, R, C), with its prompt."""
    system = json.loads(_INSTRUCTIONS.read_text(encoding="utf-8"))["system"]
    conversations = (
        [message("system", system), message("user", prompt, encode_png(_enlarged(picture)))]
        for picture, prompt in zip(pictures, prompts, strict=True)
    )
    yield from map(verdict, endpoint.answers(conversations))


def table(endpoint: Endpoint, pictures: Pictures, prompted: Sequence[ScenePrompt]) -> list[Json]:
    """Returns the rate of pictures that are judged correct, by number of facts of their prompts."""
    shown = chain.from_iterable(pictures.batches(0))
    rights = verdicts(endpoint, shown, [prompt.prompt for prompt in prompted])
    by_count: defaultdict[int, list[bool]] = defaultdict(list)
    for prompt, right in zip(prompted, rights, strict=True):
        by_count[len(prompt.facts)].append(right)
    return [
        {
            "metric": f"correct by {endpoint.model}: prompts of {count} fact{'s' if count > 1 else ''}",
            "value": round(sum(answers) / len(answers), 4),
            "interval": [round(end, 4) for end in wilson(Counted(sum(answers), len(answers)))],
            "pictures": len(answers),
        }
        for count, answers in sorted(by_count.items())
    ]


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Returns a picture with at least _LEAST_SIDE pixels a side, each pixel a square."""
    factor = -(-_LEAST_SIDE // picture.shape[0])
    return np.kron(picture, np.ones((factor, factor, 1), np.uint8)) if factor > 1 else picture
