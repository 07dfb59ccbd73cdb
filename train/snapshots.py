"""The import of a network snapshot of LAFITE's program: a pickle -> a RUN.

The snapshot holds G, D and the average of G. The run has no optimisers, so it starts a fine-tuning, and is
drawn from and measured, but is not resumed.

Axes: N pictures, D width of a caption, T width of text layers.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from caption import encoders
from synth.errors import UserError
from synth.sets import targets
from synth.sets.storage import Folder
from train import checkpoint, config, pickles, presets, runs
from train.checkpoint import Origin
from train.config import RunConfig
from train.loop import parameters
from train.models import lafite_names, latents, stylegan2
from train.models.layers import Conv, DownConv, ModulatedConv, ToRGB
from train.models.stylegan2_networks import Discriminator, Generator, Sizes
from train.pickles import Module, View
from train.runs import CONFIG

_PRESET = "lafite-256"
_CLAMP = 256  # the program cuts features and colours there
_TRIED, _AT_ONCE = 64, 4  # pictures that look for larger ones
_CLOCK = re.compile(r"network-snapshot-(\d{6})\.pkl")  # thousands of images seen
_LEFT_OUT = ("resample_filter", "w_avg")  # tensors that our networks compute, or do without
_FIR = [1.0, 3.0, 3.0, 1.0]
# Attributes of modules, and the value that our networks implement.
_ALLOWED: dict[str, Any] = {
    "use_norm": False,
    "use_fts": True,
    "use_noise": True,
    "structure": 2,
    "c_dim": 0,
    "img_channels": 3,
    "num_channels": 1,  # of the minibatch deviation
    "mani": None,
}
_ARCHITECTURES = {"Generator": "skip", "Discriminator": "resnet"}

Json = dict[str, Any]


class Imported(NamedTuple):
    """The result of an import."""

    row: Json  # describes the run
    notes: list[str]  # lines for a person


def import_snapshot(file: str, encoder: str, out: str) -> Imported:
    """Writes a snapshot as a run. Leaves an equal run alone.

    Raises UserError if the file is no snapshot that our networks can represent, if its texts have another
    width than the encoder's, or if OUT has other content or this snapshot with another encoder."""
    # An equal run.
    path, target = Path(file), targets.folder(out)
    digest = _sha256(path)
    source = encoders.find(encoder)
    if (target / CONFIG).exists():
        run = runs.find(target)
        if (run.metadata.get("imported") or {}).get("sha256") == digest:
            if run.metadata["encoder"]["digest"] != source.sha256:
                problem = f"{out} is this snapshot with the encoder {run.encoder_name}"
                raise UserError(f"{problem}, and --encoder is {encoder}; give another --out")
            clock = run.images_seen(run.checkpoint())
            return Imported({"out": out, "images_seen": clock}, [f"{out} is this snapshot already"])
    Folder(out).require_empty()

    # Networks, and the encoder of their texts.
    snapshot = _read(path)
    networks = {name: _network(path, snapshot, name) for name in ("G_ema", "G", "D")}
    sizes = networks["G_ema"].sizes
    dimensions = encoders.load(source, "cpu", "fp32").dimensions
    if dimensions != sizes.text_dim:
        problem = f"{file} reads texts of {sizes.text_dim} dimensions, and {encoder} gives {dimensions}"
        raise UserError(f"{problem}; give the encoder that it was trained with")

    # The run.
    preset = presets.get(_PRESET)
    changes = {**preset.changes, **{f"model.{name}": value for name, value in vars(sizes).items()}}
    run_config = RunConfig.of(preset.model, changes)
    metadata = {
        "preset": None,
        "model": preset.model,
        "config": config.to_json(run_config),
        "shards": {"dataset": f"imported from {path.name}"},
        "captions": {},
        "encoder": {"name": encoder, "digest": source.sha256},
        "from": None,
        "imported": {"from": path.name, "sha256": digest},
    }
    clock = _images_seen(path)
    with Folder(str(target)).filled() as folder:
        folder.write(CONFIG, (json.dumps(metadata, indent=1) + "\n").encode())
        writers = _writers(networks, run_config, clock)
        checkpoint.write(Path(folder.url), clock, writers, [checkpoint.part_file(stylegan2.EMA)])

    # Features that the program would have cut.
    largest = _largest_feature(networks["G_ema"], networks["D"])
    notes = [f"the file does not name its encoder: check that its texts were embedded by {encoder}"]
    if largest > _CLAMP:
        problem = (
            f"features reach {largest:.0f} on {_TRIED} pictures, and LAFITE's program cuts them at {_CLAMP}"
        )
        notes.append(f"{problem}, so its pictures differ")
    count = parameters(networks["G"], networks["D"])
    row = {"out": out, "images_seen": clock, "resolution": sizes.resolution, "parameters": count}
    return Imported({**row, "largest_feature": round(largest, 1)}, notes)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; give another file") from None


