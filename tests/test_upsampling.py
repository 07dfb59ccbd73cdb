import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from caption import upsampling
from caption.endpoint import Endpoint
from caption.sentences import attributes
from caption.sentences.scene_sentences import parse
from synth import datasets
from synth.errors import UserError
from synth.families.scenes import Config as World
from synth.settings import canonical
from tests.kit import chat_server
from train.cli import _upsampled
from train.runs import Run

PROMPTS = [
    "a red star",
    "a star",
    "a shape on black",
    "a red star left of a blue disc on white",
    "a star inside a ring",
    "two red stars",
    "a red star of the same colour as a ring",
    "a small red ring",
]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with chat_server() as address:
        yield Endpoint(f"{address}/v1", "tiny", pause=0.01)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_stated_facts_are_kept_and_others_filled_in(prompt: str) -> None:
    stated = set(parse(prompt))
    for seed in range(25):
        full = parse(upsampling.from_prior(prompt, ["scenes_flat"], seed))
        assert stated <= set(full)
        for number in {fact.subject for fact in full if fact.subject >= 0}:
            assert {"kind", "colour", "size"} <= {fact.type for fact in full if fact.subject == number}
        assert any(fact.type == "backdrop" for fact in full)


def test_objects_of_one_colour_by_way_of_a_third_get_one_colour() -> None:
    prompt = "a star, a disc, and a ring"
    prompt += ". the star and the ring share a colour. the disc and the ring share a colour"
    for seed in range(10):
        full = parse(upsampling.from_prior(prompt, ["scenes_flat"], seed))
        assert len({fact.value for fact in full if fact.type == "colour"}) == 1


def test_an_object_between_two_others_has_no_size_of_an_end() -> None:
    prompt = "a star, a disc, and a ring. the star is larger than the disc. the disc is larger than the ring"
    sizes = {"scenes": {"large", "medium", "small"}, "scenes_flat": {"large", "small"}}
    for name, expected in sizes.items():
        full = parse(upsampling.from_prior(prompt, [name], 0))
        values = [fact.value for fact in full if fact.type == "size"]
        assert set(values) == expected and len(values) == len(expected)


def test_sizes_agree_with_the_relations_or_are_left_out() -> None:
    chain = "a star, a disc, a ring, and a cross. the star is larger than the disc."
    chain += " the disc is larger than the ring. the ring is larger than the cross"
    medium = {"scenes": json.loads(canonical(asdict(World(sizes=("medium",)))))}
    for prompt, configs, expected in (
        (chain, {}, {0: "large", 1: "medium", 3: "small"}),
        ("a star larger than a disc", medium, {0: "medium"}),
        ("a small star larger than a disc", {}, {0: "small"}),
        ("a medium-sized star larger than a disc", {}, {0: "medium", 1: "small"}),
        ("a star larger than a disc. the disc is larger than the star", {}, {0: "medium"}),
    ):
        full = parse(upsampling.from_prior(prompt, ["scenes"], 0, configs))
        assert {fact.subject: fact.value for fact in full if fact.type == "size"} == expected


def test_the_prior_is_that_of_the_training_pictures() -> None:
    flat = [upsampling.from_prior("a red star", ["scenes_flat"], seed) for seed in range(40)]
    rich = [upsampling.from_prior("a red star", ["scenes"], seed) for seed in range(40)]
    assert not any("medium" in text or "textured" in text for text in flat)
    assert any("medium" in text for text in rich) and any("textured" in text for text in rich)
    assert len(set(flat)) > 10
    assert flat == [upsampling.from_prior("a red star", ["scenes_flat"], seed) for seed in range(40)]


