"""SimCLR, StableRep, StableRep++ and CLIP: train/models/contrastive.py, and their backbones."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from synth.errors import UserError
from tests.kit import json_lines, make_small, start
from tests.kit_train import quiet, refused, weights
from train import config, log, model
from train.config import RunConfig
from train.model import Context, Micro
from train.models import contrastive
from train.models.contrastive import Config, Loss, Sizes, Training
from train.models.features import backbones
from train.models.features.backbones import BackboneSizes
from train.start.request import TrainRequest

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Sizes(resolution=8, patch=4, width=16, layers=1, heads=2, head=32, embedding=16)
PAIRS = Config(SMALL, training=Training(batch=8, lr=3e-3, warm_up=0, decay_to=10_000))
WORDS = ("red", "green", "blue", "star", "disc")
SURVEY = {"words": WORDS}
TEXTS = Config(
    replace(SMALL, text_width=16, text_layers=1, tokens=6),
    Loss(picture_weight=0.0, text_weight=1.0),
    training=Training(batch=8, views=1, lr=3e-3, warm_up=0, decay_to=10_000),
)
BOTH = replace(TEXTS, loss=Loss(text_weight=1.0), training=replace(TEXTS.training, views=2))
SETS = Config(SMALL, training=Training(batch=12, views=1, group=4, lr=3e-3, warm_up=0, decay_to=10_000))


def context(dtype: torch.dtype = torch.float32, **changes: Any) -> Context:
    return Context(torch.device("cpu"), dtype, **changes)


def networks(settings: Config, **changes: Any) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return contrastive.parts(settings, context(survey=SURVEY, **changes))


def first_terms(settings: Config, micro: Micro, parts: dict[str, nn.Module], **changes: Any) -> Any:
    """Returns the terms of the loss on a batch."""
    kind = next(parts["backbone"].parameters()).dtype
    training = contrastive.build(parts, settings, context(kind, survey=SURVEY, **changes))
    [terms] = training.phases[0].loss(micro)
    return terms


def batch(views: int, *, count: int, group: int = 1, dtype: torch.dtype = torch.float32) -> Micro:
    """Pictures with a colour each, and for groups one colour a group, under noise."""
    torch.manual_seed(1)
    colours = torch.rand(count // group, 1, 3, 1, 1).repeat_interleave(group, 0) * 2 - 1
    pictures = (colours + 0.3 * torch.randn(count, views, 3, 8, 8)).to(dtype)
    labels = torch.arange(count // group).repeat_interleave(group) if group > 1 else None
    return Micro(pictures, {}, range(count), 0, labels=labels)


def trained(settings: Config, micro: Micro, steps: int) -> tuple[list[float], list[float]]:
    """Returns the losses and the shares of right neighbours of the first steps on one batch."""
    parts = networks(settings)
    training = contrastive.build(parts, settings, context(survey=SURVEY))
    losses, right = [], []
    loss, share = ("contrast", "nearest") if settings.loss.picture_weight else ("text", "matched")
    for _ in range(steps):
        [terms] = training.phases[0].loss(micro)
        losses.append(terms[loss].item())
        right.append(terms[share].item())
        terms[loss].backward()
        for optimiser in training.optimisers.values():
            optimiser.step()
            optimiser.zero_grad()
    return losses, right


def test_simclr_overfits_one_batch() -> None:
    losses, right = trained(PAIRS, batch(2, count=8), 40)
    assert losses[-1] < 0.1 * losses[0] and right[-1] == 1


def test_stablerep_overfits_one_batch_down_to_its_bound() -> None:
    losses, right = trained(SETS, batch(1, count=12, group=4), 40)
    assert math.log(3) < losses[-1] < math.log(3) + 0.05 and losses[0] > math.log(3) + 0.3 and right[-1] == 1


def test_the_head_takes_out_what_all_rows_share() -> None:
    """With layer norm in the head, groups of one class drew all embeddings to one point."""
    torch.manual_seed(2)
    head, rows = backbones.projection(16, 32, 16), 1e-3 * torch.randn(24, 16)
    near = nn.functional.cosine_similarity(rows[:1] + 1, rows[1:] + 1).min()
    ours, moved = head(rows), head(rows + 1)
    assert near > 0.999 and torch.allclose(ours, moved, atol=1e-2)
    assert nn.functional.cosine_similarity(moved[:1], moved[1:]).mean() < 0.5


def test_the_loss_of_two_views_is_that_of_groups_of_two() -> None:
    """Two views of a picture, and two pictures of a class, are one case."""
    parts, micro = networks(PAIRS), batch(2, count=8)
    [views] = contrastive.build(parts, PAIRS, context()).phases[0].loss(micro)
    pairs = Micro(micro.pictures.flatten(0, 1)[:, None], {}, range(16), 0, labels=torch.arange(16) // 2)
    [groups] = contrastive.build(parts, PAIRS, context()).phases[0].loss(pairs)
    assert views["contrast"].item() == pytest.approx(groups["contrast"].item(), rel=1e-6)


def worded(views: int = 1, *, texts: int = 8, group: int = 1, dtype: torch.dtype = torch.float32) -> Micro:
    """Eight pictures with a colour each. The first `texts` have different texts, the others repeat them."""
    rows = torch.tensor([[1, 3 + i % 3, 6 + i % 2, 3 + i // 6] for i in range(texts)])
    micro = batch(views, count=8, group=group, dtype=dtype)
    return replace(micro, tokens=rows[torch.arange(8) % texts])


def test_clip_overfits_one_batch() -> None:
    losses, right = trained(TEXTS, worded(), 40)
    assert losses[-1] < 0.1 * losses[0] and right[-1] == 1


def test_the_clip_arm_is_the_symmetric_loss_of_pairs() -> None:
    """If all texts differ, the loss is figure 3 of CLIP."""
    parts, micro = networks(TEXTS), worded()
    joint: Any = parts["joint"]
    pictures = joint.pictures(contrastive.features(parts, micro.pictures[:, 0]))
    logits = pictures @ joint.texts(micro.tokens).T / 0.07
    losses = [nn.functional.cross_entropy(side, torch.arange(8)) for side in (logits, logits.T)]
    terms = first_terms(TEXTS, micro, parts)
    assert terms["text"].item() == pytest.approx((losses[0] + losses[1]).item() / 2, rel=1e-6)
    assert terms["temperature"].item() == pytest.approx(0.07) and "contrast" not in terms


def test_the_loss_with_texts_has_the_bound_of_its_equal_texts() -> None:
    """Texts that come twice can reach log 2, and no less."""
    losses, right = trained(TEXTS, worded(texts=4), 60)
    assert math.log(2) < losses[-1] < math.log(2) + 0.05 and right[-1] == 1


def test_stablerep_plus_is_the_sum_of_both_losses() -> None:
    """Each term is that of its own arm with the same weights, times its weight."""
    parts, micro = networks(BOTH), worded(2)
    both = first_terms(BOTH, micro, parts)
    pictures = first_terms(replace(BOTH, loss=Loss()), micro, parts)
    texts = first_terms(replace(BOTH, loss=Loss(picture_weight=0.0, text_weight=0.5)), micro, parts)
    assert both["contrast"].item() == pictures["contrast"].item()
    assert both["text"].item() == pytest.approx(2 * texts["text"].item(), rel=1e-6)


def test_a_text_counts_its_words_alone() -> None:
    """Padding changes no embedding, nor do words outside the vocabulary at its end."""
    joint: Any = networks(TEXTS)["joint"].eval()
    short, padded, unknown = (torch.tensor([row]) for row in ([1, 3], [1, 3, 0, 0], [1, 3, 2]))
    assert torch.allclose(joint.texts(short), joint.texts(padded), atol=1e-6)
    assert torch.allclose(joint.texts(short), joint.texts(unknown), atol=1e-6)
    assert not torch.allclose(joint.texts(short), joint.texts(torch.tensor([[1, 4]])), atol=1e-3)


def test_the_learned_temperature_stays_above_its_least() -> None:
    parts = networks(TEXTS)
    joint: Any = parts["joint"]
    with torch.no_grad():
        joint.sharpness.fill_(7.0)
    phase = contrastive.build(parts, TEXTS, context(survey=SURVEY)).phases[0]
    assert phase.settle is not None
    phase.settle({})
    assert joint.sharpness.exp().item() == pytest.approx(100)


def test_a_base_of_fewer_words_keeps_their_vectors() -> None:
    captions = [model.CaptionedPicture(np.zeros((8, 8, 3), np.uint8), ("a blue star", "a star"))]
    survey = contrastive.survey(TEXTS, captions, {"words": ["red", "star"]})
    assert survey == {"words": ["red", "star", "a", "blue"]}
    assert contrastive.survey(PAIRS, captions, {}) == {}
    joint: Any = networks(TEXTS)["joint"]
    table = joint.state_dict()["states.word.weight"]
    grown = contrastive.grown(joint, {"states.word.weight": torch.zeros(5, 16)})["states.word.weight"]
    assert not grown[:5].any() and torch.equal(grown[5:], table[5:])


@pytest.mark.parametrize("arm", ["pictures", "texts", "both"])
def test_two_ranks_have_the_loss_and_gradient_of_one(arm: str) -> None:
    """Each rank sees its half and the embeddings of the other. The sum over ranks is averaged afterwards."""
    settings = {"pictures": replace(SETS, training=replace(SETS.training, batch=8)), "texts": TEXTS}.get(
        arm, replace(BOTH, training=replace(TEXTS.training, group=4))
    )
    micro = worded(texts=3, group=1 if arm == "texts" else 4, dtype=torch.float64)
    parts = {name: part.double() for name, part in networks(settings).items()}
    weights = {f"{name}.{n}": p for name, part in parts.items() for n, p in part.named_parameters()}
    whole, seen = _gathered(settings, micro, parts)
    alone = torch.autograd.grad(_summed(whole), list(weights.values()))

    # The other rank's rows are constants here, so their part of the gradient comes from its turn.
    total = [torch.zeros_like(weight) for weight in weights.values()]
    for rank in range(2):
        terms, _ = _gathered(settings, _half(micro, rank), parts, rank=rank, others=seen)
        assert {n: t.item() for n, t in terms.items()} == pytest.approx(
            {n: t.item() for n, t in whole.items()}, rel=1e-12
        )
        gradients = torch.autograd.grad(_summed(terms), list(weights.values()))
        total = [a + b for a, b in zip(total, gradients, strict=True)]
    for name, ours, theirs in zip(weights, total, alone, strict=True):
        # Both ranks have the whole gradient of the head and of the temperature, which is averaged.
        everywhere = name.startswith("head.") or name == "joint.sharpness"
        assert torch.allclose(ours / (2 if everywhere else 1), theirs, atol=1e-10), name


def _half(micro: Micro, rank: int) -> Micro:
    """Returns a rank's half. The first rank has shorter texts."""
    rows = slice(4 * rank, 4 * rank + 4)
    labels = None if micro.labels is None else micro.labels[rows]
    assert micro.tokens is not None
    tokens = nn.functional.pad(micro.tokens[rows], (0, rank))
    pictures, numbers = micro.pictures[rows], range(4 * rank, 4 * rank + 4)
    return replace(micro, pictures=pictures, numbers=numbers, labels=labels, tokens=tokens)


