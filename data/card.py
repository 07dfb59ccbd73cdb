"""Companions of a prepared set, for people and catalogues: data card, Croissant metadata, contact sheet."""

from itertools import islice
from typing import Any

import numpy as np

from synth.images.codecs import CODECS, encode_png
from synth.images.pictures import contact_sheet
from synth.sets import croissant, ledger, shards
from synth.sets.storage import Storage

FILES = ("README.md", "croissant.json", "preview.png")

_SHOWN = 64  # pictures of a preview
_NAMED = 20  # originals that a card names; the manifest has all

Json = dict[str, Any]


def files(manifest: Json, storage: Storage) -> dict[str, bytes]:
    """Returns the companions of a manifest by name. The contact sheet shows pictures of the stored shards."""
    about = croissant.About(
        description=f"{manifest['samples']:,} pictures with captions: {manifest['title']}",
        licence=manifest["licence"],
        provenance=f"from {manifest['source']}, prepared by exnihilo",
        extension=CODECS[manifest["identity"]["codec"]].extension,
        record="Which original it is, and how it was cropped and scaled, as JSON.",
        captions=_count(manifest, "captions") > 0,
        numbered="split" in manifest["identity"],
    )
    return {
        "README.md": _card(manifest).encode(),
        "croissant.json": croissant.document(manifest, about),
        "preview.png": encode_png(_sheet(manifest, storage)),
    }


def _sheet(manifest: Json, storage: Storage) -> np.ndarray:
    """Returns a contact sheet of pictures from all over the first shard, as stored: uint8 (H, W, 3)."""
    shard = manifest["parts"][0]
    step = max(1, shard["count"] // _SHOWN - 1) | 1  # odd: originals may take turns, class by class
    with storage.whole(shard["file"]) as file:
        samples = shards.read_shard(file, storage.join(shard["file"]))
        return contact_sheet([sample.pixels for sample in islice(samples, 0, step * _SHOWN, step)])


def _card(manifest: Json) -> str:
    identity, parts = manifest["identity"], manifest["parts"]
    extension = CODECS[identity["codec"]].extension
    captions, grey = _count(manifest, "captions"), _count(manifest, "grey")
    split = (
        f"Split `{identity['split']}` (`../splits.json` lists its originals); " if "split" in identity else ""
    )
    key, words = ("000000123" if split else "KEY"), ("txt" if captions else "json")
    return f"""# {identity["dataset"]}: {manifest["title"]}

{manifest["samples"]:,} pictures of {identity["size"]} x {identity["size"]} pixels with {captions:,} captions.

![The first pictures](preview.png)

Source: {manifest["source"]}

Licence: {manifest["licence"]}

## Files
{len(parts):,} tar files in WebDataset's layout, {sum(p["bytes"] for p in parts):,} bytes.
`{key}.{extension}` is a picture, `{key}.txt` holds its captions, one a line, and `{key}.json` says which original it is,
how large that was and which part of it is shown. `manifest.json` lists every tar with its sha256.

```python
import webdataset as wds
pictures = wds.WebDataset("{croissant.pattern(parts)}", shardshuffle=False).decode("pil").to_tuple("{extension}", "{words}")
```

## How it was prepared
{split}{identity["crop"]} crop, {identity["filter"]} filter, codec {identity["codec"]}.
{grey:,} pictures were grey and became RGB. {_left_out(manifest["left_out"])}
Manifest digest (what later stages pin): `{ledger.manifest_digest(manifest)}`.
"""


def _left_out(originals: list[Json]) -> str:
    if not originals:
        return "No picture was left out."
    named = "\n".join(f"- `{o['name']}`: {o['reason']}" for o in originals[:_NAMED])
    more = f"\n- and {len(originals) - _NAMED:,} more, in `manifest.json`" if len(originals) > _NAMED else ""
    return f"{len(originals):,} could not be used and were left out:\n\n{named}{more}\n"


def _count(manifest: Json, what: str) -> int:
    return sum(p["content"][what] for p in manifest["parts"])
