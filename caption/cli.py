"""The commands of caption: captions, audit, show, fit-encoder."""

import click

from synth import console

SET = click.argument("tables", metavar="DIR")


def main() -> None:
    """The entry of `python -m caption`."""
    console.run(commands, "python -m caption")


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


@click.group(epilog=_example("python -m caption captions data/shards/visual_atoms --encoder nano"))
def commands() -> None:
    """Captions for pictures: CLIP embeddings, pseudo-captions and exactly true sentences, joined to shards by key."""


@commands.command(epilog=_example("python -m caption captions s3://bucket/atoms --out s3://bucket/captions --workers 8"))
@click.argument("shards")
@click.option("--out", help="A folder or URL; by default data/captions/DATASET/ENCODER.")
@click.option("--encoder", default="ViT-B-32/openai", show_default=True, help="MODEL/TAG of open_clip, MODEL=FILE, a folder, or nano.")
@click.option("--xi", default="0.25", show_default=True, help="Noise of pseudo-captions: a number, lafite (3) or cos:C.")
@click.option("--seed", default=0, show_default=True, help="Where the noise starts.")
@click.option("--workers", type=int, help="Ray tasks at once; 0: this process, no Ray. Default: one a GPU, else one a core.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--precision", default="auto", show_default=True, help="auto, fp32 or bf16; auto is bf16 where that is as good.")
@click.option("--text-embeddings", is_flag=True, help="Embed attribute sentences too (people's captions always are).")
@click.option("--overwrite", is_flag=True, help="Replace other tables that lie there.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, and write nothing.")
@click.option("--ray-address", envvar="RAY_ADDRESS", help="A Ray cluster to work on (or RAY_ADDRESS).")
def captions(dry_run: bool, **options: object) -> None:
    """Make the caption tables of a finished set of shards, or what is missing of them.

    The same command after an interruption goes on; on finished tables it does nothing; after the shards have grown it makes the
    tables of those that changed."""
    from caption import pipeline

    request = pipeline.Request(**options)  # type: ignore[arg-type]
    if dry_run:
        console.show(pipeline.estimate(request)._asdict())
        return
    with console.Making("pictures") as bar:
        summary = pipeline.make_captions(request, started=bar.started, progress=bar.step)
    if not summary.pictures:
        console.note(f"{summary.out} is finished: nothing to do")
    if summary.cut:
        console.note(f"{summary.cut:,} captions are longer than the encoder's context; their embeddings are of what comes before")
    console.show(summary.row())


@commands.command(epilog=_example("python -m caption fit-encoder data/shards/nano/fitted/* --exam data/shards/nano/exam --out my_nano"))
@click.argument("shards", nargs=-1, required=True, metavar="SHARDS...")
@click.option("--exam", multiple=True, metavar="SHARDS", help="Sets of another seed to measure it by; may be repeated.")
@click.option("--out", required=True, help="The folder to write; --encoder FOLDER then takes it.")
@click.option("--seed", default=0, show_default=True, help="Where all randomness starts.")
@click.option("--visits", default=800_000, show_default=True, help="Pictures seen, each visit of a picture counted.")
@click.option("--threads", default=2, show_default=True, help="Of this process; the weights depend on it.")
def fit_encoder(**options: object) -> None:
    """Fit nano, a small image-text encoder, to finished sets of formula pictures and their attribute sentences.

    SHARDS are sets that `python -m synth shards` made, or local folders of such sets. `make encoder` makes the shipped one."""
    from caption import fitting

    request = fitting.Request(**options)  # type: ignore[arg-type]
    with console.Progress("pictures") as bar:
        bar.start(request.visits)
        row = fitting.fit(request, lambda step: bar.advance(step.pictures))
    console.show(row)
