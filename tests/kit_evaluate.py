"""Fakes for tests of evaluate: a quick detector, pictures of an array, random weights for inception."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from evaluate.detectors import Detector, Output
from evaluate.features import Features, extract
from evaluate.sources import Pictures
from tests.kit import returned

PIXELS = np.random.default_rng(0).integers(0, 256, (1200, 6, 6, 3), np.uint8)


class Means:
    """A detector of means of cells, with logits. It counts the pictures that it sees."""

    name, weights, resize, dimensions = "inception", "0" * 64, "none", 27

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, pixels: np.ndarray) -> Output:
        self.seen += len(pixels)
        cells = pixels.reshape(len(pixels), 3, 2, 3, 2, 3).mean(axis=(2, 4), dtype=np.float32)
        features = cells.reshape(len(pixels), 27) / 64
        return Output(features, features[:, :10] * 4)


def stream_of(pixels: np.ndarray, *, cut: int = 50, stop: int | None = None) -> Pictures:
    """Returns an array as a stream of pictures. The stream fails at picture `stop`."""

    def batches(first: int) -> Iterator[np.ndarray]:
        for begin in range(first, len(pixels), cut):
            if stop is not None and begin >= stop:
                raise KeyboardInterrupt
            yield pixels[begin : begin + cut]

    return Pictures("a stream", hashlib.sha256(pixels.tobytes()).hexdigest(), len(pixels), batches)


def extracted(detector: Detector, pictures: Pictures, *, cache: Path) -> Features:
    """Returns the features that one detector has of pictures."""
    [features] = returned(extract([detector], pictures, cache=cache))
    return features


def write_random_inception(file: Path) -> Path:
    """Writes random weights for FID's inception, scaled so that activations keep their size."""
    from caption.lean_imports import import_torchvision

    import_torchvision()
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as module

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        net = module.FeatureExtractorInceptionV3("any", ["logits"])
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(net.state_dict(), file)
    return file
