"""The commands of evaluate: figures of runs and sets, tables and probes.

Those about scenes are in evaluate/scene_commands.py, `experiment` is in evaluate/experiments/command.py."""

import sys
from typing import Annotated, Any

import typer

from evaluate import scene_commands
from evaluate.experiments import command
from evaluate.options import Detector, Draw, Encoder, Run, Seed, drawing, once, show, warn
from synth import console, options
from synth.allocator import keep_memory
from synth.errors import UserError
from synth.options import EMPTY, Device, ImagesSeen
from synth.sets import targets

PROGRAM = "python -m evaluate"

Json = dict[str, Any]

On = Annotated[
    str,
    options.place(
        "--on", "SET", "The reference: a real set's name (its held-out part), a folder or URL of shards."
    ),
]
Captions = Annotated[
    str | None,
    options.place(
        "--captions", "TABLES", "Caption tables of the reference.  [default: those of the set's name]"
    ),
]
Drawn = Annotated[int, options.integer("--n", "Pictures to draw, one for each caption.", least=2)]
Weights = Annotated[
    str | None, options.place("--weights", "FILE", "Inception's weights.  [default: downloaded once]")
]
Metrics = Annotated[str, options.text("--metrics", "LIST", "Also fdinf, cmmd, clip, rprecision, named.")]
Clip = Annotated[
    str | None, options.place("--clip", "NAME", "Encoder of clip and rprecision.  [default: ViT-L-14/openai]")
]
Resamples = Annotated[
    int,
    options.integer(
        "--resamples", "Bootstrap resamples for the 95 % interval of fid; 0: none.", most=1_000_000
    ),
]

app = console.app(
    "Measures runs and sets of pictures.",
    "python -m evaluate metrics runs/emoji --on emoji --detector efficientnet-lite0",
)
app.add_typer(scene_commands.app)
app.command(
    epilog=console.epilog("python -m evaluate experiment worth --out runs/worth --seeds 5 --workers 2")
)(command.experiment)


def main() -> None:
    """Runs `python -m evaluate`."""
    keep_memory(unlimited=True)
    console.run(app, PROGRAM)


@app.command(epilog=console.epilog("python -m evaluate metrics runs/coco --on coco --metrics fid,kid,is"))
def metrics(
    run: Run,
    *,
    on: On,
    captions: Captions = None,
    n: Drawn = 30_000,
    detector: Detector = "inception",
    weights: Weights = None,
    names: Metrics = "fid,kid,is,pr,dc",
    clip: Clip = None,
    seed: Seed = 0,
    resamples: Resamples = 0,
    images_seen: ImagesSeen = None,
    draw: Draw = EMPTY,
    encoder: Encoder = None,
    device: Device = "auto",
) -> None:
    """Measures a run: its pictures of a reference's captions against the reference.

    Appends the figures to the run's metrics.jsonl. Without tables, it encodes the captions itself."""
    from evaluate import measuring

    reference, tables = _reference(run, on, captions, encoder)
    request = measuring.MeasureRequest(
        run=run,
        reference=reference,
        captions=tables,
        n=n,
        detector=detector,
        weights=weights,
        metrics=names,
        clip=clip,
        seed=seed,
        resamples=resamples,
        images_seen=images_seen,
        encoder=encoder,
        device=device,
        drawing=drawing(draw),
    )
    show(console.watched("pictures", measuring.metrics(request), measuring.pictures(request)))


@app.command(
    epilog=console.epilog(
        "python -m evaluate compare data/shards/fractals pictures --metrics kid --detector nano"
    )
)
def compare(
    a: Annotated[str, options.place_argument("A", "A set (name, folder or URL), or a folder of pictures.")],
    b: Annotated[str, options.place_argument("B", "The reference, likewise.")],
    n: Annotated[int | None, options.integer("--n", "Pictures of each.  [default: all]", least=2)] = None,
    detector: Detector = "inception",
    weights: Weights = None,
    names: Annotated[str, options.text("--metrics", "LIST", "Also is, fdinf, cmmd.")] = "fid,kid,pr,dc",
    device: Device = "auto",
) -> None:
    """Measures a folder or set of pictures against another."""
    from evaluate import measuring
    from synth.sets import places

    events = measuring.compare(
        *(places.shards_or_folder(text) for text in (a, b)),
        detector=detector,
        weights=weights,
        names=names,
        n=n,
        device=device,
    )
    show(console.watched("pictures", events, 0))