def _gathered(
    settings: Config,
    micro: Micro,
    parts: dict[str, nn.Module],
    *,
    rank: int | None = None,
    others: list[torch.Tensor] | None = None,
) -> tuple[Any, list[torch.Tensor]]:
    """Returns the terms, and all gathered tensors. A rank takes the rows of the other from `others`."""
    seen: list[torch.Tensor] = []

    def gather(part: torch.Tensor) -> torch.Tensor:
        seen.append(part.detach())
        if rank is None or others is None:
            return part
        halves = list(others[len(seen) - 1].chunk(2))
        halves[rank] = part
        return torch.cat(halves)

    return first_terms(settings, micro, parts, gather=gather), seen


def _summed(terms: Any) -> torch.Tensor:
    return sum((term for term in terms.values() if term.requires_grad), torch.zeros(()))


@pytest.mark.parametrize("name", ["vit", "resnet18"])
def test_a_backbone_gives_features_of_each_picture_alone(name: str) -> None:
    sizes = Sizes(resolution=16, backbone=name, width=24, layers=2, heads=2)
    net = backbones.backbone(sizes).train()
    pictures = torch.randn(4, 3, 16, 16)
    together = net(pictures)
    assert together.shape == (4, sizes.features)
    assert torch.allclose(together[:1], net(pictures[:1]), atol=1e-5)
    assert not [buffer for buffer, _ in net.named_buffers() if "running" in buffer]


