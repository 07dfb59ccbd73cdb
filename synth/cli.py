"""The commands of synth: shards, preview, inspect, verify, classes, vet, doctor, datasets."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from synth import console, options
from synth.errors import UserError
from synth.options import (
    EMPTY,
    Codec,
    DryRun,
    Overwrite,
    Pictures,
    RayAddress,
    Seed,
    Settings,
    ShardSize,
    Size,
    Workers,
)
from synth.sets import targets

PROGRAM = "python -m synth"
USUAL = ["visual_atoms"]  # data sets of a command that names none

Dataset = Annotated[str, typer.Argument(metavar="NAME", help="A data set; `datasets` lists them.")]
Datasets = Annotated[list[str], typer.Argument(metavar="NAME", help="Data sets; `datasets` lists them.")]
Renderer = Annotated[
    str, options.text("--device", "NAME", "Renderer of shaders: software, gpu or gpu:NUMBER.")
]

app = console.app(
    "Draws pictures by formulas and renders them into WebDataset shards.",
    "python -m synth shards visual_atoms --n 2000",
)


def main() -> None:
    """Runs `python -m synth`."""
    console.run(app, PROGRAM)


@app.command(
    epilog=console.epilog(
        "python -m synth shards visual_atoms --n 1000000 --out s3://bucket/atoms --workers 64"
    )
)
def shards(
    names: Datasets = USUAL,
    n: Pictures = 10_000,
    out: Annotated[
        list[str],
        options.place("--out", "PLACE", "A folder or URL, once for each NAME.  [default: data/shards/NAME]"),
    ] = EMPTY,
    size: Size = 256,
    seed: Seed = 0,
    workers: Workers = None,
    shard_size: ShardSize = 4096,
    codec: Codec = "png",
    settings: Settings = EMPTY,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    device: Renderer = "software",
    ray_address: RayAddress = None,
) -> None:
    """Makes sets of shards, or their missing parts.

    The command is idempotent and resumable: a finished set is left alone. With a larger --n, it grows.

    It vets shader programs before it draws them. With --dry-run, it vets them too, but keeps no result."""
    from synth import pipeline
    from synth.sets import places

    address = options.cluster(ray_address, workers)
    requests = [
        pipeline.RenderRequest(
            dataset=name,
            samples=n,
            out=places.shards(name) if place is None else place,
            size=size,
            seed=seed,
            workers=workers,
            shard_size=shard_size,
            codec=codec,
            settings=tuple(settings),
            overwrite=overwrite,
            ray_address=address,
            device=device,
        )
        for name, place in options.pair(names, out, "data sets")
    ]
    for request in requests:  # all are checked before the first is made
        pipeline.check(request)
        pipeline.require_place(request)
    for request in requests:
        if dry_run:
            console.show({"out": request.out, **pipeline.estimate(request)._asdict()})
            continue
        summary = console.watched("pictures", pipeline.make_shards(request))
        if not summary.pictures:
            console.note(f"{request.out} is finished: nothing to do")
        console.show({"out": request.out, **summary.row()})


@app.command(epilog=console.epilog("python -m synth preview visual_atoms --n 64 --out grid.png"))
def preview(
    names: Datasets,
    n: Annotated[
        int, options.integer("--n", "Pictures of each data set, 1 to 1024.", least=1, most=1024)
    ] = 64,
    out: Annotated[str, options.place("--out", "FILE", "The PNG to write.")] = "preview.png",
    size: Size = 256,
    seed: Seed = 0,
    settings: Settings = EMPTY,
    device: Renderer = "software",
) -> None:
    """Draws the first pictures of a data set side by side, or one row for each of several data sets."""
    from synth import pipeline
    from synth.images import codecs
    from synth.images.pictures import contact_sheet
    from synth.sets.storage import Folder

    target = targets.file(out, ".png")
    requests = [
        pipeline.RenderRequest(name, n, out, size=size, seed=seed, settings=tuple(settings), device=device)
        for name in names
    ]
    for request in requests:
        pipeline.check(request)
    recipes = [pipeline.recipe_of(request) for request in requests]
    pictures = (codecs.rgb(recipe.render(i)[1].pixels) for recipe in recipes for i in range(n))
    sheet = contact_sheet(pictures, columns=n if len(recipes) > 1 else max(1, round(n**0.5)))
    Folder(str(target.parent)).write(target.name, codecs.encode_png(sheet))
    console.show({"out": out, "pictures": n * len(recipes)})


@app.command(epilog=console.epilog("python -m synth inspect data/shards/visual_atoms 000000123"))
def inspect(
    path: Annotated[
        str, options.place_argument("PATH", "A set of shards: name, folder or URL; or one of its tars.")
    ],
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="A sample of it.")] = None,
) -> None:
    """Shows the content of a set or a tar, or the JSON of one sample."""
    from synth import verify
    from synth.sets import places

    if not path.endswith(".tar") and not Path(path).exists():
        path = places.training_set(path)
    if key is None:
        console.show(verify.about_path(path))
    else:
        print(json.dumps(verify.about_sample(path, key), indent=1 if os.isatty(1) else None))


@app.command(epilog=console.epilog("python -m synth verify visual_atoms --redraw 64"))
def verify(
    sets: Annotated[list[str], options.place_argument("SET", "Finished sets: names, folders or URLs.")],
    redraw: Annotated[int, options.integer("--redraw", "Pictures to draw again, spread over each set.")] = 16,
) -> None:
    """Compares every tar of a finished set with its checksum, and some pictures with new drawings of them."""
    from synth import verify as checks
    from synth.sets import places
    from synth.sets.shards import ShardSet

    damages: list[str] = []
    for place in (place for text in sets for place in places.sets(text)):
        shard_set = ShardSet(place)
        redrawn = min(redraw, checks.redrawable(shard_set))
        sentences = []
        with console.Bar("shards") as bar:
            bar.start(len(shard_set.shards))
            for _, sentence in checks.damages(shard_set, redrawn):
                bar.advance(1)
                sentences += [sentence] if sentence else []
        if not sentences:
            row = {"out": place, "pictures": len(shard_set), "shards": len(shard_set.shards)}
            console.show({**row, "redrawn": redrawn, "digest": shard_set.digest})
        damages += sentences

    # The last sentence is the command's error, the others come before it.
    for sentence in damages[:-1]:
        console.note(f"error: {sentence}")
    if damages:
        raise UserError(damages[-1])


@app.command(epilog=console.epilog("python -m synth classes fractals --out data/classes/fractals"))
def classes(
    name: Dataset,
    out: Annotated[
        str,
        options.place("--out", "DIR", "The folder to write: one CSV for each class, a,b,c,d,e,f,p a map."),
    ],
    seed: Seed = 0,
    settings: Settings = EMPTY,
) -> None:
    """Writes the iterated function systems of a data set's classes as CSV files.

    `--set table=DIR` on the other commands reads such a folder, of exnihilo or of FractalDB, instead of
    drawing classes at random."""
    from synth import class_tables, datasets, pipeline

    folder, dataset = targets.folder(out), datasets.get(name)
    config = pipeline.check(pipeline.RenderRequest(name, 1, out, seed=seed, settings=tuple(settings)))
    if not hasattr(config, "table"):
        raise UserError(
            f"the classes of {name} are not iterated function systems; those of fractals and fractaldb are"
        )
    systems = (
        datasets.sample_class(dataset, config, seed=seed, number=number) for number in range(config.classes)
    )
    console.show({"out": out, "classes": class_tables.write(folder, systems)})


@app.command(epilog=console.epilog("python -m synth vet shaders --out data/shaders"))
def vet(
    name: Dataset,
    out: Annotated[str, options.place("--out", "DIR", "The folder of programs.json.")],
    settings: Settings = EMPTY,
    device: Renderer = "software",
) -> None:
    """Tries the programs of a data set. Accepts those that compile, end, are quick enough and show something.

    `shards` does this itself if neither exnihilo nor the target has the result, programs.json."""
    from synth import datasets
    from synth.glsl import gl
    from synth.sets.storage import Folder
    from synth.settings import with_settings
    from synth.vetting import programs

    if (targets.folder(out) / programs.NAME).is_dir():
        raise UserError(f"--out is {out}, which has a folder {programs.NAME}; give another folder")
    gl.choose(device)
    dataset = datasets.get(name)
    if not hasattr(dataset.module, "vet"):
        raise UserError(f"{name} is not drawn by programs; shaders and shaders21k are")
    vetted = dataset.module.vet(with_settings(dataset.module.Config(**dataset.config), settings), device)
    Folder(out).write(programs.NAME, vetted.data)
    content = vetted.content
    row = {"out": out, "accepted": len(content["programs"]), "left_out": len(content["left_out"])}
    console.show({**row, "renderer": content["renderer"], "sha256": vetted.sha256})


@app.command(epilog=console.epilog("python -m synth doctor --device gpu"))
def doctor(
    device: Renderer = "software",
    install: Annotated[
        list[str],
        options.text(
            "--install", "WHAT", "Install the system packages of shaders or emoji; may be repeated."
        ),
    ] = EMPTY,
) -> None:
    """Shows the renderer of shaders on this machine and its speed, or names the packages to install.

    With --install, installs missing packages by apt-get if this is Debian and you are root."""
    from synth import system_packages
    from synth.glsl import checkup

    for name in install:
        if sentence := system_packages.install(name):
            console.note(sentence)
    if not install:
        console.show(checkup.examine(device))


@app.command("datasets", epilog=console.epilog("python -m synth datasets"))
def list_datasets() -> None:
    """Lists the known data sets."""
    from synth.datasets import DATASETS

    for dataset in DATASETS.values():
        classes = dataset.module.Config(**dataset.config).classes
        row = {"name": dataset.name, "family": dataset.family, "classes": classes, "title": dataset.title}
        console.show(row)
