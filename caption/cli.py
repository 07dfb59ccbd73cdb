"""The commands of caption: captions, recaption, export, audit, show, fit-encoder, fit-captioner."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synth import console, options
from synth.errors import UserError
from synth.foreign import is_utf8
from synth.options import EMPTY, Device, DryRun, Overwrite, RayAddress, Seed
from synth.sets import targets

if TYPE_CHECKING:
    from caption.endpoint import Endpoint
    from caption.pipeline import CaptionRequest, CaptionSummary

PROGRAM = "python -m caption"
USUAL = ["visual_atoms"]  # sets of a command that names none

Sets = options.place_argument(
    "SET", "Sets of shards: names, such as emoji (all its splits), folders or URLs."
)
TableEncoder = Annotated[
    str,
    options.place("--encoder", "NAME", "MODEL/TAG, MODEL=FILE, a folder, nano, nano-emoji or nano-scenes."),
]
Tables = Annotated[str, options.place_argument("TABLES", "Finished caption tables: a folder or URL.")]

# The captioner of `recaption`.
CaptionerFolder = Annotated[
    str | None,
    options.place("--captioner", "FOLDER", "A model of fit-captioner or of transformers (image-to-text)."),
]
Url = Annotated[
    str | None,
    options.text("--url", "URL", "An OpenAI-compatible endpoint; its key is in $OPENAI_API_KEY."),
]
Model = Annotated[str | None, options.text("--model", "NAME", "The endpoint's model.")]
Prompt = Annotated[
    str | None,
    options.text("--prompt", "TEXT", "short, long or a text, for models that chat.  [default: long]"),
]
Temperature = Annotated[
    float | None,
    options.number("--temperature", "Randomness of the endpoint's answers.  [default: 0]", most=2),
]
Requests = Annotated[
    int | None,
    options.integer("--requests", "Requests to the endpoint at once.  [default: 8]", least=1, most=256),
]
Timeout = Annotated[
    float | None,
    options.number("--timeout", "Seconds that a request may take.  [default: 120]", most=86400, above=True),
]

app = console.app(
    "Captions pictures: CLIP embeddings, pseudo-captions and true sentences, joined to shards by key.",
    "python -m caption captions visual_atoms --encoder nano",
)


def main() -> None:
    """Runs `python -m caption`."""
    console.run(app, PROGRAM)


@app.command(
    epilog=console.epilog(
        "python -m caption captions s3://bucket/atoms --out s3://bucket/captions --workers 8"
    )
)
def captions(
    sets: Annotated[list[str], Sets] = USUAL,
    out: Annotated[
        list[str],
        options.place(
            "--out", "PLACE", "A folder or URL, once for each set.  [default: data/captions/DATASET/ENCODER]"
        ),
    ] = EMPTY,
    encoder: TableEncoder = "ViT-B-32/openai",
    xi: Annotated[
        str, options.text("--xi", "X", "Noise of pseudo-captions: a number, lafite (3) or cos:C.")
    ] = "0.25",
    seed: Seed = 0,
    workers: Annotated[
        int | None,
        options.integer("--workers", "Ray tasks at once; 0: no Ray.  [default: one for each GPU, else core]"),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        str, options.text("--precision", "NAME", "auto, fp32 or bf16; auto takes bf16 if it is as good.")
    ] = "auto",
    text_embeddings: Annotated[
        bool,
        options.flag("--text-embeddings", "Embed attribute sentences too. Captions of people always are."),
    ] = False,
    names: Annotated[
        bool,
        options.flag("--names", "Embed sentences and bare names of formula pictures, to blend them."),
    ] = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    ray_address: RayAddress = None,
) -> None:
    """Makes the caption tables of finished sets of shards, or the missing ones.

    The command is idempotent and resumable: finished tables are left alone. After the shards have grown, it
    makes the tables of the changed shards."""
    from synth.sets import places

    address = options.cluster(ray_address, workers)
    shards = [place for name in sets for place in places.sets(name)]
    pairs = options.pair(shards, out, "sets of shards")
    from caption import pipeline

    requests = [
        pipeline.CaptionRequest(
            shards=place,
            out=target,
            encoder=encoder,
            xi=xi,
            seed=seed,
            workers=workers,
            device=device,
            precision=precision,
            text_embeddings=text_embeddings,
            names=names,
            overwrite=overwrite,
            ray_address=address,
        )
        for place, target in pairs
    ]
    if dry_run:
        for request in requests:
            console.show({"shards": request.shards, **pipeline.estimate(request)._asdict()})
        return
    _make(requests)


@app.command(
    epilog=console.epilog(
        "python -m caption recaption cub --url http://localhost:8000/v1 --model qwen2.5-vl-7b"
    )
)
def recaption(
    sets: Annotated[list[str], Sets],
    captioner: CaptionerFolder = None,
    url: Url = None,
    model: Model = None,
    prompt: Prompt = None,
    temperature: Temperature = None,
    requests: Requests = None,
    timeout: Timeout = None,
    out: Annotated[
        list[str],
        options.place(
            "--out",
            "PLACE",
            "A folder or URL, once for each set."
            "  [default: data/captions/DATASET/ENCODER-recaptioned-CAPTIONER]",
        ),
    ] = EMPTY,
    encoder: TableEncoder = "ViT-B-32/openai",
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Makes caption tables with synthetic captions of a captioner, besides the captions that a set has.

    The command first prints the cost. It is idempotent and resumable: finished tables are left alone. Train
    with them by `--text synthetic`."""
    from synth.sets import places

    if (captioner is None) == (url is None):
        raise UserError("recaption needs a captioner; give --captioner FOLDER, or --url URL --model NAME")
    if url is None and any(o is not None for o in (model, temperature, requests, timeout)):
        raise UserError("--model, --temperature, --requests and --timeout belong to --url; leave them out")
    if prompt is not None and not prompt.strip():
        raise UserError("--prompt is empty; give short, long or a text, or leave it out")
    if prompt is not None and not is_utf8(prompt):
        raise UserError(f"--prompt is {prompt!a}, which is not UTF-8; give short, long or a text")
    shards = [place for name in sets for place in places.sets(name)]
    pairs = options.pair(shards, out, "sets of shards")
    from caption import pipeline

    endpoint = _endpoint(url, model, temperature=temperature, at_once=requests, timeout=timeout)
    caption_requests = [
        pipeline.CaptionRequest(
            shards=place,
            out=target,
            encoder=encoder,
            device=device,
            overwrite=overwrite,
            captioner=captioner,
            endpoint=endpoint,
            prompt=prompt,
        )
        for place, target in pairs
    ]
    if dry_run:
        for request in caption_requests:
            console.show({"shards": request.shards, **pipeline.cost(request)})
        return
    _make(caption_requests)


