"""Autoencoders for latents: a RUN of train/models/autoencoder.py, or a local AutoencoderKL of diffusers.

A folder of diffusers has config.json and diffusion_pytorch_model.safetensors. Its networks are read by the
same modules, so diffusers itself is not needed.
"""

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from synth.errors import UserError
from synth.sets.storage import reading
from train import runs
from train.model import Loaded
from train.models.autoencoder import DECODER, ENCODER, Config
from train.models.autoencoder_networks import AutoencoderSizes, LatentDecoder, LatentEncoder

MODEL = "autoencoder"  # the name of the models' module

_CLASS = "AutoencoderKL"  # in config.json of diffusers
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_OUTSIDE = {"quant_conv": ENCODER, "post_quant_conv": DECODER}  # layers that diffusers has beside both halves
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # before diffusers 0.17
# Values of its config that our modules have.
_FIXED: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "act_fn": "silu",
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "shift_factor": None,
}

Json = dict[str, Any]


@dataclass(frozen=True)
class Autoencoder:
    """An opened autoencoder, frozen."""

    place: str
    sizes: AutoencoderSizes
    encoder: LatentEncoder
    decoder: LatentDecoder

    @functools.cached_property
    def weights(self) -> str:
        """The sha256 of both halves' weights: equal for a run and for its export."""
        hashed = hashlib.sha256()
        for part, module in ((ENCODER, self.encoder), (DECODER, self.decoder)):
            for name, value in sorted(module.state_dict().items()):
                hashed.update(f"{part}.{name} {tuple(value.shape)}\n".encode())
                hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
        return hashed.hexdigest()

    @property
    def description(self) -> Json:
        """Sizes and weights, as plain JSON."""
        return {"weights": self.weights, "sizes": json.loads(json.dumps(dataclasses.asdict(self.sizes)))}


@functools.lru_cache(maxsize=2)
def find(place: str, device: str = "cpu") -> Autoencoder:
    """Returns the autoencoder of a RUN or of a folder of diffusers.

    Raises UserError if there is none, or if its layers differ from those of our modules."""
    loaded = load(place, device)
    encoder, decoder = (loaded.parts[part].to(device) for part in (ENCODER, DECODER))
    return Autoencoder(place, loaded.config.model, cast(LatentEncoder, encoder), cast(LatentDecoder, decoder))


def load(place: str, device: str = "cpu") -> Loaded:
    """Returns the model of an autoencoder's RUN or of a folder of diffusers. Raises UserError as `find`."""
    if (values := _of_diffusers(Path(place))) is not None:
        return _loaded(Path(place), values)
    return _run_of(place).load(device=device)


def run_of(place: str) -> runs.Run | None:
    """Returns the RUN of an autoencoder, or None for a folder of diffusers. Raises UserError as `find`."""
    return _run_of(place) if _of_diffusers(Path(place)) is None else None


def load_any(place: str) -> Loaded:
    """Returns the newest model of a RUN, or the autoencoder of a folder of diffusers. Raises UserError if
    there is none."""
    return runs.load(place) if _of_diffusers(Path(place)) is None else load(place)


def _run_of(place: str) -> runs.Run:
    run = runs.find(place)
    if run.model != MODEL:
        raise UserError(f"{place} is a run of {run.model}; give a run of {MODEL}")
    return run


def _of_diffusers(folder: Path) -> Json | None:
    """Returns the config of a folder of diffusers, or None for any other folder."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) and "_class_name" in values else None


def _loaded(folder: Path, values: Json) -> Loaded:
    """Returns the autoencoder of a folder of diffusers."""
    # Sizes.
    other = {key: values.get(key, value) for key, value in _FIXED.items()}
    differences = [
        f"{key} is {value} and not {_FIXED[key]}" for key, value in other.items() if value != _FIXED[key]
    ]
    if values["_class_name"] != _CLASS:
        differences = [f"it is a {values['_class_name']}"]
    if differences:
        problem = f"{folder} is no autoencoder that exnihilo reads: {', '.join(differences)}"
        raise UserError(f"{problem}; give a run of {MODEL}, or another folder of {_CLASS}")
    try:
        sizes = AutoencoderSizes(
            resolution=int(values["sample_size"]),
            channels=tuple(values["block_out_channels"]),
            blocks=int(values["layers_per_block"]),
            planes=int(values["latent_channels"]),
            groups=int(values.get("norm_num_groups", 32)),
            attention=bool(values.get("mid_block_add_attention", True)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}/config.json is no config of {_CLASS}: {error}; give another") from None

    # Weights.
    parts: dict[str, nn.Module] = {ENCODER: LatentEncoder(sizes), DECODER: LatentDecoder(sizes)}
    try:
        with reading(str(folder / _WEIGHTS)):
            tensors = load_file(folder / _WEIGHTS)
        for part, rows in _by_part(tensors).items():
            parts[part].load_state_dict(rows)
    except FileNotFoundError:
        raise UserError(f"{folder} has no {_WEIGHTS}; save the model by save_pretrained") from None
    except (SafetensorError, RuntimeError, KeyError) as error:
        problem = str(error).splitlines()[0].rstrip(".:")
        raise UserError(f"{folder / _WEIGHTS} does not fit its config: {problem}; give another") from None
    for module in parts.values():
        module.requires_grad_(False)
    return Loaded(MODEL, Config(model=sizes), {}, parts, {})


def _by_part(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Returns the tensors of each half under their names here. Raises KeyError for an unknown one."""
    parts: dict[str, dict[str, Tensor]] = {ENCODER: {}, DECODER: {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part in _OUTSIDE:
            part, rest = _OUTSIDE[part], name
        if "attentions" in rest:
            *head, layer, kind = rest.split(".")
            rest = ".".join([*head, _OLD.get(layer, layer), kind])
            value = value.flatten(1) if value.ndim == 4 else value  # a convolution with a kernel of 1
        parts[part][rest] = value.float()
    return parts