@app.command(epilog=console.epilog("python -m evaluate statistics data/shards/fractals --n 1000"))
def statistics(
    place: Annotated[
        str, options.place_argument("SET", "A set (name, folder or URL), or a folder of pictures.")
    ],
    n: Annotated[int | None, options.integer("--n", "Pictures.  [default: all]", least=1)] = None,
) -> None:
    """Measures cheap statistics of a set: spectral slope, bits of PNG, edge density, colour entropy."""
    from evaluate import statistics as measuring
    from synth.sets import places

    request = measuring.StatisticsRequest(places.shards_or_folder(place), n)
    show(console.watched("pictures", measuring.statistics(request), 0))


@app.command(
    epilog=console.epilog("python -m evaluate curve runs/emoji --on emoji --metrics kid --detector nano")
)
def curve(
    run: Run,
    *,
    on: On,
    captions: Captions = None,
    n: Drawn = 30_000,
    detector: Detector = "inception",
    weights: Weights = None,
    names: Metrics = "fid,kid,is,pr,dc",
    clip: Clip = None,
    seed: Seed = 0,
    resamples: Resamples = 0,
    draw: Draw = EMPTY,
    encoder: Encoder = None,
    device: Device = "auto",
    out: Annotated[
        str | None,
        options.place(
            "--out", "FILE", "The PNG to write, with a JSON of the same stem.  [default: RUN/curve.png]"
        ),
    ] = None,
) -> None:
    """Measures every checkpoint of a run. Plots the metrics against images seen, with last and best."""
    from evaluate import curves, measuring
    from train.runs import find

    path = targets.file(out or str(find(run).path / "curve.png"), ".png", beside=".json")
    reference, tables = _reference(run, on, captions, encoder)
    request = measuring.MeasureRequest(
        run=run,
        reference=reference,
        captions=tables,
        n=n,
        detector=detector,
        weights=weights,
        metrics=names,
        clip=clip,
        seed=seed,
        resamples=resamples,
        encoder=encoder,
        device=device,
        drawing=drawing(draw),
    )
    rows = console.watched(
        "pictures", measuring.curve(request), measuring.pictures(request, checkpoints=True)
    )
    warn(rows)
    for row in curves.write(path, {run: rows}):
        console.show(row)