@app.command(
    epilog=console.epilog("python -m caption export data/captions/visual_atoms/nano --caption long --out DIR")
)
def export(
    tables: Tables,
    out: Annotated[
        str | None,
        options.place("--out", "PLACE", "A folder or URL.  [default: data/shards/DATASET-CAPTION]"),
    ] = None,
    caption: Annotated[
        str, options.text("--caption", "NAME", "long, short, random or all; synthetic: that of recaption.")
    ] = "long",
    embeddings: Annotated[
        bool, options.flag("--embeddings", "Add the vectors of the tables, as .npy files.")
    ] = False,
    classes: Annotated[
        bool, options.flag("--classes", "Add the number of the class, as a .cls file.")
    ] = False,
    seed: Annotated[int | None, options.integer("--seed", "Seed of --caption random.  [default: 0]")] = None,
    shards: Annotated[
        str | None,
        options.place("--shards", "PLACE", "The set of shards.  [default: the usual folder of its name]"),
    ] = None,
    workers: Annotated[
        int | None,
        options.integer("--workers", "Ray tasks at once; 0: no Ray.  [default: one for each core]"),
    ] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    ray_address: RayAddress = None,
) -> None:
    """Writes pictures with their captions as tars that image-text trainers read, open_clip's among them.

    Each picture gets a .txt beside its JSON. Pictures without a caption are left out. Captions of
    `recaption` are exported by --caption synthetic alone."""
    if seed is not None and caption != "random":
        raise UserError(f"--seed is {seed}, and --caption {caption} draws nothing; leave --seed out")
    address = options.cluster(ray_address, workers)
    from caption import export as exporting
    from caption.audit import gallery
    from caption.table import CaptionSet

    request = exporting.ExportRequest(
        tables=tables,
        shards=gallery.shards_of(CaptionSet(tables), shards).storage.url,
        out=out,
        caption=caption,
        embeddings=embeddings,
        classes=classes,
        seed=seed or 0,
        workers=workers,
        overwrite=overwrite,
        ray_address=address,
    )
    if dry_run:
        console.show(exporting.estimate(request)._asdict())
        return
    summary = console.watched("pictures", exporting.make_export(request))
    if not summary.exported:
        console.note(f"{summary.out} is finished: nothing to do")
    if summary.left_out:
        console.note(f"{summary.left_out:,} pictures have no caption and were left out")
    console.show(summary._asdict())