def _images_seen(path: Path) -> int:
    """Returns the clock in the file's name, or 0. The file itself has none."""
    match = _CLOCK.fullmatch(path.name)
    return 1000 * int(match[1]) if match else 0


def _read(path: Path) -> dict[str, Module]:
    """Returns the three networks. Raises UserError if one is missing or of another class."""
    values, networks = pickles.read(path), {}
    for name, kind in (("G", "Generator"), ("D", "Discriminator"), ("G_ema", "Generator")):
        module = values.get(name)
        if type(module) is not Module or module.name != kind:
            raise UserError(f"{path} is no network snapshot of LAFITE's program: it has no {kind} {name}")
        networks[name] = module
    return networks


def _network(path: Path, snapshot: Mapping[str, Module], name: str) -> Generator | Discriminator:
    """Returns a network with its weights. Raises UserError if ours cannot represent it."""
    try:
        modules = pickles.modules(snapshot[name])
        for place, module in modules.items():
            _require_understood(module, snapshot[name].name, f"{name}.{place}".removesuffix("."))
        group = pickles.modules(snapshot["D"])["b4.mbstd"].state["group_size"]
        sizes = _sizes(pickles.tensors(snapshot["G_ema"]), group)
        return _filled(pickles.tensors(snapshot[name]), snapshot[name].name, sizes, path.stat().st_size)
    except KeyError as error:
        problem = f"{name} has no {_short(error)}"
    # Shapes of a hostile file may be of any number of axes and any length.
    except (ValueError, IndexError, TypeError, OverflowError, RuntimeError) as error:
        problem = f"{name}: {_short(error)}"
    raise UserError(f"{path} holds a network that ours cannot represent: {problem}; give another snapshot")


def _require_understood(module: Module, network: str, place: str) -> None:
    """Raises ValueError if a module has an attribute with a value that our networks do not implement."""
    allowed = {**_ALLOWED, "architecture": _ARCHITECTURES[network]}
    for name, expected in allowed.items():
        value = module.state.get(name, expected)
        if type(value) is not type(expected) or value != expected:
            raise ValueError(f"{name} of {place} is {_short(value)}, and ours has {expected}")
    if module.name == "FullyConnectedLayer":
        slow = ".mapping." in place or ".pre_" in place
        gain = module.state.get("bias_gain")
        if not isinstance(gain, int | float) or gain != (0.01 if slow else 1):
            raise ValueError(f"the learning rate multiplier of {place} is {_short(gain)}, and ours differs")


def _sizes(views: Mapping[str, View], mbstd_group: Any) -> Sizes:
    """Returns the sizes of both networks, from the shapes of the average's tensors."""
    sides = [4]
    while f"synthesis.b{2 * sides[-1]}.conv1.weight" in views:
        sides.append(2 * sides[-1])
    layers = 0
    while f"mapping.fc{layers}.weight" in views:
        layers += 1
    widths = {side: views[f"synthesis.b{side}.conv1.weight"].size[0] for side in sides}
    if type(mbstd_group) is not int:
        raise ValueError(f"the group of the deviation is {_short(mbstd_group)}, and ours is a number")

    # A side has channel_base / side channels, at most channel_max.
    most = max(widths.values())
    base = min((side * width for side, width in widths.items() if width < most), default=most * sides[-1])
    hidden = views["synthesis.b4.conv1.pre_0.weight"].size
    sizes = Sizes(
        resolution=sides[-1],
        text_dim=hidden[1],
        z_dim=views["mapping.fc0.weight"].size[1],
        w_dim=views[f"mapping.fc{layers - 1}.weight"].size[0],
        mapping_layers=layers,
        text_width=hidden[0],
        channel_base=base,
        channel_max=most,
        style="w",
        mbstd_group=mbstd_group,
        mbstd_order="strided",
    )
    if any(sizes.channels(side) != width for side, width in widths.items()):
        channels = ", ".join(f"{width} at {side} px" for side, width in widths.items())
        raise ValueError(f"its channels are {channels}, and ours are min(base / side, most)")
    return sizes


