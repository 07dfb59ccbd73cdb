"""Companions of a prepared set: data card, Croissant metadata, contact sheet."""

from itertools import islice
from typing import Any

import numpy as np

from synth.images.codecs import CODECS, encode_png
from synth.images.pictures import contact_sheet
from synth.sets import checksums, croissant, front_matter, ledger, shards
from synth.sets.storage import Storage

FILES = ("README.md", "croissant.json", "preview.png", checksums.NAME)

_SHOWN = 64  # pictures of a preview
_TASKS = ("text-to-image", "image-to-text")
_TASKS_WITHOUT_TEXT = ("unconditional-image-generation",)
_NAMED = 20  # originals that a card names; the manifest has all

Json = dict[str, Any]


def files(manifest: Json, storage: Storage) -> dict[str, bytes]:
    """Returns the companions of a finished set by name. The contact sheet shows stored pictures."""
    captioned = _count(manifest, "captions") > 0
    metadata = croissant.About(
        description=f"{manifest['samples']:,} pictures{' with captions' * captioned}: {manifest['title']}",
        licence=manifest["licence"],
        provenance=f"from {manifest['source']}, prepared by exnihilo",
        extension=CODECS[manifest["identity"]["codec"]].extension,
        record="The original of the picture, its size and its crop, as JSON.",
        captions="People's captions, one a line." if captioned else "",
        numbered="split" in manifest["identity"],
        folders=any("/" in key for part in manifest["parts"] for key in part["content"].get("keys", ())),
    )
    return {
        "README.md": _card(manifest).encode(),
        "croissant.json": croissant.document(manifest, metadata),
        "preview.png": encode_png(_sheet(manifest, storage)),
        checksums.NAME: checksums.document(manifest),
    }


def _sheet(manifest: Json, storage: Storage) -> np.ndarray:
    """Returns a contact sheet of stored pictures from all over the first shard: uint8 (H, W, 3)."""
    # An odd step, because an even one may skip classes: some owners let their classes take turns.
    shard = manifest["parts"][0]
    step = max(1, shard["count"] // _SHOWN - 1) | 1

    with storage.whole(shard["file"]) as file:
        name = storage.join(shard["file"])
        shown = islice(shards.read_members(file, name), 0, step * _SHOWN, step)
        return contact_sheet([shards.decode(key, files, name).pixels for key, files in shown])


def _card(manifest: Json) -> str:
    """Returns the text of README.md."""
    # Counts.
    identity, parts = manifest["identity"], manifest["parts"]
    captions, grey = _count(manifest, "captions"), _count(manifest, "grey")
    size = sum(p["bytes"] for p in parts)

    # Names of members. Only a split has numbers as keys.
    extension = CODECS[identity["codec"]].extension
    split, key = "", "KEY"
    if "split" in identity:
        split, key = f"Split `{identity['split']}` (`../splits.json` lists its originals); ", "000000123"
    texts, lines = ("txt", f"\n`{key}.txt` holds its captions, one per line.") if captions else ("json", "")

    # Card.
    head = front_matter.of_dataset(
        identity["dataset"],
        manifest["title"],
        manifest["licence"],
        manifest["samples"],
        tasks=_TASKS if captions else _TASKS_WITHOUT_TEXT,
        tags=("webdataset",),
        splits={identity.get("split", "train"): f"{identity['dataset']}-*.tar"},
    )
    return f"""{head}# {identity["dataset"]}: {manifest["title"]}

{manifest["samples"]:,} pictures of {identity["size"]} x {identity["size"]} pixels with {captions:,} captions.

![Some of the pictures](preview.png)

Source: {manifest["source"]}

Licence: {manifest["licence"]}

## Files
{len(parts):,} tar files in WebDataset's layout, {size:,} bytes. `{key}.{extension}` is a picture.{lines}
`{key}.json` names its original, with the original's size and the crop.
`manifest.json` lists every tar with its sha256; `sha256sum -c {checksums.NAME}` compares them.

```python
import webdataset as wds
samples = wds.WebDataset("{croissant.pattern(parts)}", shardshuffle=False)
pictures = samples.decode("pil").to_tuple("{extension}", "{texts}")
```

{croissant.sharing(parts)}

## Preparation
{split}{identity["crop"]} crop, {identity["filter"]} filter, codec {identity["codec"]}.
{grey:,} pictures were grey and became RGB. {_left_out(manifest["left_out"])}{_empty(manifest)}
Manifest digest, to which later stages are pinned: `{ledger.manifest_digest(manifest)}`.
"""


def _left_out(originals: list[Json]) -> str:
    """Returns the sentence about originals without a sample, and a list of the first of them."""
    if not originals:
        return "No picture was left out."
    names = "\n".join(f"- `{o['name']}`: {o['reason']}" for o in originals[:_NAMED])
    more = f"\n- and {len(originals) - _NAMED:,} more, in `manifest.json`" if len(originals) > _NAMED else ""
    return f"{len(originals):,} could not be used and were left out:\n\n{names}{more}\n"


def _empty(manifest: Json) -> str:
    """Returns the sentence about tars that held no samples, if there were any."""
    if not (names := manifest.get("empty_tars")):
        return ""
    more = f" and {len(names) - _NAMED:,} more, in `manifest.json`" if len(names) > _NAMED else ""
    named = ", ".join(f"`{name}`" for name in names[:_NAMED])
    return f"\nTars that held no sample, and have no part here: {named}{more}.\n"


def _count(manifest: Json, name: str) -> int:
    return sum(p["content"][name] for p in manifest["parts"])
