"""The commands of train: pretrain, finetune, latents, sample, synthesise, prove, export, import, presets.

Those that read and change drawing are in train/sampling/commands.py."""

import contextlib
import os
import sys
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from synth import console, options
from synth.allocator import keep_memory
from synth.errors import UserError
from synth.options import EMPTY, Device, ImagesSeen, Overwrite
from synth.sets import targets
from train.sampling import commands
from train.sampling.commands import Run, Words, split

if TYPE_CHECKING:
    from train import prove as prove_events
    from train import runs
    from train.start.request import TrainRequest

PROGRAM = "python -m train"
USUAL = ["visual_atoms"]  # sets of a command that names none

On = Annotated[
    list[str],
    options.place(
        "--on", "SET", "A finished set: name, folder or URL; may be repeated, and all are read as one."
    ),
]
Live = Annotated[
    list[str],
    options.text("--live", "NAME", "A data set to draw while training, without shards; may be repeated."),
]
Captions = Annotated[
    list[str],
    options.place(
        "--captions", "TABLES", "Caption tables, once for each set.  [default: those in data/captions]"
    ),
]
Latents = Annotated[
    list[str],
    options.place("--latents", "TABLES", "Latents, once for each set.  [default: those in data/latents]"),
]
Images = Annotated[
    int | None, options.integer("--images", "Length of the run in images.  [default: the preset's]", least=1)
]
Precision = Annotated[str, options.text("--precision", "NAME", "auto, fp32 or bf16.")]
Text = Annotated[
    str | None,
    options.text("--text", "KIND", "Texts: pseudo, stored, caption, synthetic, mix:SHARE or blend:SHARE."),
]
Encoder = Annotated[
    str | None,
    options.place(
        "--encoder", "NAME", "Encoder of the captions, if there are several, or its path if it has moved."
    ),
]
Moved = Annotated[str | None, options.place("--encoder", "PATH", "The captions' encoder, if it has moved.")]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="GROUP.KEY=VALUE", parser=options.setting, help="Change a setting; may be repeated."
    ),
]
DryRun = Annotated[bool, options.flag("--dry-run", "Print the config and the cost, and write nothing.")]

# Options of `sample`.
Prompts = Annotated[list[str], typer.Argument(metavar="TEXT", help="Prompts.")]
PerText = Annotated[
    int | None,
    options.integer(
        "--n", "Pictures of each text, 1 to 1024.  [default: 16; with --picture-text, 1]", least=1, most=1024
    ),
]
GridFile = Annotated[str, options.place("--out", "FILE", "The PNG to write.")]
LatentSeed = Annotated[int | None, options.integer("--seed", "Seed of the latents.  [default: 0]")]
Picture = Annotated[
    str | None, options.place("--picture", "FILE", "A picture to draw around, or a small one to enlarge.")
]
Mask = Annotated[
    str | None,
    options.place("--mask", "FILE", "Draw the white parts of this mask, and keep the rest of --picture."),
]
PictureText = Annotated[
    str | None,
    options.text("--picture-text", "TEXT", "The text of --picture: draw from its noise under this text."),
]
Upsample = Annotated[bool, options.flag("--upsample", "Fill in what the prompts leave open.")]
EndpointUrl = Annotated[
    str | None, options.text("--url", "URL", "An OpenAI-compatible endpoint that up-samples the prompts.")
]
EndpointModel = Annotated[str | None, options.text("--model", "NAME", "The endpoint's model.")]

app = console.app(
    "Trains models on shards and caption tables, and draws from them.",
    "python -m train pretrain tiny-32 --on fractals",
)
app.add_typer(commands.app)


def main() -> None:
    """Runs `python -m train`, and each process of torchrun.

    A process of torchrun does not destroy its process group, because gloo's threads sometimes abort it
    then."""
    keep_memory(unlimited=True)
    if "WORLD_SIZE" not in os.environ:
        console.run(app, PROGRAM)
    try:
        console.run(app, PROGRAM, refuse=_refuse_once)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    _end_at_once(code)