def _filled(views: dict[str, View], kind: str, sizes: Sizes, most_bytes: int) -> Generator | Discriminator:
    """Returns a network of these sizes with the tensors of a snapshot.

    Raises ValueError if one has another size, or has no place in ours."""
    # Filters are no weights, but another one would give other pictures.
    for name, view in views.items():
        if name.endswith("resample_filter"):
            _require_usual_filter(name, view)

    # Shapes first, and memory afterwards. No shape of ours needs more than the file has.
    mapped: Callable[[Mapping[str, Tensor], Sizes], dict[str, Tensor]]
    mapped = lafite_names.generator_state if kind == "Generator" else lafite_names.discriminator_state
    with torch.device("meta"):
        network = Generator(sizes) if kind == "Generator" else Discriminator(sizes)
        taken = _Taken({name: torch.empty(view.size) for name, view in views.items()})
        try:
            shapes = {name: tensor.shape for name, tensor in mapped(taken, sizes).items()}
        except RuntimeError as error:
            raise ValueError(f"the sizes of its tensors do not fit together: {error}") from None
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for name in {**expected, **shapes}:
        if expected.get(name) != shapes.get(name):
            there, here = (tuple(s[name]) if name in s else "missing" for s in (shapes, expected))
            raise ValueError(f"{name} is {there}, and ours is {here}")
    for name in views:
        if name not in taken.names and name.rpartition(".")[2] not in _LEFT_OUT:
            raise ValueError(f"it has the tensor {_short(name)}, which ours has not")
    if 4 * sum(math.prod(shape) for shape in shapes.values()) > 2 * most_bytes:
        raise ValueError("its tensors share their memory")

    # Weights.
    state = mapped({name: views[name].tensor() for name in taken.names}, sizes)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False)


class _Taken(dict[str, Tensor]):
    """Tensors by name. Keeps the names that were read."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.names = set[str]()

    def __getitem__(self, name: str) -> Tensor:
        self.names.add(name)
        return super().__getitem__(name)


def _require_usual_filter(name: str, view: View) -> None:
    """Raises ValueError if a filter differs from [1, 3, 3, 1] in both directions."""
    taps = torch.tensor(_FIR) / sum(_FIR)
    if view.size != (4, 4) or not torch.allclose(view.tensor(), torch.outer(taps, taps)):
        raise ValueError(f"the filter {_short(name)} differs from [1, 3, 3, 1]")


def _short(value: Any) -> str:
    """Returns a value of the file in a few words, for an error."""
    plain = isinstance(value, str | int | float | Exception)
    return pickles.printable(str(value)) if plain else type(value).__name__


def _writers(
    networks: Mapping[str, Generator | Discriminator], run_config: RunConfig, clock: int
) -> checkpoint.Writers:
    """Returns the files of the run's checkpoint, each with its writer."""

    def part(name: str, network: nn.Module) -> Callable[[Path], None]:
        origin = Origin(run_config.name, run_config.groups, {}, name)
        return lambda path: checkpoint.save_part(path, network, origin)

    g, d = stylegan2.GENERATOR, stylegan2.DISCRIMINATOR
    state: Json = {"images_seen": clock, "skipped": 0, "terms": {}}
    return {
        checkpoint.part_file(stylegan2.EMA): part(g, networks["G_ema"]),
        checkpoint.part_file(g): part(g, networks["G"]),
        checkpoint.part_file(d): part(d, networks["D"]),
        checkpoint.STATE: lambda path: checkpoint.save_state(path, state),
    }


@torch.no_grad()
def _largest_feature(generator: nn.Module, discriminator: nn.Module) -> float:
    """Returns the largest feature or colour of pictures of random texts, as the program clamps it."""
    assert isinstance(generator, Generator)
    largest = [0.0]

    # The program clamps the output of a convolution at 256 times its gain, which is less in a residual block.
    def look(module: nn.Module, _: Any, output: Tensor) -> None:
        gain = math.sqrt(0.5) if isinstance(module, DownConv) else 1.0
        largest.append(float(output.abs().max()) / gain)

    kinds = (ModulatedConv, ToRGB, Conv)
    watched: Iterator[nn.Module] = (m for n in (generator, discriminator) for m in n.modules())
    hooks = [module.register_forward_hook(look) for module in watched if isinstance(module, kinds)]
    for start in range(0, _TRIED, _AT_ONCE):
        numbers = range(start, start + _AT_ONCE)
        drawn = latents.draw_latents(generator.sizes, 0, 0, numbers, mixing=0.0)
        texts, _ = latents.draw(0, 1, numbers, generator.sizes.text_dim)
        h = functional.normalize(texts, dim=1)
        discriminator(generator(drawn.z, h, cutoff=drawn.cutoff, noise=drawn.noise))
    for hook in hooks:
        hook.remove()
    return max(largest)