@app.command(
    epilog=console.epilog("python -m evaluate agreement runs/tiny --on fractals --on visual_atoms --n 400")
)
def agreement(
    run: Run,
    *,
    on: Annotated[
        list[str],
        options.place("--on", "SET", "Formula sets: names, folders or URLs of at least two families."),
    ],
    n: Annotated[
        int, options.integer("--n", "Pictures of each set: half to fit the judge, half as prompts.", least=2)
    ] = 500,
    detector: Annotated[
        str, options.place("--detector", "NAME", "Detector of the features that tell families apart.")
    ] = "efficientnet-lite0",
    weights: Weights = None,
    seed: Annotated[int, options.integer("--seed", "Seed of the halves and the latents.")] = 0,
    draw: Draw = EMPTY,
    encoder: Annotated[
        str | None, options.place("--encoder", "PATH", "The run's encoder, if it has moved.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Measures attribute agreement: how often a run's pictures have the attributes in their prompts."""
    from evaluate import agreement as judging
    from synth.sets import places

    events = judging.agreement(
        run,
        once("--on", [places.training_set(name) for name in on]),
        n=n,
        detector=detector,
        weights=weights,
        seed=seed,
        encoder=encoder,
        device=device,
        options=drawing(draw),
    )
    show(console.watched("pictures", events, 0))


@app.command(epilog=console.epilog("python -m evaluate loss runs/flat --on held_out_scenes --draw text=both"))
def loss(
    run: Run,
    *,
    on: Annotated[
        list[str],
        options.place("--on", "SET", "A held-out set: name, folder or URL of shards; may be repeated."),
    ],
    n: Annotated[int, options.integer("--n", "Pictures of each set to noise.", least=8)] = 512,
    skip: Annotated[
        int, options.integer("--skip", "Pictures of each set that training read, to leave out first.")
    ] = 0,
    text: Annotated[
        str, options.text("--text", "KIND", "Texts: short, long, or plain ones that name every object.")
    ] = "long",
    seed: Annotated[int, options.integer("--seed", "Seed of the noise.")] = 0,
    images_seen: ImagesSeen = None,
    curve: Annotated[
        bool, options.flag("--curve", "Measure every checkpoint, with right texts alone.")
    ] = False,
    draw: Draw = EMPTY,
    encoder: Encoder = None,
    device: Device = "auto",
) -> None:
    """Measures the held-out loss of a denoiser, with right texts and with texts changed round.

    The weighting is EDM's for every formulation. The row goes to the run's metrics.jsonl."""
    from evaluate import loss as measuring
    from synth.sets import places

    if text not in measuring.TEXTS:
        raise UserError(f"--text is {text!r}; it must be {', '.join(measuring.TEXTS)}")
    if curve and images_seen is not None:
        raise UserError("--curve measures every checkpoint, so --images-seen has no use; leave one out")
    request = measuring.LossRequest(
        run=run,
        references=tuple(once("--on", [places.held_out_set(place) for place in on])),
        n=n,
        skip=skip,
        text=text,
        seed=seed,
        images_seen=images_seen,
        curve=curve,
        encoder=encoder,
        device=device,
        drawing=drawing(draw),
    )
    show(console.watched("pictures", measuring.loss(request), 0))


@app.command(
    epilog=console.epilog("python -m evaluate table 1 runs/scratch runs/visual_atoms --out table1.md")
)
def table(
    number: Annotated[
        int,
        typer.Argument(metavar="NUMBER", parser=options.whole, help="1 sets, 2 without colour, 3 contours."),
    ],
    runs: Annotated[list[str], options.place_argument("RUN", "Measured runs.")] = EMPTY,
    out: Annotated[
        str, options.place("--out", "FILE", "The Markdown to write, and an HTML page with grids beside it.")
    ] = "table.md",
) -> None:
    """Prints one of the paper's tables 1 to 3 with the figures of runs."""
    if not 1 <= number <= 3:
        raise UserError(f"there is no table {number}; the paper's tables are 1, 2 and 3")
    from evaluate import tables
    from train.runs import find

    path = targets.file(out, ".md", beside=".html")
    rows = [tables.row_of(find(run)) for run in runs]
    page = tables.write(path, number, rows)
    if sys.stdout.isatty():
        print(tables.markdown(number, rows), end="")
    else:
        for row in tables.arms(number, rows):
            console.show(row)
    console.note(f"written: {path} and {page}")


@app.command(epilog=console.epilog("python -m evaluate grid runs/emoji --on emoji --n 16 --out grid.png"))
def grid(
    run: Run,
    *,
    on: On,
    n: Annotated[
        int, options.integer("--n", "Pictures of the set, from all over it.", least=1, most=1024)
    ] = 16,
    out: Annotated[str, options.place("--out", "FILE", "The PNG to write.")] = "grid.png",
    seed: Seed = 0,
    images_seen: ImagesSeen = None,
    draw: Draw = EMPTY,
    encoder: Encoder = None,
    device: Device = "auto",
) -> None:
    """Draws captions of a set: each of its pictures beside the run's of the same caption."""
    from caption import encoders
    from evaluate import prompts
    from synth.sets import places
    from train.sampling import grid as sheets

    path = targets.file(out, ".png")
    request = prompts.GridRequest(
        run=run,
        reference=places.held_out_set(on),
        n=n,
        seed=seed,
        images_seen=images_seen,
        encoder=encoder,
        device=encoders.choose_device(device),
        drawing=drawing(draw),
    )
    sheets.save(path, console.watched("pictures", prompts.pairs(request)))
    console.show({"out": out, "pictures": n})


@app.command(
    epilog=console.epilog("python -m evaluate reconstruction runs/autoencoder-64 --on emoji --detector nano")
)
def reconstruction(
    autoencoder: Annotated[
        str, options.place_argument("AUTOENCODER", "A RUN of autoencoder, or a folder of diffusers.")
    ],
    *,
    on: Annotated[str, options.place("--on", "SET", "Held-out pictures: name, folder or URL of shards.")],
    n: Annotated[int, options.integer("--n", "Pictures to reconstruct.", least=2)] = 1000,
    skip: Annotated[
        int, options.integer("--skip", "Pictures of the set that training read, to leave out first.")
    ] = 0,
    detector: Detector = "inception",
    weights: Weights = None,
    device: Device = "auto",
    out: Annotated[
        str | None,
        options.place("--out", "FILE", "A PNG to write: 16 pictures, each beside its reconstruction."),
    ] = None,
) -> None:
    """Measures how well an autoencoder reconstructs pictures: PSNR and rFID.

    The rows go to the run's metrics.jsonl."""
    from evaluate import reconstruction as measuring
    from synth.sets import places
    from train.sampling import grid as sheets

    path = targets.file(out, ".png") if out else None
    request = measuring.ReconstructionRequest(
        autoencoder, places.held_out_set(on), n, skip, detector, weights, device
    )
    rows, sheet = console.watched("pictures", measuring.reconstruction(request), 0)
    show(rows)
    if path:
        sheets.save(path, sheet)
        console.note(f"written: {path}")


@app.command(epilog=console.epilog("python -m evaluate probe runs/simclr --train cifar10 --test cifar10"))
def probe(
    run: Run,
    *,
    train: Annotated[
        str, options.place("--train", "SET", "The training pictures: a set's name, or a folder of shards.")
    ],
    test: Annotated[
        str | None,
        options.place("--test", "SET", "The test pictures.  [default: the last fifth of --train]"),
    ] = None,
    label: Annotated[
        str, options.text("--label", "NAME", "class, caption, or an entry of the JSON of both sets.")
    ] = "class",
    names: Annotated[
        str, options.text("--probes", "LIST", "Of ridge, sgd, few (few-shot), knn and zero.")
    ] = "ridge,sgd,few,knn,zero",
    baselines: Annotated[
        str, options.text("--baselines", "LIST", "random, pixels, and detectors; or none.")
    ] = "random,pixels,nano,efficientnet-lite0",
    n: Annotated[int | None, options.integer("--n", "Pictures of --train.  [default: all]", least=10)] = None,
    epochs: Annotated[int, options.integer("--epochs", "Epochs of sgd; the paper has 90.", least=1)] = 10,
    seed: Annotated[int, options.integer("--seed", "Seed of sgd and few-shot draws.")] = 0,
    device: Device = "auto",
) -> None:
    """Measures the features of a run by classifiers on top, beside baselines.

    The rows go to the run's metrics.jsonl."""
    from evaluate.probes import command as probing
    from synth.sets import places

    request = probing.ProbeRequest(
        run=run,
        train=places.training_set(train),
        test=places.held_out_set(test) if test else None,
        label=label,
        probes=names,
        baselines=baselines,
        n=n,
        epochs=epochs,
        seed=seed,
        device=device,
    )
    show(console.watched("pictures", probing.probe(request), probing.pictures(request)))


def _reference(run: str, on: str, captions: str | None, encoder: str | None) -> tuple[str, str | None]:
    """Returns the reference's shards and caption tables.

    Without --captions and --encoder, the tables of a real set's name are those of the run's encoder."""
    from evaluate import measuring
    from synth.sets import places

    reference = places.held_out_set(on)
    if captions is None and encoder is None and places.is_real(on):
        captions = measuring.usual_tables(run, reference)
    return reference, captions