@app.command(
    epilog=console.epilog(
        "torchrun --nproc-per-node 8 -m train pretrain paper-256 --on fractals --out runs/paper"
    )
)
def pretrain(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="`presets` lists them.")] = "paper-256",
    on: On = EMPTY,
    live: Live = EMPTY,
    captions: Captions = EMPTY,
    latents: Latents = EMPTY,
    out: Annotated[str | None, options.place("--out", "DIR", "The run.  [default: runs/SET-PRESET]")] = None,
    images: Images = None,
    precision: Precision = "auto",
    text: Text = None,
    encoder: Encoder = None,
    device: Device = "auto",
    settings: Settings = EMPTY,
    dry_run: DryRun = False,
) -> None:
    """Trains a preset on sets of shards and their captions, or resumes the run in --out.

    Without --on and --live it takes the shards of visual_atoms. Settings of one set are --set
    live.NAME.KEY=VALUE and --set on.NAME.share=SHARE."""
    from synth.sets import places
    from train.start.request import TrainRequest

    on = on or ([] if live else USUAL)
    request = TrainRequest(
        preset=preset,
        shards=tuple(places.training_set(name) for name in on),
        captions=tuple(captions),
        latents=tuple(latents),
        out=out or f"runs/{_names([*live, *on])}-{preset}",
        images=images,
        precision=precision,
        text=text,
        encoder=encoder,
        device=device,
        settings=tuple(settings),
        live=tuple(live),
    )
    _train(request, dry_run)


@app.command(epilog=console.epilog("python -m train finetune --on emoji --from runs/visual_atoms-tiny-32"))
def finetune(
    preset: Annotated[
        str | None,
        typer.Argument(metavar="PRESET", help="`presets` lists them.  [default: the set's usual one]"),
    ] = None,
    *,
    on: On = EMPTY,
    live: Live = EMPTY,
    source: Annotated[
        str,
        options.place(
            "--from", "RUN", "The run with the first weights, of its newest checkpoint; none: new ones."
        ),
    ],
    fraction: Annotated[
        float | None,
        options.number(
            "--fraction",
            "Share of the set to train on, chosen by the seed.  [default: the set's usual, or the preset's]",
            most=1,
            above=True,
        ),
    ] = None,
    captions: Captions = EMPTY,
    latents: Latents = EMPTY,
    out: Annotated[
        str | None, options.place("--out", "DIR", "The run.  [default: runs/SET-PRESET-from-RUN]")
    ] = None,
    images: Images = None,
    precision: Precision = "auto",
    text: Text = None,
    encoder: Encoder = None,
    device: Device = "auto",
    settings: Settings = EMPTY,
    dry_run: DryRun = False,
) -> None:
    """Trains a preset from another run's weights, with new optimisers.

    The paper's sets (coco, cub, celeba_hq) have its presets and a tenth of their pictures as defaults."""
    from synth.sets import places
    from train import presets
    from train.start.request import TrainRequest

    if not on and not live:
        raise UserError("finetune needs a set; give --on SET, or --live NAME")
    origin, names = "scratch" if source == "none" else places.name_of(source), _names([*live, *on])
    preset = preset or presets.usual(on, live).preset
    if fraction is None and not any(setting.startswith("data.fraction=") for setting in settings):
        fraction = presets.usual_fraction(on, live)
    request = TrainRequest(
        preset=preset,
        shards=tuple(places.training_set(name) for name in on),
        captions=tuple(captions),
        latents=tuple(latents),
        out=out or f"runs/{names}-{preset}-from-{origin}",
        images=images,
        precision=precision,
        text=text,
        encoder=encoder,
        device=device,
        settings=tuple(settings),
        source=None if source == "none" else source,
        fraction=fraction,
        live=tuple(live),
    )
    _train(request, dry_run)