def test_the_settings_that_a_run_recorded_are_part_of_the_prior() -> None:
    config = asdict(World(**datasets.get("scenes_flat").config, colours=("red", "white", "blue")))
    configs = {"scenes_flat": json.loads(canonical(config))}
    full = [upsampling.from_prior("a star", ["scenes_flat"], seed, configs) for seed in range(20)]
    colours = {
        str(fact.value) for text in full for fact in parse(text) if fact.type in ("colour", "backdrop")
    }
    assert colours == {"red", "white", "blue"}
    with pytest.raises(UserError, match="does not know the run's settings of scenes_flat; use the version"):
        upsampling.from_prior("a star", ["scenes_flat"], 0, {"scenes_flat": {"hue": 1}})


def test_a_run_up_samples_by_the_settings_of_its_live_sets() -> None:
    config = asdict(World(**datasets.get("scenes_flat").config, colours=("red", "white", "blue")))
    live = {"dataset": "scenes_flat", "config": json.loads(canonical(config))}
    row = {"dataset": "scenes_flat", "live": live}
    for recorded in (row, {"dataset": "scenes_flat", "sets": [row]}):
        run = Run(Path("run"), {"shards": recorded})
        texts = [_upsampled(["a star"], run, seed, None, None)[0] for seed in range(10)]
        assert {f.value for t in texts for f in parse(t) if f.type == "backdrop"} <= {"red", "white", "blue"}


def test_sentences_of_other_families_take_facts_of_a_picture_that_agrees() -> None:
    short = "a red fractal on a blue background"
    stated, full = attributes.parse(short), attributes.parse(upsampling.from_prior(short, ["fractals"], 0))
    assert stated.items() <= full.items() and len(full) >= len(stated) + 2


def test_a_capital_letter_and_a_full_stop_state_nothing() -> None:
    stated = set(parse("a red star on white"))
    assert stated <= set(parse(upsampling.from_prior("A red star on white.", ["scenes_flat"], 0)))


def test_other_prompts_need_a_chat_model() -> None:
    with pytest.raises(
        UserError, match=r"cannot fill in 'a man holding a sword' offline.*give --url"
    ) as error:
        upsampling.from_prior("a man holding a sword", ["scenes"], 0)
    assert str(error.value).count(";") == 1


def test_a_chat_model_is_asked_with_the_papers_instructions(endpoint: Endpoint) -> None:
    # The server repeats the last message.
    answer = upsampling.by_endpoint("a red star on white", endpoint)
    assert (
        answer.startswith("Create an imaginative image descriptive caption")
        and "a red star on white" in answer
    )


def test_an_answer_that_is_too_long_or_empty_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(UserError, match="words, and 15 to 80 are allowed, after 3 tries"):
        upsampling.by_endpoint(" ".join(["star"] * 90), endpoint)
    with pytest.raises(UserError):
        upsampling.by_endpoint("a red star", replace(endpoint, url=endpoint.url.replace("/v1", "/empty/v1")))


@pytest.mark.parametrize(
    ("prompt", "answer", "lost"),
    [
        ("a red star on white", "a large scarlet star shines on a white ground", ["colour red"]),
        ("a red star on white", "A RED star symbol on a white ground", []),
        ("a red star left of a blue disc", "a red star to the left of a blue circle", []),
        ("a red star left of a blue disc", "a red star and a blue circle", ["relation left of"]),
        ("a red star left of a blue disc", "a blue disc right of a red star", []),
        ("a red star left of a blue disc", "a red star right of a blue disc", ["relation left of"]),
        ("a red star left of a blue star", "a blue star to the right of a big red star", []),
        ("a star above a ring", "a hoop below a star", []),
        ("a ring around a star", "a ring around a star", []),
        ("a ring around a star", "a star surrounded by a ring", []),
        ("a star and a disc. the star and the disc share a colour", "a star and a disc share a colour", []),
        ("a man holding a sword", "a pale man lifts a blade", ["holding", "sword"]),
        ("there are three shapes", "three shapes that float in the dark", []),
        ("there are three shapes", "four shapes that float in the dark", ["count 3"]),
        ("a star on a shaded grey background", "a star on a softly shaded gray ground", []),
    ],
)
def test_dropped_facts_are_named(prompt: str, answer: str, lost: list[str]) -> None:
    assert upsampling.dropped(prompt, answer) == lost
