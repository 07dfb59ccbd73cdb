"""The commands of caption: captions, audit, show, fit-encoder."""

from pathlib import Path

import click

from synth import console
from synth.errors import UserError

SET = click.argument("tables", metavar="DIR")


def main() -> None:
    """Runs `python -m caption`."""
    console.run(commands, "python -m caption")


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


@click.group(epilog=_example("python -m caption captions data/shards/visual_atoms --encoder nano"))
def commands() -> None:
    """Captions pictures: CLIP embeddings, pseudo-captions and true sentences, joined to shards by key."""


@commands.command(
    epilog=_example("python -m caption captions s3://bucket/atoms --out s3://bucket/captions --workers 8")
)
@click.argument("shards")
@click.option("--out", help="A folder or URL; by default data/captions/DATASET/ENCODER.")
@click.option(
    "--encoder",
    default="ViT-B-32/openai",
    show_default=True,
    help="MODEL/TAG, MODEL=FILE, a folder, nano or nano-emoji.",
)
@click.option(
    "--xi", default="0.25", show_default=True, help="Noise of pseudo-captions: a number, lafite (3) or cos:C."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the noise.")
@click.option(
    "--workers",
    type=int,
    help="Ray tasks at once; 0: this process, no Ray. Default: one per GPU, else one per core.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    help="auto, fp32 or bf16; auto takes bf16 if it is as good.",
)
@click.option(
    "--text-embeddings", is_flag=True, help="Embed attribute sentences too (people's captions always are)."
)
@click.option("--overwrite", is_flag=True, help="Replace the existing tables of another request.")
@click.option("--dry-run", is_flag=True, help="Print the estimate and write nothing.")
@click.option("--ray-address", envvar="RAY_ADDRESS", help="A Ray cluster to work on (or RAY_ADDRESS).")
def captions(dry_run: bool, **options: object) -> None:
    """Makes the caption tables of a finished set of shards, or the missing ones.

    The command is idempotent and resumable: it does nothing if the tables are finished. After the shards have
    grown, it makes the tables of the changed shards."""
    from caption import pipeline

    request = pipeline.CaptionRequest(**options)  # type: ignore[arg-type]
    if dry_run:
        console.show(pipeline.estimate(request)._asdict())
        return
    summary = console.watched("pictures", pipeline.make_captions(request))
    if not summary.pictures:
        console.note(f"{summary.out} is finished: nothing to do")
    if summary.cut:
        console.note(
            f"{summary.cut:,} captions are longer than the encoder's context; their embeddings are of what comes before"
        )
    console.show(summary.row())


@commands.command(epilog=_example("python -m caption audit data/captions/visual_atoms/nano --out audit.html"))
@SET
@click.option("--out", default="audit.html", show_default=True, help="The page to write.")
@click.option(
    "--sample", default=4096, show_default=True, help="Pictures compared with one another, 32 to 16,384."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the sample.")
@click.option(
    "--shards",
    help="The set of shards: the page then shows the nearest pairs. For --captioner by default data/shards/DATASET.",
)
@click.option(
    "--captioner",
    "folder",
    metavar="FOLDER",
    help="Folder of an image-to-text model of transformers to compare with.",
)
@click.option("--pictures", default=1000, show_default=True, help="Pictures for the captioner.")
@click.option(
    "--device", default="auto", show_default=True, help="Device of the captioner: auto, cpu or cuda."
)
def audit(
    tables: str,
    out: str,
    sample: int,
    seed: int,
    shards: str | None,
    folder: str | None,
    pictures: int,
    device: str,
) -> None:
    """Measures caption tables before anybody trains on them.

    Writes a page of plots and warns if they collapse."""
    target = _target(out, ".html")
    for name, value, least in (("--seed", seed, 0), ("--pictures", pictures, 1)):
        if value < least:
            raise UserError(f"{name} is {value}; it must be at least {least}")
    from caption.audit import captioner, gallery, page
    from caption.audit import report as measuring
    from caption.table import CaptionSet

    caption_set = CaptionSet(tables)
    shard_set = gallery.shards_of(caption_set, shards) if shards or folder else None
    model = captioner.load(folder, device) if folder else None
    found = console.watched("rows", measuring.audit(caption_set, sample=sample, seed=seed), len(caption_set))
    if model and shard_set:
        texts = {}
        with console.Bar("pictures") as bar:
            bar.start(min(pictures, len(shard_set)))
            for name, text in captioner.captions(model, shard_set, pictures=pictures, seed=seed):
                texts[name] = text
                bar.advance(1)
        found = found.beside(model.name, texts)
    _write(
        target,
        page.page(found, gallery.pictures(shard_set, found.closest_keys) if shard_set else {}).encode(),
    )
    for sentence in found.warnings():
        console.note(f"warning: {sentence}")
    console.show({**found.row(), "out": out})
    for name, figures in found.wordings.items():
        console.show(
            {"captions_of": name, **{figure: round(value, 4) for figure, value in figures._asdict().items()}}
        )


@commands.command(epilog=_example("python -m caption show data/captions/visual_atoms/nano 000000123"))
@SET
@click.argument("key")
@click.option("--out", help="The PNG to write; by default KEY.png.")
@click.option("--shards", help="The set of shards; by default data/shards/DATASET.")
@click.option("--neighbours", default=8, show_default=True, help="Number of nearest pictures, 1 to 64.")
def show(tables: str, key: str, out: str | None, shards: str | None, neighbours: int) -> None:
    """Draws a picture with its sentences and its nearest pictures by embedding."""
    out = out or f"{key.replace('/', '-')}.png"
    target = _target(out, ".png")
    if not 1 <= neighbours <= 64:
        raise UserError(f"--neighbours is {neighbours}; a sheet holds 1 to 64")
    from caption.audit import gallery, sheet
    from caption.table import CaptionSet

    caption_set = CaptionSet(tables)
    shard_set = gallery.shards_of(caption_set, shards)
    row = gallery.row_of(caption_set, key)
    near = gallery.neighbours(caption_set, row, neighbours)
    pixels = gallery.pictures(shard_set, {row.number: row.key, **{n.number: n.key for n in near}})
    about = f"index {row.number:,}, one of {len(caption_set):,} pictures of {caption_set.identity['shards']['dataset']}, "
    about += f"embedded by {caption_set.identity['encoder']}, xi = {caption_set.identity['xi']:g}"
    _write(target, sheet.png(sheet.sheet(row, near, pixels, about)))
    nearest = {n.key: round(n.cosine, 4) for n in near}
    console.show({"out": out, "key": key, "captions": [text for text, _ in row.captions], "nearest": nearest})


@commands.command(
    epilog=_example(
        "python -m caption fit-encoder data/shards/nano/fitted --exam data/shards/nano/exam --out my_nano"
    )
)
@click.argument("shards", nargs=-1, required=True, metavar="SHARDS...")
@click.option(
    "--from",
    "start",
    default="",
    metavar="FOLDER",
    help="Encoder to start from: nano, or one that fit-encoder wrote.",
)
@click.option(
    "--exam",
    multiple=True,
    metavar="SHARDS",
    help="Sets to measure the encoder on, with other seeds or concepts; may be repeated.",
)
@click.option("--out", required=True, help="The folder to write; --encoder FOLDER then takes it.")
@click.option("--seed", default=0, show_default=True, help="Seed of all randomness.")
@click.option(
    "--visits", default=700_000, show_default=True, help="Pictures seen, each visit of a picture counted."
)
@click.option(
    "--threads",
    default=1,
    show_default=True,
    help="Threads of this process; the weights depend on their number.",
)
def fit_encoder(**options: object) -> None:
    """Fits nano, a small image-text encoder, to finished sets.

    The sets hold formula pictures with attribute sentences, captioned pictures with captions, or both. SHARDS
    are sets made by `python -m synth shards`, captioned sets, or local folders of such sets. `make encoder`
    and `make nano-emoji` make the shipped encoders."""
    from caption.nano import fitting

    request = fitting.FitRequest(**options)  # type: ignore[arg-type]
    console.show(console.watched("pictures", fitting.fit(request), request.visits))


def _target(out: str, ending: str) -> Path:
    """Returns the path to write. Raises UserError if it is a URL or lacks the ending."""
    if not out.endswith(ending) or "://" in out:
        raise UserError(f"--out is {out}; give the name of a {ending} file on this machine")
    return Path(out)


def _write(target: Path, data: bytes) -> None:
    from synth.sets.storage import Folder

    Folder(str(target.parent)).write(target.name, data)
