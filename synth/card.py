"""Companions of a finished set, for people and catalogues: data card, Croissant metadata, contact sheet."""

from typing import Any

import numpy as np

from synth.images.codecs import CODECS, encode_png
from synth.sets import croissant, ledger

Json = dict[str, Any]

LICENCE = "CC0-1.0"
FILES = ("README.md", "croissant.json", "preview.png")

_LICENCE_URL = "https://creativecommons.org/publicdomain/zero/1.0/"


def files(manifest: Json, sheet: np.ndarray) -> dict[str, bytes]:
    """Returns the companions of a manifest, by name. The sheet is uint8 (H, W, C)."""
    identity, licence = manifest["identity"], manifest["licence"]
    about = croissant.About(
        description=f"{manifest['samples']:,} pictures drawn by formulas: {manifest['title']}",
        licence=_LICENCE_URL if licence == LICENCE else licence,
        made="drawn by exnihilo",
        extension=CODECS[identity["codec"]].extension,
        record="How the picture was drawn, as JSON.",
    )
    return {
        "README.md": _card(manifest).encode(),
        "croissant.json": croissant.document(manifest, about),
        "preview.png": encode_png(sheet),
    }


def _card(manifest: Json) -> str:
    identity, parts = manifest["identity"], manifest["parts"]
    extension, classes = CODECS[identity["codec"]].extension, identity["config"]["classes"]
    grey = manifest["channels"] == 1
    channels = (
        "Pictures are stored with one grey channel; widen them to three equal ones if your model wants RGB."
        if grey and extension != "webp"
        else "Pictures are RGB, with three equal channels."
        if grey
        else "Pictures are RGB."
    )
    settings = "\n".join(f"| {key} | {value} |" for key, value in identity["config"].items())
    own = manifest["licence"] == LICENCE
    origin = (
        "No photograph, no crawled file and no person's work went into them."
        if own
        else "The formulas are other people's programs."
    )
    licence = (
        f"pictures, parameters and this card are {LICENCE} ({_LICENCE_URL}): no rights reserved."
        if own
        else manifest["licence"]
    )
    warning = "" if own or not licence.startswith("NOT") else " (not for commercial use: see Licence)"
    return f"""# {identity["dataset"]}{warning}: {manifest["title"]}

{manifest["samples"]:,} pictures of {identity["size"]} x {identity["size"]} pixels in {classes:,} classes, drawn by formulas.
{origin}

![The first pictures](preview.png)

Licence: {licence}

## Files
{len(parts):,} tar files in WebDataset's layout, {sum(p["bytes"] for p in parts):,} bytes.
`000000123.{extension}` is a picture, `000000123.json` says how it was drawn: `class`, `instance`, every parameter
(`params`), and measured `stats`: fill, bounding box [left, top, right, bottom), mean and modal colour of foreground and background.
{channels}
Picture i is instance i div {classes} of class i mod {classes}. `manifest.json` lists every tar with its sha256.

```python
import webdataset as wds
pictures = wds.WebDataset("{croissant.pattern(parts)}", shardshuffle=False).decode("pil").to_tuple("{extension}", "json")
```

## How it was made
Family `{identity["family"]}`, law {identity["law"]}, seed {identity["seed"]}, codec {identity["codec"]}, fingerprint
`{manifest["fingerprint"]}`.
Manifest digest (what later stages pin): `{ledger.manifest_digest(manifest)}`.

| setting | value |
| --- | --- |
{settings}

Made again, from a checkout of exnihilo, picture by picture the same:

```
{_command(manifest)}
```
"""


def _command(manifest: Json) -> str:
    identity = manifest["identity"]
    settings = [f"--set {key}={_setting(v)}" for key, v in identity["config"].items()]
    return " \\\n    ".join(
        [
            f"python -m synth shards {identity['dataset']} --n {manifest['samples']} --out DIR",
            f"--size {identity['size']} --seed {identity['seed']} --shard-size {identity['shard_size']} --codec {identity['codec']}",
            *settings,
        ]
    )


def _setting(value: Any) -> str:
    return "none" if value is None else ",".join(map(str, value)) if isinstance(value, list) else str(value)