def test_the_published_sizes_have_their_parameters() -> None:
    with torch.device("meta"):
        counts = [
            sum(
                p.numel()
                for p in backbones.backbone(
                    BackboneSizes(224, patch=16, width=64 * heads, heads=heads)
                ).parameters()
            )
            for heads in (3, 6, 12)
        ]
    assert counts == [5_524_416, 21_665_664, 85_798_656]


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    rates = [backbones.cosine(seen, 100, 1100) for seen in (50, 100, 600, 1100, 2000)]
    assert rates == pytest.approx([0.5, 1, 0.5, 0, 0])


def test_a_rate_that_falls_before_it_has_risen_is_refused() -> None:
    with pytest.raises(ValueError, match="decay_to is 0; it must be above warm_up = 100"):
        Training(warm_up=100, decay_to=0)
    assert Training(lr=0.0, warm_up=0, decay_to=0).rate("backbone", 0) == 0


def test_vectors_do_not_decay() -> None:
    part = networks(PAIRS)["backbone"]
    decaying, others = backbones.adamw(part, 1e-3, 0.1, (0.9, 0.98)).param_groups
    assert all(p.ndim > 1 for p in decaying["params"]) and others["weight_decay"] == 0
    assert any(p is part.get_parameter("pos_embed") for p in others["params"])