@app.command(
    epilog=console.epilog("python -m caption audit data/captions/visual_atoms/nano --out audit.html")
)
def audit(
    tables: Tables,
    out: Annotated[str, options.place("--out", "FILE", "The page to write.")] = "audit.html",
    sample: Annotated[
        int,
        options.integer(
            "--sample", "Pictures to compare with one another, 32 to 16384.", least=32, most=16384
        ),
    ] = 4096,
    seed: Annotated[int, options.integer("--seed", "Seed of the sample.")] = 0,
    shards: Annotated[
        str | None, options.place("--shards", "PLACE", "The set of shards, to show the nearest pairs.")
    ] = None,
    captioner: Annotated[
        str | None,
        options.place("--captioner", "DIR", "An image-to-text model of transformers, to compare with."),
    ] = None,
    pictures: Annotated[
        int | None, options.integer("--pictures", "Pictures for the captioner.  [default: 1000]", least=1)
    ] = None,
    device: Annotated[
        str | None,
        options.text("--device", "NAME", "Device of the captioner: auto, cpu or cuda.  [default: auto]"),
    ] = None,
) -> None:
    """Measures caption tables before anybody trains on them.

    Writes a page of plots and warns if they collapse. --captioner needs the pictures, by default those in
    the usual folder of the set's name."""
    target = targets.file(out, ".html")
    if captioner is None and (pictures is not None or device is not None):
        raise UserError(
            "--pictures and --device belong to --captioner; give --captioner DIR, or leave them out"
        )
    from caption.audit import captioner as captioning
    from caption.audit import gallery, page
    from caption.audit import report as measuring
    from caption.table import CaptionSet

    caption_set = CaptionSet(tables)
    shard_set = gallery.shards_of(caption_set, shards) if shards or captioner else None
    model = captioning.load(captioner, device or "auto") if captioner else None
    events = measuring.audit(caption_set, sample=sample, seed=seed)
    report = console.watched("rows", events, len(caption_set))

    # Captions of the tables' captioner.
    if synthetic := gallery.synthetic_captions(caption_set):
        report = report.beside(caption_set.identity["captioner"]["model"], synthetic)

    # Captions of another captioner.
    if model and shard_set:
        texts = {}
        most = min(1000 if pictures is None else pictures, len(shard_set))
        with console.Bar("pictures") as bar:
            bar.start(most)
            for name, text in captioning.captions(model, shard_set, pictures=most, seed=seed):
                texts[name] = text
                bar.advance(1)
        report = report.beside(model.name, texts)

    # Page and figures.
    closest = gallery.pictures(shard_set, report.closest_keys) if shard_set else {}
    _write(target, page.page(report, closest).encode())
    for sentence in report.warnings():
        console.note(f"warning: {sentence}")
    console.show({**report.row(), "out": out})
    for name, figures in report.wordings.items():
        console.show(
            {"captions_of": name, **{key: round(value, 4) for key, value in figures._asdict().items()}}
        )


