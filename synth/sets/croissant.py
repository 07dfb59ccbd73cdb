"""Croissant metadata (MLCommons) of a finished set: what catalogues of data sets read."""

import json
from dataclasses import dataclass
from typing import Any

from synth.sets import ledger

Json = dict[str, Any]

_MEDIA = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}


@dataclass(frozen=True)
class About:
    """The entries of a set that its stage knows."""

    description: str
    licence: str
    provenance: str  # for citing, such as "drawn by exnihilo"
    extension: str  # of its pictures
    record: str  # description of a sample's JSON
    captions: bool = False  # samples have a .txt
    numbered: bool = True  # keys are indices in nine digits
    folders: bool = False  # keys are paths


def document(manifest: Json, entries: About) -> bytes:
    """Returns Croissant 1.1 metadata (MLCommons): every tar with its sha256, the pictures, their JSON and
    captions within, and their fields."""
    return json.dumps(_document(manifest, entries), indent=1, ensure_ascii=False).encode() + b"\n"


def pattern(parts: list[Json]) -> str:
    """Returns the tars of a set as readers of WebDataset take them: NAME-{000000..000012}.tar."""
    # Names end in a number of at least six digits.
    first, last = parts[0]["file"], parts[-1]["file"]
    stem = first[: -len("000000.tar")]
    return first if first == last else f"{stem}{{{first[len(stem) : -4]}..{last[len(stem) : -4]}}}.tar"


def _document(manifest: Json, entries: About) -> Json:
    identity, extension = manifest["identity"], entries.extension

    # Files: the tars, and the sets of files within them.
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
    if entries.captions:
        sets.append(_file_set("caption-files", "text/plain", "*.txt", within))

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
    sentences = "People's captions, one a line."
    captions = [
        _field("captions/key", "sc:Text", key, "caption-files", file_name, transform=regex),
        _field("captions/captions", "sc:Text", sentences, "caption-files", "content"),
    ]

    citation = f"{entries.provenance}, manifest digest {ledger.manifest_digest(manifest)}"
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": identity["dataset"],
        "description": entries.description,
        "license": entries.licence,
        "citeAs": f"{identity['dataset']}, {citation}",
        "version": f"{identity['law']}.0.0",
        "datePublished": manifest["run"]["finished"][:10],
        "distribution": [*tars, *sets],
        "recordSet": [
            _record_set("pictures", pictures),
            _record_set("records", records),
            *([_record_set("captions", captions)] if entries.captions else []),
        ],
    }


def _file_set(name: str, media: str, pattern: str, within: list[Json]) -> Json:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "containedIn": within,
        "encodingFormat": media,
        "includes": pattern,
    }


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
