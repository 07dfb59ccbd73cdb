"""The tars of img2dataset (CC3M and other lists of the web), in place or rewritten. Pictures of several sizes
need rewriting.

In place, the command writes records and a manifest into the same folder and does not touch the tars. With
--out, it crops and scales every picture.
"""

from typing import Annotated, Any

from data import command, originals
from data.command import Workers
from data.originals import Source
from synth import console, options
from synth.errors import UserError
from synth.options import DryRun, Overwrite
from synth.sets import ledger
from synth.sets.completion import Execution
from synth.sets.storage import open_storage

LICENCE = "unknown: pictures and texts of the web, each its owner's"


def source_of(place: str, name: str | None, licence: str) -> Source:
    """Returns the source of the tars' pictures. Raises UserError if its name cannot name files."""
    set_name = originals.set_name(name, open_storage(place).url)
    return Source(
        set_name,
        f"pictures of {set_name}, fetched by img2dataset",
        "img2dataset (github.com/rom1504/img2dataset)",
        licence,
    )


def _report(url: str) -> None:
    """Prints the number of samples of a finished set that have no captions, if there are any."""
    manifest = ledger.read_manifest(open_storage(url))
    if bare := sum(p["content"]["without_captions"] for p in manifest["parts"]):
        count = f"{bare:,} of {manifest['samples']:,} samples"
        console.note(f"note: {count} have no caption, in a .txt or in their .json; they stay without")


EXAMPLE = "python -m data img2dataset --root ~/cc3m --name cc3m"  # of --help


def main(
    root: Annotated[str, command.folder("--root", "The tars: a folder or URL.")],
    out: Annotated[
        str | None,
        command.folder("--out", "A folder or URL of rewritten tars.  [default: the tars are used in place]"),
    ] = None,
    size: Annotated[
        int | None,
        options.integer(
            "--size",
            "Pixels a side of rewritten pictures, 1 to 4096.  [default: 256]",
            least=1,
            most=options.LARGEST,
        ),
    ] = None,
    codec: Annotated[
        str | None,
        options.text("--codec", "NAME", "Codec of rewritten pictures: png, webp or jpeg.  [default: png]"),
    ] = None,
    name: Annotated[
        str | None, options.text("--name", "NAME", "The set's name.  [default: the folder's]")
    ] = None,
    licence: Annotated[str, options.text("--licence", "TEXT", "The licence that the owners give.")] = LICENCE,
    workers: Workers = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Makes a set of shards of the tars in a folder or at a URL."""
    # Options.
    from data.img2dataset import adoption, rewriting

    if out is None and (size is not None or codec):
        raise UserError("--size and --codec describe rewritten tars; give --out too, or leave them out")

    # In place, or rewritten.
    source, execution = source_of(root, name, licence), Execution(workers, None, overwrite)
    module: Any = adoption
    request: Any = adoption.AdoptRequest(root, source, execution)
    if out is not None:
        pixels = 256 if size is None else size
        module = rewriting
        request = rewriting.RewriteRequest(root, source, out, pixels, codec or "png", execution)

    # Estimate or work.
    if dry_run:
        console.show({"out": out or root, **module.estimate(request)._asdict()})
        return
    command.finish(out or root, module.prepare(request))
    _report(out or root)
