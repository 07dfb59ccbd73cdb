"""What lies beside a finished set for people and catalogues: data card, Croissant metadata, contact sheet."""

import json
from typing import Any

import numpy as np

from synth import ledger
from synth.codecs import CODECS, encode_png

Json = dict[str, Any]

LICENCE = "CC0-1.0"
FILES = ("README.md", "croissant.json", "preview.png")

_LICENCE_URL = "https://creativecommons.org/publicdomain/zero/1.0/"
_MEDIA = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}


def files(manifest: Json, sheet: np.ndarray) -> dict[str, bytes]:
    """The companions of a manifest, by name; the sheet is uint8 (H, W, C)."""
    croissant = json.dumps(_croissant(manifest), indent=1, ensure_ascii=False)
    return {"README.md": _card(manifest).encode(), "croissant.json": croissant.encode() + b"\n", "preview.png": encode_png(sheet)}


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
    origin = "No photograph, no crawled file and no person's work went into them." if own else "The formulas are other people's programs."
    licence = f"pictures, parameters and this card are {LICENCE} ({_LICENCE_URL}): no rights reserved." if own else manifest["licence"]
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
pictures = wds.WebDataset("{_pattern(parts)}", shardshuffle=False).decode("pil").to_tuple("{extension}", "json")
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


def _pattern(parts: list[Json]) -> str:
    first, last = parts[0]["file"], parts[-1]["file"]
    stem = first[: -len("000000.tar")]
    return first if first == last else f"{stem}{{{first[len(stem) : -4]}..{last[len(stem) : -4]}}}.tar"


def _croissant(manifest: Json) -> Json:
    """Croissant 1.1 (MLCommons): every tar with its sha256, the pictures and their JSON within, and their fields."""
    identity = manifest["identity"]
    extension = CODECS[identity["codec"]].extension
    tars = [
        {
            "@type": "cr:FileObject",
            "@id": part["file"],
            "name": part["file"],
            "contentUrl": part["file"],
            "contentSize": f"{part['bytes']} B",
            "encodingFormat": "application/x-tar",
            "sha256": part["sha256"],
        }
        for part in manifest["parts"]
    ]
    within = [{"@id": tar["@id"]} for tar in tars]
    sets = [
        _file_set("picture-files", _MEDIA[extension], f"*.{extension}", within),
        _file_set("record-files", "application/json", "*.json", within),
    ]
    key = "The sample's key: its index in nine digits."
    pictures = [
        _field("pictures/key", "sc:Text", key, "picture-files", "filename", transform={"regex": "([0-9]{9})"}),
        _field("pictures/picture", "sc:ImageObject", "The picture.", "picture-files", "content"),
    ]
    records = [
        _field("records/key", "sc:Text", key, "record-files", "filename", transform={"regex": "([0-9]{9})"}),
        _field("records/record", "sc:Text", "How the picture was drawn, as JSON.", "record-files", "content"),
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": identity["dataset"],
        "description": f"{manifest['samples']:,} pictures drawn by formulas: {manifest['title']}",
        "license": _LICENCE_URL if manifest["licence"] == LICENCE else manifest["licence"],
        "citeAs": f"{identity['dataset']}, drawn by exnihilo, manifest digest {ledger.manifest_digest(manifest)}",
        "version": f"{identity['law']}.0.0",
        "datePublished": manifest["run"]["finished"][:10],
        "distribution": [*tars, *sets],
        "recordSet": [_record_set("pictures", pictures), _record_set("records", records)],
    }


def _file_set(name: str, media: str, pattern: str, within: list[Json]) -> Json:
    return {"@type": "cr:FileSet", "@id": name, "name": name, "containedIn": within, "encodingFormat": media, "includes": pattern}


def _record_set(name: str, fields: list[Json]) -> Json:
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}


def _field(name: str, kind: str, description: str, source: str, extract: str, **origin: Json) -> Json:
    origin = {"fileSet": {"@id": source}, "extract": {"fileProperty": extract}, **origin}
    return {"@type": "cr:Field", "@id": name, "name": name, "description": description, "dataType": kind, "source": origin}


_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