@pytest.mark.parametrize(
    ("group", "change"),
    [
        (Training, {"positives": "colour"}),
        (Training, {"batch": 0}),
        (Training, {"precision": "fp16"}),
        (Loss, {"temperature": 0}),
        (Loss, {"text_temperature": 0}),
        (Loss, {"picture_weight": 0}),
        (Loss, {"text_weight": -1}),
        (Sizes, {"text_width": 100}),
        (Sizes, {"tokens": 0}),
        (Sizes, {"patch": 0}),
        (Sizes, {"backbone": "vgg"}),
        (Sizes, {"embedding": 0}),
    ],
)
def test_values_out_of_range_are_refused(group: type, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        group(**change)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("training.views=1", "no view has a positive; .*training.group=6"),
        ("model.patch=5", "no whole patches of 5"),
        ("model.heads=5", "no 5 equal heads"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(setting: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        _ = config.with_settings(RunConfig.of("contrastive"), [setting]).needs


def test_the_model_is_one_of_the_house() -> None:
    assert "contrastive" in model.names()
    assert model.needs("contrastive", SETS).whole and model.needs("contrastive", SETS).groups == (4,)


TINY = (
    *("model.resolution=16", "model.width=16", "model.layers=1", "model.heads=2", "model.head=32"),
    *("training.batch=16", "training.group=4", "training.precision=fp32", "run.tick=16", "run.workers=0"),
    *("run.checkpoint=32", "run.samples=64"),
)


@pytest.fixture(scope="module")
def few_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small set with five classes of eight pictures."""
    out = tmp_path_factory.mktemp("few") / "set"
    make_small(out, settings=("classes=5",))
    return out


# Drawn pictures with captions, in five classes.
LIVE = ("live.visual_atoms.classes=5", "live.visual_atoms.pictures=40")


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param("stablerep-32", marks=pytest.mark.slow),
        pytest.param("stablerep-plus-32", marks=pytest.mark.soak),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_weights(preset: str, few_classes: Path, tmp_path: Path) -> None:
    def request(out: str, images: int) -> TrainRequest:
        plain = TrainRequest(preset, (str(few_classes),), str(tmp_path / out), images=images, settings=TINY)
        if preset == "stablerep-32":
            return plain
        return replace(plain, shards=(), live=("visual_atoms",), settings=(*TINY, *LIVE))

    quiet(request("whole", 64))
    for images in (32, 64):
        quiet(request("parts", images))
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")

    # It is no base of another arm, which has other parts.
    if preset == "stablerep-32":
        base = replace(request("other", 64), preset="stablerep-plus-32", shards=(), live=("visual_atoms",))
        sizes = (*TINY, *LIVE, "model.text_width=128")
        texts = replace(base, settings=sizes, source=str(tmp_path / "whole"))
        refused(texts, "has no part joint, which stablerep-plus-32 trains; give a run with the same losses")


@pytest.mark.soak
@pytest.mark.parametrize("preset", ["stablerep-32", "stablerep-plus-32"])
def test_two_ranks_of_a_run_have_the_losses_of_one(preset: str, few_classes: Path, tmp_path: Path) -> None:
    rows = []
    texts = preset == "stablerep-plus-32"
    source = ["--live", "visual_atoms"] if texts else ["--on", str(few_classes)]
    settings, terms = (*TINY, *(LIVE if texts else ())), ("contrast", *(("text",) if texts else ()))
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        words = [sys.executable, *(torchrun if ranks == 2 else []), "-m", "train", "pretrain", preset]
        words += [*source, "--out", str(out), "--images", "64", "--device", "cpu"]
        process = start([*words, *(word for s in settings for word in ("--set", s))], OMP_NUM_THREADS="1")
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        rows.append([row[f"learn/{term}"] for row in json_lines(out / log.LOG) for term in terms])
    assert rows[0] == pytest.approx(rows[1], rel=1e-4) and len(rows[0]) == 4 * len(terms)
