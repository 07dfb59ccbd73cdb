"""The tars of img2dataset (CC3M and other lists of the web), in place or rewritten. Pictures of several sizes
need rewriting.

In place, the command writes records and a manifest into the same folder and does not touch the tars. With
--out, it crops and scales every picture.
"""

from typing import Any

import click

from data import command, originals
from data.img2dataset import adoption, rewriting
from data.originals import Source
from synth import console
from synth.errors import UserError
from synth.sets import ledger
from synth.sets.completion import Execution
from synth.sets.storage import open_storage

LICENCE = "unknown: pictures and texts of the web, each its owner's"


def source_of(place: str, name: str | None, licence: str) -> Source:
    """Returns the source of the tars' pictures. Raises UserError if its name cannot name files."""
    found = originals.set_name(name, open_storage(place).url)
    return Source(
        found,
        f"pictures of {found}, fetched by img2dataset",
        "img2dataset (github.com/rom1504/img2dataset)",
        licence,
    )


def _report(url: str) -> None:
    """Says how many samples of a finished set have no captions."""
    manifest = ledger.read_manifest(open_storage(url))
    if bare := sum(p["content"]["without_captions"] for p in manifest["parts"]):
        console.note(
            f"note: {bare:,} of {manifest['samples']:,} samples have no caption, in a .txt or in their .json; they stay without"
        )


@click.command(epilog="\b\nExample:\n  python -m data.img2dataset.prepare ~/cc3m --name cc3m")
@click.argument("place", metavar="DIR", callback=command.at_home)
@click.option(
    "--out",
    callback=command.at_home,
    help="The place for rewritten tars; by default the tars are used in place.",
)
@click.option("--size", type=int, help="Pixels a side of rewritten pictures, 1 to 4096.  [default: 256]")
@click.option(
    "--codec", help="Codec of rewritten pictures: png, webp (lossless) or jpeg (quality 95).  [default: png]"
)
@click.option("--name", help="The set's name; by default the folder's.")
@click.option("--licence", default=LICENCE, show_default=True, help="What its owners permit.")
@command.making
def main(
    place: str,
    out: str | None,
    size: int | None,
    codec: str | None,
    name: str | None,
    licence: str,
    **options: Any,
) -> None:
    """Makes a set of shards of the tars in DIR, a folder or a URL."""
    source, how = source_of(place, name, licence), Execution(options["workers"], None, options["overwrite"])
    if how.workers is not None and how.workers < 0:
        raise UserError(f"--workers is {how.workers}; it must be at least 0")
    if out is None and (size is not None or codec):
        raise UserError(
            "--size and --codec say how tars are rewritten; give --out too, or neither to use them where they lie"
        )
    module: Any = adoption
    request: Any = adoption.AdoptRequest(place, source, how)
    if out is not None:
        module, request = (
            rewriting,
            rewriting.RewriteRequest(place, source, out, 256 if size is None else size, codec or "png", how),
        )
    if options["dry_run"]:
        console.show({"out": out or place, **module.estimate(request)._asdict()})
        return
    command.finish(out or place, module.prepare(request))
    _report(out or place)


if __name__ == "__main__":
    command.run(main, "data.img2dataset.prepare")