@app.command(epilog=console.epilog("python -m caption show data/captions/visual_atoms/nano 000000123"))
def show(
    tables: Tables,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The sample.")],
    out: Annotated[
        str | None, options.place("--out", "FILE", "The PNG to write.  [default: KEY.png]")
    ] = None,
    shards: Annotated[
        str | None,
        options.place("--shards", "PLACE", "The set of shards.  [default: the usual folder of its name]"),
    ] = None,
    neighbours: Annotated[
        int, options.integer("--neighbours", "Nearest pictures to show, 1 to 64.", least=1, most=64)
    ] = 8,
) -> None:
    """Draws a picture with its sentences and its nearest pictures by embedding."""
    out = out or f"{key.replace('/', '-')}.png"
    target = targets.file(out, ".png")
    from caption.audit import gallery, sheet
    from caption.table import CaptionSet

    caption_set = CaptionSet(tables)
    shard_set = gallery.shards_of(caption_set, shards)
    row = gallery.row_of(caption_set, key)
    near = gallery.neighbours(caption_set, row, neighbours)
    pixels = gallery.pictures(shard_set, {row.number: row.key, **{n.number: n.key for n in near}})
    identity = caption_set.identity
    title = f"index {row.number:,}, one of {len(caption_set):,} pictures of {identity['shards']['dataset']}, "
    title += f"embedded by {identity['encoder']}, xi = {identity['xi']:g}"
    _write(target, sheet.png(sheet.sheet(row, near, pixels, title)))
    nearest = {n.key: round(n.cosine, 4) for n in near}
    console.show({"out": out, "key": key, "captions": [text for text, _ in row.captions], "nearest": nearest})


