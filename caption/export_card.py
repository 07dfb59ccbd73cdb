"""Companions of an export: its card, and what the readers of other projects look for beside tars."""

import json
from typing import Any

from synth.sets import checksums, croissant, front_matter, ledger

FILES = ("README.md", "croissant.json", "sizes.json", checksums.NAME)

_CAPTIONS = {
    "long": "the longest caption of the sample",
    "short": "the shortest caption of the sample",
    "random": "one caption of the sample, drawn by the seed and its index",
    "all": "all captions of the sample, one a line",
    "synthetic": "a caption of the sample by a captioner",
}

Json = dict[str, Any]


def files(manifest: Json, first: str) -> dict[str, bytes]:
    """Returns the companions of a finished export, by name. `first` is the name of its first picture."""
    extension = first.rpartition(".")[2]
    sizes = {part["file"]: part["count"] for part in manifest["parts"]}
    identity = manifest["identity"]
    entries = croissant.About(
        description=f"{manifest['samples']:,} {manifest['title']}",
        licence=manifest["licence"],
        provenance="exported by exnihilo",
        extension=extension,
        record="The sample's parameters or origin, as JSON.",
        captions=f"A text: {_CAPTIONS[identity['export']['caption']]}.",
        numbered=False,
        folders="/" in first,
    )
    return {
        "README.md": _card(manifest, extension).encode(),
        "croissant.json": croissant.document(manifest, entries),
        "sizes.json": json.dumps(sizes, indent=1).encode() + b"\n",
        checksums.NAME: checksums.document(manifest),
    }


def _card(manifest: Json, extension: str) -> str:
    # Counts.
    identity, parts = manifest["identity"], manifest["parts"]
    name, form = identity["dataset"], identity["export"]
    left_out = sum(len(part["content"]["left_out"]) for part in parts)
    pattern = croissant.pattern(parts)

    # Captioner.
    captioner = manifest["tables"].get("captioner")
    by = f"by the captioner `{captioner}`, " if captioner else ""

    # Members.
    members = [(f"KEY.{extension}", "the picture"), ("KEY.json", "its parameters or origin, if it has any")]
    members.append(("KEY.txt", _CAPTIONS[form["caption"]]))
    if form["classes"]:
        members.append(("KEY.cls", "the number of its class"))
    if form["embeddings"]:
        vectors = f"by `{manifest['tables']['encoder']}`, float16, unit length"
        members.append(("KEY.image_embedding.npy", f"its embedding {vectors}"))
        members.append(("KEY.pseudo_caption.npy", "that embedding moved by noise"))
    rows = "\n".join(f"| `{member}` | {content} |" for member, content in members)

    # Card.
    head = front_matter.of_dataset(
        name,
        manifest["title"],
        manifest["licence"],
        manifest["samples"],
        tasks=("text-to-image", "image-to-text"),
        tags=("webdataset",),
        splits={identity.get("split", "train"): f"{name}-*.tar"},
    )
    return f"""{head}# {name}: {manifest["title"]}

{manifest["samples"]:,} pictures with captions, in {len(parts):,} tar files of WebDataset's layout,
{sum(p["bytes"] for p in parts):,} bytes. {left_out:,} samples without a caption were left out.

| member | content |
| --- | --- |
{rows}

`sizes.json` has the number of samples of each tar, which open_clip reads:

```
python -m open_clip_train.main --dataset-type webdataset --train-data "{pattern}" --model ViT-B-32
```

{croissant.sharing(parts)} `sha256sum -c {checksums.NAME}` compares the files.

Licence: {manifest["licence"]}

Pictures: `{manifest["shards"]["dataset"]}`, manifest digest `{manifest["shards"]["digest"]}`.
Captions: {by}tables of `{manifest["tables"]["encoder"]}`, digest `{manifest["tables"]["digest"]}`.
Manifest digest, to which later stages are pinned: `{ledger.manifest_digest(manifest)}`.
"""
