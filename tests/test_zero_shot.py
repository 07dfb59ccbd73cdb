"""Zero-shot classification by names: evaluate/probes/zero_shot.py, and the texts of runs that learn them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from caption import labels
from caption.sentences import names
from evaluate import detectors
from evaluate.cli import app
from evaluate.probes import zero_shot
from synth.images.codecs import encode_png
from synth.sets.shards import ShardSet
from tests import kit_squares
from tests.kit import invoke, json_lines, make_small, write_foreign
from train.model import Context, Micro
from train.models import contrastive
from train.models.contrastive import Config, Loss, Sizes, Training
from train.runs import Run
from train.sampling.features import RunFeatures
from train.stream.augmentations import Augmentations

pytestmark = pytest.mark.usefixtures("one_thread")

CLIP = Config(
    Sizes(resolution=8, patch=2, width=32, layers=1, heads=2, text_width=32, text_layers=1, tokens=12),
    Loss(picture_weight=0.0, text_weight=1.0),
    Augmentations(1.0, flip=0, jitter=0, grey=0, blur=0, down=0),
    Training(batch=12, views=1, lr=3e-3, warm_up=0, decay_to=10_000),
)


class Bags:
    """A text side of three words: a text is the mean of those that it has, and features are embeddings."""

    WORDS = ("frog", "cat", "photo")

    def pictures(self, features: np.ndarray) -> np.ndarray:
        return features

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array([[0.1 + (word in text) for word in self.WORDS] for text in texts], np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_a_class_is_the_mean_of_its_prompts() -> None:
    assert zero_shot.prompts("frog") == ["a frog", "a photo of a frog", "a picture of a frog"]
    assert zero_shot.prompts("an oval")[1] == "a photo of an oval"
    assert zero_shot.prompts("Acadian_Flycatcher")[0] == "an Acadian Flycatcher"
    side = Bags()
    [one, _] = zero_shot.embeddings(side, [zero_shot.prompts("frog"), zero_shot.prompts("cat")])
    mean = side.texts(zero_shot.prompts("frog")).mean(0)
    assert one == pytest.approx(mean / np.linalg.norm(mean), rel=1e-6)


def test_the_nearest_name_is_the_answer_and_equal_names_are_counted() -> None:
    features = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0.2]], np.float32)
    classes = [zero_shot.prompts(name) for name in ("frog", "cat")]
    accuracy = zero_shot.accuracy(Bags(), features, np.array([0, 1, 0]), classes)
    assert (accuracy.right, accuracy.n) == (2, 3)
    assert accuracy.details == {"prompts": 3, "alike": 0}

    # No word of these is known, so the first class is always the answer.
    unknown = [zero_shot.prompts(name) for name in ("ship", "truck", "deer")]
    accuracy = zero_shot.accuracy(Bags(), features, np.array([0, 1, 0]), unknown)
    assert accuracy.right == 2 and accuracy.details["alike"] == 2


@pytest.mark.slow
def test_scenes_have_names_of_classes_and_other_formulas_have_none(tmp_path: Path) -> None:
    """The name of a class is the bare name of each of its pictures."""
    make_small(tmp_path / "scenes", dataset="scenes_flat", settings=("classes=5",), samples=10)
    shard_set = ShardSet(str(tmp_path / "scenes"))
    labelled = labels.named([shard_set], "class")
    pictures = [sample for shard in shard_set.shards for sample in shard_set.read(shard)]
    numbers = np.concatenate(labelled.of_samples).tolist()
    assert [labelled.words[number] for number in numbers] == [names.name(p.metadata) for p in pictures]
    assert names.of_classes("fractals", {}) is None
    assert names.of_classes("scenes", {"a setting of another version": 1}) is None


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run of CLIP on squares."""
    return kit_squares.trained(tmp_path_factory.mktemp("clip") / "run", "contrastive", CLIP, 60)


def pictures() -> torch.Tensor:
    """The squares under noise, in -1..1: (N, 3, 8, 8)."""
    clean = kit_squares.batch().pictures[:, 0] / 127.5 - 1
    return (clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))).clamp(-1, 1)


@pytest.mark.slow
def test_right_captions_are_better_than_shuffled_ones(clip: Run) -> None:
    loaded, tokens = clip.load(), kit_squares.batch().tokens
    assert tokens is not None

    def share(rows: torch.Tensor) -> float:
        context = Context(torch.device("cpu"), torch.float32, kit_squares.SURVEY)
        training = contrastive.build(loaded.parts, CLIP, context)
        [terms] = training.phases[0].loss(Micro(pictures()[:, None], {}, range(12), 0, tokens=rows))
        return terms["matched"].item()

    assert share(tokens) > 0.9 and share(tokens.roll(1, 0)) < 0.5


@pytest.mark.slow
def test_pictures_are_named_without_training_on_their_classes(clip: Run, tmp_path: Path) -> None:
    """Six classes of squares, by a run that has not seen their prompts."""
    colours = list(kit_squares.COLOURS)
    pixels = ((pictures() + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    rows = []
    for i, picture in enumerate(pixels):
        name = f"{colours[i % 3]} square on {colours[(i + 1 + i // 6) % 3]}"
        rows.append({"png": encode_png(picture), "json": json.dumps({"class_name": name}).encode()})
    place = write_foreign(tmp_path / "squares", rows)
    options = ["--train", place, "--test", place, "--probes", "zero", "--baselines", "random,pixels"]
    printed = json_lines(invoke(app, "probe", clip.path, *options, raising=True))
    learned, random = printed
    assert learned["metric"] == "probe accuracy, zero-shot" and learned["features"] == f"run:{clip.path}"
    assert learned["value"] > 0.9 and random["value"] < 0.5
    assert (learned["tests"], learned["classes"], learned["prompts"], learned["alike"]) == (12, 6, 3, 0)


@pytest.mark.slow
def test_runs_without_texts_have_no_zero_shot_row(tmp_path: Path) -> None:
    plain = replace(CLIP, loss=Loss(), training=replace(CLIP.training, views=2))
    run = kit_squares.trained(tmp_path / "plain", "contrastive", plain, 0)
    assert RunFeatures(run).texts is None
    assert detectors.text_side(detectors.load(f"run:{run.path}")) is None
    assert detectors.text_side(detectors.load("pixels:8")) is None