@app.command(
    epilog=console.epilog(
        "python -m caption fit-encoder data/shards/fractals --exam data/shards/fractaldb --out my_nano"
    )
)
def fit_encoder(
    shards: Annotated[
        list[str],
        options.place_argument(
            "SHARDS", "Finished sets: names, folders or URLs; or local folders of such sets."
        ),
    ] = EMPTY,
    recipe: Annotated[
        str | None,
        options.text(
            "--recipe",
            "NAME",
            "Make the sets of a shipped encoder and fit it: nano, nano-emoji, nano-scenes.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        options.place("--from", "FOLDER", "Encoder to start from: nano, or one that fit-encoder wrote."),
    ] = None,
    exam: Annotated[
        list[str],
        options.place(
            "--exam", "SHARDS", "Sets to measure on, of other classes or concepts; may be repeated."
        ),
    ] = EMPTY,
    out: Annotated[
        str | None,
        options.place("--out", "FOLDER", "The folder to write.  [default with --recipe: data/RECIPE]"),
    ] = None,
    seed: Seed = 0,
    visits: Annotated[
        int | None,
        options.integer(
            "--visits",
            "Pictures seen, each visit counted.  [default: 700000, or the recipe's]",
            least=256,  # a batch
        ),
    ] = None,
    threads: Annotated[
        int,
        options.integer(
            "--threads", "Threads of this process; the weights depend on their number.", least=1, most=4096
        ),
    ] = 1,
) -> None:
    """Fits nano, a small image-text encoder, to finished sets.

    The sets hold formula pictures with attribute sentences, scenes, captioned pictures, or several of these.
    `--encoder FOLDER` of other commands takes the result. A finished folder is left alone; --recipe replaces
    an encoder."""
    if recipe and (shards or exam or start):
        raise UserError("--recipe names its own sets and start; leave SHARDS, --exam and --from out")
    if not recipe and not (shards and out):
        raise UserError("fit-encoder needs SHARDS and --out FOLDER, or --recipe NAME")
    targets.folder(out or f"data/{recipe}")
    from caption.nano import fitting, recipes
    from synth.sets import places

    if recipe:
        chosen = recipes.get(recipe)
        request = chosen.request(out or f"data/{recipe}", seed=seed, visits=visits, threads=threads)

        # The sets take long, so a folder with other files is refused before them.
        request.is_finished()
        for words in chosen.commands():
            if code := subprocess.run([sys.executable, "-m", *words], check=False).returncode:
                sys.exit(code)
    else:
        request = fitting.FitRequest(
            shards=tuple(name if Path(name).is_dir() else places.training_set(name) for name in shards),
            out=str(out),
            exam=tuple(map(places.shards_or_folder, exam)),
            start=start or "",
            seed=seed,
            visits=700_000 if visits is None else visits,
            threads=threads,
        )
    console.show(console.watched("pictures", fitting.fit(request), request.visits))


@app.command(epilog=console.epilog("python -m caption fit-captioner --out my_captioner"))
def fit_captioner(
    out: Annotated[str, options.place("--out", "FOLDER", "The folder to write.")],
    encoder: Annotated[
        str, options.place("--encoder", "NAME", "The encoder to read: nano, nano-emoji, a folder or another.")
    ] = "nano",
    reads: Annotated[
        str, options.text("--reads", "NAME", "vector, or patches: those of a vision transformer, too.")
    ] = "patches",
    seed: Seed = 0,
    visits: Annotated[
        int, options.integer("--visits", "Pictures of the base; the tunings see 0.6 times as many.", least=1)
    ] = 100_000,
    pictures: Annotated[
        int, options.integer("--pictures", "Fresh pictures of each set, to measure on.", least=1)
    ] = 500,
    threads: Annotated[
        int,
        options.integer(
            "--threads", "Threads of this process; the weights depend on their number.", least=1, most=4096
        ),
    ] = 1,
) -> None:
    """Fits a captioner of scenes: a base, tuned to name the main object, and tuned to state everything.

    It draws the pictures itself, and prints how often each tuning is true on fresh ones. `recaption
    --captioner FOLDER` takes the result. A finished folder is left alone."""
    from caption.scene_captioner import fitting

    targets.folder(out)
    request = fitting.CaptionerRequest(out, encoder, reads, seed, visits, pictures, threads)
    for row in console.watched("pictures", fitting.fit(request), fitting.total(request)):
        console.show(row)


def _endpoint(url: str | None, model: str | None, **changes: float | None) -> "Endpoint | None":
    """Returns the endpoint of --url, or None without it. An option that is None keeps the endpoint's default.

    Raises UserError if the URL or the model cannot be used."""
    from caption.endpoint import Endpoint

    if url is None:
        return None
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    return Endpoint(url, model or "", **given)


def _make(requests: "Sequence[CaptionRequest]") -> None:
    """Makes the tables of some requests and shows their results."""
    from caption import pipeline

    # A refusal of the last set would else follow the work on all others.
    if len(requests) > 1:
        pipeline.require_places(requests)
    for request in requests:
        _show(console.watched("pictures", pipeline.make_captions(request)))


def _show(summary: "CaptionSummary") -> None:
    """Prints the result of a command that made caption tables."""
    if not summary.pictures:
        console.note(f"{summary.out} is finished: nothing to do")
    if summary.cut:
        cut = f"{summary.cut:,} captions exceed the encoder's context"
        console.note(f"{cut}; their embeddings are of the beginning")
    console.show(summary.row())


def _write(target: Path, data: bytes) -> None:
    from synth.sets.storage import Folder

    Folder(str(target.parent)).write(target.name, data)
