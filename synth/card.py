"""Companions of a finished set, for people and catalogues: data card, Croissant metadata, contact sheet."""

import shlex
from functools import cache
from typing import Any

import numpy as np

from synth.images.codecs import CODECS, encode_png
from synth.sets import checksums, croissant, front_matter, ledger
from synth.settings import written
from synth.vetting import programs

Json = dict[str, Any]

LICENCE = "CC0-1.0"
FILES = ("README.md", "croissant.json", "preview.png", checksums.NAME)

_LICENCE_URL = "https://creativecommons.org/publicdomain/zero/1.0/"
_MASKS = """
`000000123.mask.png` is an instance mask: 0 is the backdrop, i is object i of `params`, in drawing order.
`objects` holds each object's box, its area, its visible share and the objects that hide pixels of it."""
_FILES = ("table", "programs")  # settings that name a folder, and in an identity its sha256
_OPTIONS = ("size", "seed", "shard_size", "codec")  # of `shards`, by their names in an identity


def files(manifest: Json, sheet: np.ndarray) -> dict[str, bytes]:
    """Returns the companions of a manifest, by name. The sheet is uint8 (H, W, C)."""
    # Croissant takes the URL of a licence that has one.
    identity, licence = manifest["identity"], manifest["licence"]
    entries = croissant.About(
        description=f"{manifest['samples']:,} pictures drawn by formulas: {manifest['title']}",
        licence=_LICENCE_URL if licence == LICENCE else licence,
        provenance="drawn by exnihilo",
        extension=CODECS[identity["codec"]].extension,
        record="How the picture was drawn, as JSON.",
        masks="The instance mask." if manifest.get("masks") else "",
    )
    return {
        "README.md": _card(manifest).encode(),
        "croissant.json": croissant.document(manifest, entries),
        "preview.png": encode_png(sheet),
        checksums.NAME: checksums.document(manifest),
    }


def _card(manifest: Json) -> str:
    identity, parts = manifest["identity"], manifest["parts"]
    extension, classes = CODECS[identity["codec"]].extension, identity["config"]["classes"]
    size = f"{identity['size']} x {identity['size']}"
    settings = "\n".join(f"| {key} | {value} |" for key, value in identity["config"].items())

    # Licence.
    if manifest["licence"] == LICENCE:
        origin = "No photograph, no crawled file and no person's work went into them."
        licence = f"pictures, parameters and this card are {LICENCE} ({_LICENCE_URL}): no rights reserved."
        warning = ""
    else:
        origin = "The formulas are other people's programs."
        licence = manifest["licence"]
        warning = " (not for commercial use: see Licence)" if licence.startswith("NOT") else ""

    head = front_matter.of_dataset(
        identity["dataset"],
        manifest["title"],
        manifest["licence"],
        manifest["samples"],
        tasks=("unconditional-image-generation", "image-classification"),
        tags=("webdataset", "synthetic", "formula-driven"),
        splits={"train": f"{identity['dataset']}-*.tar"},
    )
    return f"""{head}# {identity["dataset"]}{warning}: {manifest["title"]}

{manifest["samples"]:,} pictures of {size} pixels in {classes:,} classes, drawn by formulas.
{origin}

![The first pictures](preview.png)

Licence: {licence}

## Files
{len(parts):,} tar files in WebDataset's layout, {sum(p["bytes"] for p in parts):,} bytes.
`000000123.{extension}` is a picture. `000000123.json` holds its `class`, its `instance`, every parameter
(`params`) and measured `stats`: fill, bounding box [left, top, right, bottom), mean and modal colour of
foreground and background.
{_channels(manifest["channels"], extension)}{_MASKS if manifest.get("masks") else ""}
Picture i is instance i div {classes} of class i mod {classes}.
`manifest.json` lists every tar with its sha256; `sha256sum -c {checksums.NAME}` compares them.

```python
import webdataset as wds

shards = wds.WebDataset("{croissant.pattern(parts)}", shardshuffle=False)
samples = shards.decode("pil").to_tuple("{extension}", "json")
```

{croissant.sharing(parts)}

## Origin
Family `{identity["family"]}`, law {identity["law"]}, seed {identity["seed"]}, codec {identity["codec"]}.
Fingerprint `{manifest["fingerprint"]}`.
Manifest digest, which caption tables and runs record: `{ledger.manifest_digest(manifest)}`.

| setting | value |
| --- | --- |
{settings}

This command, in a checkout of exnihilo, draws the same pictures again:

```
{_command(manifest)}
```
{_folders(identity)}"""


def _channels(channels: int, extension: str) -> str:
    """Returns the sentence about the channels of stored pictures. WebP has no grey."""
    if channels == 3:
        return "Pictures are RGB."
    if extension == "webp":
        return "Pictures are RGB, with three equal channels."
    return "Pictures have one grey channel; widen it to three equal ones if your model needs RGB."


def _command(manifest: Json) -> str:
    """Returns the command that draws the set again, one line a setting."""
    identity = manifest["identity"]
    options = [f"--{name.replace('_', '-')} {identity[name]}" for name in _OPTIONS]
    settings = [
        "--set " + shlex.quote(f"{key}={key.upper() if key in _FILES and value else written(value)}")
        for key, value in identity["config"].items()
        if (key, value) != ("programs", _shipped())
    ]
    command = f"python -m synth shards {identity['dataset']} --n {manifest['samples']} --out DIR"
    return " \\\n    ".join([command, " ".join(options), *settings])


def _folders(identity: Json) -> str:
    """Returns a sentence about each setting of the command that names a folder."""
    config = identity["config"]
    given = [key for key in _FILES if config.get(key) and (key, config[key]) != ("programs", _shipped())]
    lines = [f"{key.upper()} is the folder of the {key} with the sha256 `{config[key]}`.\n" for key in given]
    return "\n" + "".join(lines) if lines else ""


@cache
def _shipped() -> str:
    """Returns the sha256 of the shipped programs, which no command needs to name."""
    return programs.shipped().sha256
