"""The report of a demo: one HTML page that contains its pictures. It has no script and makes no requests."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import torch

from caption import encoders
from evaluate.experiments.demo import drawings, figures, plot
from evaluate.experiments.demo.drawings import Shown
from evaluate.experiments.demo.figures import DemoFigures
from evaluate.experiments.demo.journal import Journal
from evaluate.experiments.demo.plan import (
    DETECTOR,
    FINETUNED,
    PRETRAINED,
    SCRATCH,
    TEST,
    TRAIN,
    DemoStep,
    Places,
    Plan,
    at_scale,
)
from synth.sets.shards import Sample, ShardSet
from train import checkpoint

FORMULA_PROMPTS = (
    "a red fractal on a blue background",
    "a green fractal on a black background",
    "a yellow fractal on a white background",
    "a gray contour on black",
    "a purple shader picture",
)
EMOJI_PROMPTS = ("a green frog", "a red heart", "a smiling face", "a yellow star", "a brown bear")

_TEMPLATE = Path(__file__).with_name("page.html")
_STAGES = ("synth", "data", "caption", "train", "evaluate")
_OF_A_FAMILY, _OF_EMOJI, _SAMPLES = 5, 16, 16  # pictures
_FORMULAS_EACH, _EMOJI_EACH = 8, 4  # pictures per prompt

Json = dict[str, Any]


class Arm(NamedTuple):
    """A checkpoint of the comparison."""

    name: str
    remark: str
    checkpoint: Path


class PromptRow(NamedTuple):
    """Pictures of a prompt, one sheet per checkpoint."""

    prompt: str
    sheets: list[str]  # data: URLs


class Timed(NamedTuple):
    """A step and its time."""

    step: DemoStep
    seconds: float  # of wall clock, over all starts


@dataclass(frozen=True)
class Content:
    """The texts, figures and pictures of the page."""

    plan: Plan
    left_out: dict[str, str]
    figures: DemoFigures
    curves: str  # data: URL
    families: dict[str, list[Shown]]
    emoji: list[Shown]
    arms: list[Arm]
    formula_prompts: list[PromptRow]
    emoji_prompts: list[PromptRow]
    held_out: list[Shown]  # sheets: the real pictures, and each arm's pictures of their names
    names: list[str]  # of the real pictures
    stages: dict[str, list[Timed]]
    facts: Json


def gather(
    plan: Plan, left_out: dict[str, str], steps: Sequence[DemoStep], journal: Journal, out: Path
) -> Content:
    """Returns the content of the page of a demo with finished steps."""
    # Figures and compared checkpoints. One thread is faster for small models.
    torch.set_num_threads(1)
    at = Places(out)
    measurements = figures.read(plan, at)
    encoder = encoders.load(encoders.find(plan.encoder))
    arms = _arms(at, measurements)
    pretrained = Arm("pre-trained alone", "no emoji seen", checkpoint.require(at.run(PRETRAINED)))

    # Pictures of the sets.
    seen = drawings.of_people(at.shards(TRAIN), _OF_EMOJI)
    real = drawings.of_people(at.shards(TEST), _SAMPLES)
    return Content(
        plan=plan,
        left_out=left_out,
        figures=measurements,
        curves=drawings.data_url(plot.curves(measurements, plan.pretraining)),
        families={family: drawings.of_formulas(at.shards(family), _OF_A_FAMILY) for family in plan.families},
        emoji=[Shown(drawings.url(sample.pixels), sample.captions[0]) for sample in seen],
        arms=arms,
        formula_prompts=_rows(FORMULA_PROMPTS, [pretrained], encoder, each=_FORMULAS_EACH),
        emoji_prompts=_rows(EMOJI_PROMPTS, arms, encoder, each=_EMOJI_EACH),
        held_out=_held_out(real, [*arms, pretrained], encoder),
        names=[sample.captions[0] for sample in real],
        stages=_stages(steps, journal),
        facts=_facts(at, plan),
    )


def render(content: Content, seconds: float, starts: int, digest: str) -> str:
    """Returns the page, with the demo's seconds, its starts and the digest of its inputs."""
    # Template.
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "time": _clock,
        "thousands": lambda n: f"{n:,}",
        "percent": lambda x: "-" if x is None else f"{x:.0%}",
    }
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))

    # Content.
    facts = {"seconds": seconds, "starts": starts, "digest": digest, "detector": DETECTOR}
    return template.render(c=content, at_scale=at_scale(content.plan), **facts)


def _arms(at: Places, measurements: DemoFigures) -> list[Arm]:
    """Returns the three compared checkpoints."""
    scratch = {checkpoint.images_seen(c): c for c in checkpoint.committed(at.run(SCRATCH))}
    finetuned, same, longer = measurements.finetuned[-1], measurements.same, measurements.scratch[-1]
    ends = {
        "pre-trained, then fine-tuned": (finetuned, checkpoint.require(at.run(FINETUNED))),
        "from scratch": (same, scratch[same.images_seen]),
        "from scratch, continued": (longer, scratch[longer.images_seen]),
    }
    return [Arm(n, f"{p.images_seen:,} emoji seen, KID {p}", folder) for n, (p, folder) in ends.items()]


def _rows(
    prompts: Sequence[str], arms: Sequence[Arm], encoder: encoders.Encoder, *, each: int
) -> list[PromptRow]:
    """Returns a row per prompt, with `each` pictures by each arm."""
    pictures = [drawings.draw(arm.checkpoint, prompts, encoder, each=each) for arm in arms]
    by_prompt = zip(*(np.split(of_arm, len(prompts)) for of_arm in pictures), strict=True)
    sheets = [[drawings.sheet(group, columns=each) for group in groups] for groups in by_prompt]
    return [PromptRow(prompt, of_prompt) for prompt, of_prompt in zip(prompts, sheets, strict=True)]


def _held_out(real: Sequence[Sample], arms: Sequence[Arm], encoder: encoders.Encoder) -> list[Shown]:
    """Returns sheets of the real pictures and of each arm's pictures of their names."""
    names = [sample.captions[0] for sample in real]
    originals = drawings.sheet([sample.pixels for sample in real], columns=4)
    sheets = [drawings.sheet(drawings.draw(arm.checkpoint, names, encoder), columns=4) for arm in arms]
    pairs = zip(sheets, arms, strict=True)
    return [Shown(originals, "the emoji themselves"), *(Shown(sheet, arm.name) for sheet, arm in pairs)]


def _stages(steps: Sequence[DemoStep], journal: Journal) -> dict[str, list[Timed]]:
    """Returns the steps by stage, in the order of the stages."""
    stages: dict[str, list[Timed]] = {stage: [] for stage in _STAGES}
    for step in steps:
        stages[step.stage].append(Timed(step, journal.seconds(step.name)))
    return {stage: timed for stage, timed in stages.items() if timed}


def _facts(at: Places, plan: Plan) -> Json:
    """Returns the facts for the foot of the page."""
    # The first start of a run records commit and versions.
    run = json.loads((at.run(FINETUNED) / "config.json").read_text(encoding="utf-8"))
    made_by = run["made_by"]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "precision": run["config"]["training"]["precision"],
        "seed": run["config"]["training"]["seed"],
        "versions": ", ".join(f"{name} {version}" for name, version in made_by["versions"].items()),
        "commit": (made_by["commit"] or "unknown")[:12],
        "train": len(ShardSet(str(at.shards(TRAIN)))),
    }


def _clock(seconds: float) -> str:
    """Returns a duration in words: in seconds below two minutes, else in minutes and seconds."""
    if seconds >= 120:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02} s"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
