"""The commands of synth: shards, preview, inspect, verify, classes, vet, doctor, datasets."""

import json
import os
from pathlib import Path

import click

from synth import console
from synth.errors import UserError

SETTING = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the family; may be repeated.",
)
SIZE = click.option("--size", default=256, show_default=True, help="Pixels a side, 1 to 4096.")
DEVICE = click.option(
    "--device",
    default="software",
    show_default=True,
    help="The renderer of shaders: software, gpu or gpu:NUMBER.",
)
SEED = click.option("--seed", default=0, show_default=True, help="The seed of all randomness.")


def main() -> None:
    """Runs `python -m synth`."""
    console.run(commands, "python -m synth")


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


@click.group(epilog=_example("python -m synth shards visual_atoms --n 2000 --out data/shards/visual_atoms"))
def commands() -> None:
    """Draws pictures by formulas and renders them into WebDataset shards."""


@commands.command(
    epilog=_example("python -m synth shards visual_atoms --n 1000000 --out s3://bucket/atoms --workers 64")
)
@click.argument("dataset")
@click.option("--n", "samples", type=int, required=True, help="Pictures in the finished set.")
@click.option("--out", required=True, help="A folder, or a URL such as s3://bucket/prefix.")
@SIZE
@SEED
@click.option(
    "--workers",
    type=int,
    help="Ray tasks at once; 0: this process, no Ray. Default: a core each, if the shards allow.",
)
@click.option("--shard-size", default=4096, show_default=True, help="Pictures in a tar.")
@click.option("--codec", default="png", show_default=True, help="png, webp (lossless) or jpeg (quality 95).")
@SETTING
@click.option("--overwrite", is_flag=True, help="Replace another set at the target.")
@click.option("--dry-run", is_flag=True, help="Show the estimate and write nothing.")
@DEVICE
@click.option("--ray-address", envvar="RAY_ADDRESS", help="A Ray cluster to work on (or RAY_ADDRESS).")
def shards(dry_run: bool, **options: object) -> None:
    """Makes a set of shards, or its missing parts.

    The same command resumes after an interruption. On a finished set it does nothing. With a larger --n the
    set grows."""
    from synth import pipeline

    request = pipeline.RenderRequest(**options)  # type: ignore[arg-type]
    if dry_run:
        console.show(pipeline.estimate(request)._asdict())
        return
    summary = console.watched("pictures", pipeline.make_shards(request))
    if not summary.pictures:
        console.note(f"{request.out} is finished: nothing to do")
    console.show({"out": request.out, **summary.row()})


@commands.command(epilog=_example("python -m synth preview visual_atoms --n 64 --out grid.png"))
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@click.option("--n", "samples", default=64, show_default=True, help="Pictures of each data set, 1 to 1024.")
@click.option("--out", required=True, help="The PNG to write.")
@SIZE
@SEED
@SETTING
def preview(
    datasets: tuple[str, ...], samples: int, out: str, size: int, seed: int, settings: tuple[str, ...]
) -> None:
    """Draws the first pictures of a data set side by side, or one row for each of several data sets."""
    from synth import pipeline
    from synth.images import codecs
    from synth.images.pictures import contact_sheet
    from synth.sets.storage import Folder

    if not 1 <= samples <= 1024:
        raise UserError(f"--n is {samples}; a sheet holds 1 to 1024 pictures")
    if not out.endswith(".png") or "://" in out:
        raise UserError(f"--out is {out}; give the name of a .png file on this machine")
    requests = [
        pipeline.RenderRequest(name, samples, out, size=size, seed=seed, settings=settings)
        for name in datasets
    ]
    recipes = [pipeline.recipe_of(request) for request in requests]
    pictures = (codecs.rgb(recipe.render(i)[1].pixels) for recipe in recipes for i in range(samples))
    sheet = contact_sheet(pictures, columns=samples if len(recipes) > 1 else max(1, round(samples**0.5)))
    target = Path(out)
    Folder(str(target.parent)).write(target.name, codecs.encode_png(sheet))
    console.show({"out": out, "pictures": samples * len(recipes)})


@commands.command(epilog=_example("python -m synth inspect data/shards/visual_atoms 000000123"))
@click.argument("path")
@click.argument("key", required=False)
def inspect(path: str, key: str | None) -> None:
    """Shows the content of a set or a tar, or the JSON of one sample."""
    from synth import verify

    if key is None:
        console.show(verify.about_path(path))
    else:
        print(json.dumps(verify.about_sample(path, key), indent=1 if os.isatty(1) else None))


