"""Croissant metadata (MLCommons) of a finished set: what catalogues of data sets read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from synth.sets import ledger

Json = dict[str, Any]

_PARQUET = "application/x-parquet"
_MEDIA = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}


@dataclass(frozen=True)
class About:
    """The entries of a set that its stage knows."""

    description: str
    licence: str
    provenance: str  # for citing, such as "drawn by exnihilo"
    extension: str  # of its pictures
    record: str  # description of a sample's JSON
    captions: str = ""  # description of a sample's .txt, if samples have one
    numbered: bool = True  # keys are indices in nine digits
    folders: bool = False  # keys are paths
    masks: str = ""  # description of a sample's .mask.png, if samples have one


@dataclass(frozen=True)
class Column:
    """A column of Parquet files."""

    name: str
    kind: str  # Croissant's data type of its values
    description: str
    shape: str | None = None  # of an array: "128", or "-1" for any length


def document(manifest: Json, entries: About) -> bytes:
    """Returns Croissant 1.1 metadata (MLCommons): every tar with its sha256, the pictures, their JSON and
    captions within, and their fields."""
    return _encoded(_document(manifest, entries))


def of_tables(
    manifest: Json, name: str, description: str, provenance: str, *, folder: str, columns: Sequence[Column]
) -> bytes:
    """Returns Croissant 1.1 metadata of Parquet files: every file with its sha256, and their columns.

    `folder` is that of the files, below the metadata's, with a slash. The first column is the key."""
    files = _file_objects(manifest["parts"], _PARQUET, folder)
    tables = _file_set("table-files", _PARQUET, f"{folder}*.parquet")
    fields = [_column_field(column) for column in columns]
    rows = {**_record_set("rows", fields), "key": {"@id": fields[0]["@id"]}}
    licence = manifest["licence"]
    return _encoded(
        _dataset(manifest, name, description, licence, provenance, distribution=[*files, tables], sets=[rows])
    )


def pattern(parts: list[Json]) -> str:
    """Returns the tars of a set as readers of WebDataset take them: NAME-{000000..000012}.tar."""
    # Names end in a number of at least six digits.
    first, last = parts[0]["file"], parts[-1]["file"]
    stem = first[: -len("000000.tar")]
    return first if first == last else f"{stem}{{{first[len(stem) : -4]}..{last[len(stem) : -4]}}}.tar"


def sharing(parts: list[Json]) -> str:
    """Returns the sentence about the workers of a reader, for whom the tars of a set must suffice."""
    count = f"{len(parts):,} workers" if len(parts) > 1 else "one worker"
    return f"Readers give whole tars to their workers, so use at most {count}."


def _document(manifest: Json, entries: About) -> Json:
    identity, extension = manifest["identity"], entries.extension

    # Files: the tars, and the sets of files within them.
    tars = _file_objects(manifest["parts"], "application/x-tar")
    within = [{"@id": tar["@id"]} for tar in tars]
    sets = [
        _file_set("picture-files", _MEDIA[extension], _pictures(entries), within),
        _file_set("record-files", "application/json", "*.json", within),
    ]
    if entries.captions:
        sets.append(_file_set("caption-files", "text/plain", "*.txt", within))

    if entries.masks:
        sets.append(_file_set("mask-files", _MEDIA["png"], "*.mask.png", within))

    # Fields, each from one set of files.
    key = "The sample's key: its index in nine digits." if entries.numbered else "The sample's key."
    regex = {"regex": "([0-9]{9})" if entries.numbered else r"([^./]+)\.[^/]*$"}
    file_name = "filename"
    if entries.folders:
        file_name, regex = "fullpath", {"regex": r"((?:.*/)?[^./]+)\.[^/]*$"}
    pictures = [
        _field("pictures/key", "sc:Text", key, "picture-files", file_name, transform=regex),
        _field("pictures/picture", "sc:ImageObject", "The picture.", "picture-files", "content"),
    ]
    records = [
        _field("records/key", "sc:Text", key, "record-files", file_name, transform=regex),
        _field("records/record", "sc:Text", entries.record, "record-files", "content"),
    ]
    captions = [
        _field("captions/key", "sc:Text", key, "caption-files", file_name, transform=regex),
        _field("captions/captions", "sc:Text", entries.captions, "caption-files", "content"),
    ]
    masks = [
        _field("masks/key", "sc:Text", key, "mask-files", file_name, transform=regex),
        _field("masks/mask", "sc:ImageObject", entries.masks, "mask-files", "content"),
    ]

    record_sets = [_record_set("pictures", pictures), _record_set("records", records)]
    if entries.captions:
        record_sets.append(_record_set("captions", captions))
    if entries.masks:
        record_sets.append(_record_set("masks", masks))
    return _dataset(
        manifest,
        identity["dataset"],
        entries.description,
        entries.licence,
        entries.provenance,
        distribution=[*tars, *sets],
        sets=record_sets,
    )


def _pictures(entries: About) -> str:
    """Returns the glob of the pictures' names. Masks end in .png too, so keys are spelt out beside them."""
    return f"{'[0-9]' * 9}.{entries.extension}" if entries.masks else f"*.{entries.extension}"


def _dataset(
    manifest: Json,
    name: str,
    description: str,
    licence: str,
    provenance: str,
    *,
    distribution: list[Json],
    sets: list[Json],
) -> Json:
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": description,
        "license": licence,
        "citeAs": f"{name}, {provenance}, manifest digest {ledger.manifest_digest(manifest)}",
        "version": f"{manifest['identity']['law']}.0.0",
        "datePublished": manifest["run"]["finished"][:10],
        "distribution": distribution,
        "recordSet": sets,
    }


def _file_objects(parts: list[Json], media: str, folder: str = "") -> list[Json]:
    """Returns the entries of a set's parts, which lie in a folder below the metadata's."""
    return [
        {
            "@type": "cr:FileObject",
            "@id": part["file"],
            "name": part["file"],
            "contentUrl": f"{folder}{part['file']}",
            "contentSize": f"{part['bytes']} B",
            "encodingFormat": media,
            "sha256": part["sha256"],
        }
        for part in parts
    ]


def _file_set(name: str, media: str, pattern: str, within: list[Json] | None = None) -> Json:
    contained = {"containedIn": within} if within else {}
    entries = {"encodingFormat": media, "includes": pattern}
    return {"@type": "cr:FileSet", "@id": name, "name": name, **contained, **entries}


def _record_set(name: str, fields: list[Json]) -> Json:
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}


def _field(name: str, kind: str, description: str, source: str, extract: str, **origin: Json) -> Json:
    # The property of a file that holds the value, and how to cut it out.
    origin = {"fileSet": {"@id": source}, "extract": {"fileProperty": extract}, **origin}
    return {
        "@type": "cr:Field",
        "@id": name,
        "name": name,
        "description": description,
        "dataType": kind,
        "source": origin,
    }


def _column_field(column: Column) -> Json:
    name = f"rows/{column.name}"
    array = {"isArray": True, "arrayShape": column.shape} if column.shape else {}
    source = {"fileSet": {"@id": "table-files"}, "extract": {"column": column.name}}
    entries = {"description": column.description, "dataType": column.kind, **array, "source": source}
    return {"@type": "cr:Field", "@id": name, "name": name, **entries}


def _encoded(tree: Json) -> bytes:
    return json.dumps(tree, indent=1, ensure_ascii=False).encode() + b"\n"


# The context of Croissant 1.1, as its specification gives it.
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