@app.command(
    epilog=console.epilog("python -m train latents scenes fractals --autoencoder runs/scenes-autoencoder-64")
)
def latents(
    sets: Annotated[list[str], options.place_argument("SET", "Finished sets: names, folders or URLs.")],
    autoencoder: Annotated[
        str, options.place("--autoencoder", "RUN", "An autoencoder's run, or a folder of diffusers.")
    ],
    out: Annotated[
        list[str],
        options.place("--out", "PLACE", "Once for each set.  [default: data/latents/DATASET/AUTOENCODER]"),
    ] = EMPTY,
    workers: Annotated[
        int | None, options.integer("--workers", "Ray tasks at once; 0: no Ray.", least=0)
    ] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Writes the latents of finished sets by an autoencoder, or the missing ones.

    The command is idempotent and resumable: finished tables are left alone."""
    from synth.sets import places
    from train.stream import latents as encoding

    shards = [place for name in sets for place in places.sets(name)]
    for place, target in options.pair(shards, out, "sets of shards"):
        request = encoding.LatentRequest(place, autoencoder, target, workers, device, overwrite)
        if dry_run:
            console.show({"shards": place, **encoding.estimate(request)._asdict()})
            continue
        summary = console.watched("pictures", encoding.make_latents(request))
        console.show(summary._asdict())


@app.command(
    context_settings={"ignore_unknown_options": True},
    epilog=console.epilog(
        'python -m train sample runs/tiny "a red fractal on a blue background" --truncation 0.7 --n 16'
    ),
)
def sample(
    run: Run,
    texts: Prompts,
    n: PerText = None,
    out: GridFile = "grid.png",
    seed: LatentSeed = None,
    images_seen: ImagesSeen = None,
    picture: Picture = None,
    mask: Mask = None,
    picture_text: PictureText = None,
    word: Words = EMPTY,
    upsample: Upsample = False,
    url: EndpointUrl = None,
    model: EndpointModel = None,
    encoder: Moved = None,
    device: Device = "auto",
) -> None:
    """Draws pictures of texts.

    Drawing options of the run's model follow RUN. Those of diffusion are --steps, --guidance, --text,
    --sampler, --least-guided, --most-guided, --weak and --base, that of stylegan2 is --truncation."""
    # Options.
    prompts, drawing_options = split(run, texts)
    if picture is None and (mask or picture_text is not None):
        raise UserError("--mask and --picture-text are parts of a picture; give --picture FILE too")
    if picture_text is not None:
        _require_one_noise(n, None if upsample and not url else seed)
    n, seed = n or (16 if picture_text is None else 1), seed or 0
    target = targets.file(out, ".png")

    # Prompts.
    from caption import encoders
    from train import runs
    from train.sampling import draw, given, grid, unread

    source = runs.find(run)
    if upsample:
        prompts = _upsampled(prompts, source, seed, url, model)
    elif url or model:
        raise UserError("--url and --model name who up-samples; give --upsample too, or leave them out")
    described = [] if picture_text is None else [picture_text]
    for note in unread.notes(source, [*prompts, *described], drawing_options, word):
        console.note(note)
    if encoder and "vectors" not in draw.reads(source.model, drawing_options):
        raise UserError(f"--encoder is {encoder}, and the pictures of {run} follow words; leave it out")

    # Pictures.
    pictures = draw.sample(
        source,
        prompts,
        n=n,
        seed=seed,
        images_seen=images_seen,
        encoder=encoder,
        options=drawing_options,
        given=given.Given(picture, mask, picture_text) if picture else None,
        words=word,
        device=encoders.choose_device(device),
    )
    grid.save(target, grid.captioned(pictures, [text for text in prompts for _ in range(n)]))
    console.show({"out": out, "pictures": len(pictures)})


def _require_one_noise(n: int | None, seed: int | None) -> None:
    """Raises UserError for options that the noise of a picture leaves without use."""
    if n not in (None, 1):
        raise UserError(f"--n is {n}; one noise gives one picture of each text, so leave --n out")
    if seed is not None:
        raise UserError(f"--seed is {seed}, and the noise is that of --picture; leave --seed out")


def _upsampled(
    prompts: list[str], run: "runs.Run", seed: int, url: str | None, model: str | None
) -> list[str]:
    """Returns the prompts with their unstated facts filled in, and shows them."""
    from caption import upsampling
    from caption.endpoint import Endpoint

    if url:
        endpoint = Endpoint(url, model or "")
        full = [upsampling.by_endpoint(prompt, endpoint) for prompt in prompts]
    elif model:
        raise UserError(f"--model is {model}, and only an endpoint has models; give --url too")
    else:
        recorded = run.metadata["shards"]
        names = str(recorded["dataset"]).split(" + ")
        live = [row["live"] for row in recorded.get("sets", [recorded]) if "live" in row]
        configs = {row["dataset"]: row["config"] for row in live}
        full = [upsampling.from_prior(prompt, names, seed, configs) for prompt in prompts]
    for prompt, text in zip(prompts, full, strict=True):
        console.note(f"{prompt!r} becomes {text!r}")
    return full


@app.command(
    epilog=console.epilog(
        "python -m train synthesise runs/flat --prompts 1000 --guidance 1,2,3,5,8 --out data/shards/drawn"
    )
)
def synthesise(
    run: Run,
    *,
    prompts: Annotated[
        int, options.integer("--prompts", "Different prompts: captions of the run's sets.", least=1)
    ] = 1000,
    out: Annotated[str, options.place("--out", "DIR", "The set of shards to write.")],
    per_prompt: Annotated[int, options.integer("--per-prompt", "Pictures of each prompt.", least=1)] = 6,
    guidance: Annotated[
        str, options.text("--guidance", "LIST", "Scales in turn; small is 2,3, large 8,10, mixed 2 to 12.")
    ] = "1,2,3,5,8",
    on: Annotated[
        str | None, options.place("--on", "SET", "Take the captions of this set.  [default: the run's sets]")
    ] = None,
    draw: Annotated[
        list[str],
        options.text("--draw", "NAME=VALUE", "A drawing option, such as steps=10; may be repeated."),
    ] = EMPTY,
    seed: options.Seed = 0,
    images_seen: ImagesSeen = None,
    encoder: Moved = None,
    codec: options.Codec = "png",
    shard_size: options.ShardSize = 4096,
    workers: Annotated[
        int | None, options.integer("--workers", "Ray tasks at once; 0: no Ray.", least=0)
    ] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Writes pictures that a run draws as a set of shards, several of each prompt.

    The command is idempotent and resumable: finished shards are left alone."""
    from synth.sets import places
    from train.sampling import synthesis

    request = synthesis.SynthesisRequest(
        run=run,
        out=out,
        prompts=prompts,
        per_prompt=per_prompt,
        guidance=guidance,
        on=places.training_set(on) if on else None,
        seed=seed,
        images_seen=images_seen,
        options=_drawing_options(draw),
        encoder=encoder,
        codec=codec,
        shard_size=shard_size,
        workers=workers,
        device=device,
        overwrite=overwrite,
    )
    if dry_run:
        console.show({"out": out, **synthesis.estimate(request)._asdict()})
        return
    console.show(console.watched("pictures", synthesis.synthesise(request))._asdict())


@app.command(epilog=console.epilog("python -m train prove runs/visual_atoms-tiny-32"))
def prove(
    run: Run,
    images_seen: ImagesSeen = None,
    out: Annotated[
        str | None, options.place("--out", "DIR", "The replay, a new run.  [default: runs/NAME-proof]")
    ] = None,
    device: Device = "auto",
) -> None:
    """Trains a run again from its config, and compares the sha256 of every file of weights.

    Exits with code 1 at a difference. Run it again to resume it."""
    from train import prove as proving

    proof = proving.prepare(run, images_seen, out, device)
    outcome = _watched(proving.prove(proof))
    if outcome:
        row = {"run": run, "replay": proof.request.out, "images_seen": outcome.images_seen}
        console.show({**row, "files": outcome.files, "equal": not outcome.difference})
        if outcome.difference:
            console.note(f"the first difference: {outcome.difference}")
            sys.exit(1)


@app.command(epilog=console.epilog("python -m train export runs/tiny --out for-others --onnx"))
def export(
    run: Run,
    out: Annotated[
        str | None,
        options.place(
            "--out", "PATH", "A .safetensors file for the averaged part, or a folder for a whole RUN."
        ),
    ] = None,
    onnx: Annotated[bool, options.flag("--onnx", "Add model.onnx to the folder.")] = False,
    notes: Annotated[str | None, options.place("--notes", "FILE", "Markdown for the card.")] = None,
    encoder: Moved = None,
    as_encoder: Annotated[
        str | None,
        options.place("--as-encoder", "FOLDER", "Write learned features as an encoder for caption."),
    ] = None,
) -> None:
    """Writes the newest model, averages in place: one safetensors file, or a RUN folder to hand over.

    The folder holds weights, code, a card with licence and data, and pictures. It works without exnihilo."""
    from train import export as exporting

    if (out is None) == (as_encoder is None):
        raise UserError("export writes one thing; give --out PATH or --as-encoder FOLDER")
    if out is not None:
        console.show(exporting.export(run, out, onnx=onnx, encoder=encoder, notes=notes))
        return
    if onnx or encoder or notes:
        raise UserError("--onnx, --notes and --encoder belong to --out; leave them out")
    console.show(exporting.export_encoder(run, str(as_encoder)))


@app.command(
    "import",
    epilog=console.epilog(
        "python -m train import network-snapshot-025000.pkl --encoder ViT-B-32/openai --out runs/lafite"
    ),
)
def import_snapshot(
    file: Annotated[str, options.place_argument("FILE", "A network snapshot of LAFITE's program.")],
    encoder: Annotated[
        str, options.place("--encoder", "NAME", "The encoder of its texts, which the file does not name.")
    ],
    out: Annotated[str, options.place("--out", "DIR", "The run to write.")],
) -> None:
    """Writes a network snapshot of LAFITE's program as a run. Nothing of the file is run."""
    from train import snapshots

    row, notes = snapshots.import_snapshot(file, encoder, out)
    for text in notes:
        console.note(text)
    console.show(row)


@app.command("presets", epilog=console.epilog("python -m train presets"))
def list_presets() -> None:
    """Lists the presets."""
    from train.presets import PRESETS

    for preset in PRESETS.values():
        run_config = preset.make()
        groups = run_config.groups
        size = {
            "resolution": groups.model.resolution,
            "batch": groups.training.batch,
            "images": run_config.run.images,
        }
        row = {"name": preset.name, "model": preset.model, "what": preset.what, **size}
        console.show({**row, "hours": preset.hours, "disk": preset.disk, "result": preset.result})


def _names(on: Sequence[str]) -> str:
    """Returns the part of a run's name that stands for its sets."""
    from synth.sets import places

    return "-".join(places.name_of(name) for name in on)


def _refuse_once(sentence: str) -> NoReturn:
    """Ends every rank, for an error before the ranks have joined. One rank prints the sentence."""
    from train.distributed import Ranks

    try:
        ranks = Ranks.join("cpu")
    except UserError:
        # Not of torchrun, so there are no other ranks to wait for.
        console.fail(sentence)
    ranks.end(UserError(sentence))


def _end_at_once(code: int) -> NoReturn:
    """Exits without unloading libraries. Releases semaphores first: leaked ones cause a warning."""
    from multiprocessing import util

    # Python calls it at an ordinary exit.
    util._exit_function()  # type: ignore[attr-defined]
    for stream in (sys.stdout, sys.stderr):
        # A terminal may be closed.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _train(request: "TrainRequest", dry_run: bool) -> None:
    from train.start import training

    if dry_run:
        from train import estimate

        for row in estimate.estimate(request):
            console.show(row)
        return
    _watched(training.train(request))


def _watched(events: "Generator[prove_events.Event]") -> "prove_events.Compared | None":
    """Shows the events of training, and exits if a signal ends it. Returns the outcome of a proof."""
    from contextlib import closing

    from train.loop import Step
    from train.prove import Compared
    from train.start import training

    outcome = None
    with console.Bar("images") as bar, closing(events):
        for event in events:
            match event:
                case Compared():
                    outcome = event
                case training.Started(images, images_seen):
                    bar.start(images)
                    bar.advance(images_seen)
                case Step(images):
                    bar.advance(images)
                case training.Note(text):
                    console.note(text)
                case training.Ended(signal) if signal:
                    sys.exit(128 + signal)
    return outcome


def _drawing_options(draw: Sequence[str]) -> dict[str, str]:
    """Returns drawing options by name. Raises UserError if one has no value, or if it is the guidance."""
    values = {}
    for option in draw:
        name, equals, value = option.partition("=")
        if not (name and equals and value):
            raise UserError(f"--draw is {option!r}; give NAME=VALUE, such as --draw steps=10")
        if name == "guidance":
            raise UserError(f"--draw is {option!r}; give --guidance {value}")
        values[name.replace("-", "_")] = value
    return values