@commands.command(epilog=_example("python -m synth verify data/shards/visual_atoms"))
@click.argument("path")
@click.option(
    "--redraw",
    default=16,
    show_default=True,
    help="Pictures, spread over the set, to draw again and compare.",
)
def verify(path: str, redraw: int) -> None:
    """Compares every tar of a finished set with its checksum, and some pictures with new drawings of them."""
    if redraw < 0:
        raise UserError(f"--redraw is {redraw}; it must be at least 0")
    from synth import verify as checks
    from synth.sets.shards import ShardSet

    shard_set = ShardSet(path)
    redraw = min(redraw, checks.redrawable(shard_set))
    damaged = []
    with console.Bar("shards") as bar:
        bar.start(len(shard_set.shards))
        for _, sentence in checks.damages(shard_set, redraw):
            bar.advance(1)
            damaged += [sentence] if sentence else []
    for sentence in damaged[:-1]:
        console.note(f"error: {sentence}")
    if damaged:
        raise UserError(damaged[-1])
    row = {"out": path, "pictures": len(shard_set), "shards": len(shard_set.shards), "redrawn": redraw}
    console.show({**row, "digest": shard_set.digest})


@commands.command(epilog=_example("python -m synth classes fractals --out data/classes/fractals"))
@click.argument("dataset")
@click.option(
    "--out", required=True, help="The folder to write, one CSV file a class with a row a,b,c,d,e,f,p a map."
)
@SEED
@SETTING
def classes(dataset: str, out: str, seed: int, settings: tuple[str, ...]) -> None:
    """Writes the iterated function systems of a data set's classes as CSV files.

    --set table=DIR on the other commands reads such a folder, of exnihilo or of FractalDB, instead of drawing
    classes at random."""
    from synth import class_tables, pipeline
    from synth.datasets import sample_class

    recipe = pipeline.recipe_of(pipeline.RenderRequest(dataset, 1, out, seed=seed, settings=settings))
    if not hasattr(recipe.config, "table"):
        raise UserError(
            f"the classes of {dataset} are not iterated function systems; those of fractals and fractaldb are"
        )
    systems = (
        sample_class(recipe.dataset, recipe.config, seed=seed, number=i) for i in range(recipe.config.classes)
    )
    console.show({"out": out, "classes": class_tables.write(Path(out), systems)})


@commands.command(epilog=_example("python -m synth vet shaders --out data/shaders"))
@click.argument("dataset")
@click.option("--out", required=True, help="The folder to write programs.json to.")
@SETTING
@DEVICE
def vet(dataset: str, out: str, settings: tuple[str, ...], device: str) -> None:
    """Tries the programs of a data set and accepts those that compile, end, are quick enough and show
    something.

    `shards` does this itself if neither exnihilo nor the target has the result, programs.json."""
    from synth import datasets
    from synth.sets.storage import Folder
    from synth.settings import with_settings
    from synth.vetting import programs

    chosen = datasets.get(dataset)
    if not hasattr(chosen.module, "vet"):
        raise UserError(f"{dataset} is not drawn by programs; shaders and shaders21k are")
    vetted = chosen.module.vet(with_settings(chosen.module.Config(**chosen.config), settings), device)
    Folder(out).write(programs.NAME, vetted.data)
    content = vetted.content
    row = {
        "out": out,
        "accepted": len(content["programs"]),
        "left_out": len(content["left_out"]),
        "renderer": content["renderer"],
    }
    console.show({**row, "sha256": vetted.sha256})


@commands.command(epilog=_example("python -m synth doctor --device gpu"))
@DEVICE
def doctor(device: str) -> None:
    """Shows the renderer of shaders on this machine and its speed, or names the packages to install."""
    from synth.glsl import checkup

    console.show(checkup.examine(device))


@commands.command(epilog=_example("python -m synth datasets"))
def datasets() -> None:
    """Lists the known data sets."""
    from synth.datasets import DATASETS

    for dataset in DATASETS.values():
        classes = dataset.module.Config(**dataset.config).classes
        console.show(
            {"name": dataset.name, "family": dataset.family, "classes": classes, "title": dataset.title}
        )
