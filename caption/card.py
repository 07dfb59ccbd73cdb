"""Companions of finished caption tables: card, Croissant metadata, checksums."""

import json
from typing import Any

from caption import encoders
from synth.sets import checksums, croissant, front_matter, ledger
from synth.sets.croissant import Column

Json = dict[str, Any]

FILES = ("README.md", "croissant.json", checksums.NAME)

_FORMULAS_ONLY = (
    "Its training data are formula pictures and their attribute sentences only:"
    " no photograph, nothing from the web."
)
_AND_EMOJI = (
    "Its training data are formula pictures, and a drawn emoji font with its names: not formulas only."
)
_AND_SCENES = (
    "Its training data are formula pictures and scenes with their sentences only:"
    " no photograph, nothing from the web."
)
_SEE_ITS_OWN = (
    "Its owners know its training data."
    " The models of open_clip's list, OpenAI's among them, were trained on pictures from the web."
)

_TRAINING_DATA = dict(zip(encoders.SHIPPED, (_FORMULAS_ONLY, _AND_EMOJI, _AND_SCENES), strict=True))


def files(manifest: Json, folder: str) -> dict[str, bytes]:
    """Returns the companions of finished tables, by file name. `folder` is that of the tables."""
    columns = _columns(manifest["identity"])
    return {
        "README.md": _card(manifest, folder, columns).encode(),
        "croissant.json": _croissant(manifest, folder, columns),
        checksums.NAME: checksums.document(manifest, folder),
    }


def _columns(identity: Json) -> list[Column]:
    """Returns the columns of the tables, the key first."""
    # Descriptions.
    vector, texts = str(identity["dimensions"]), identity["text_embeddings"]
    unit = f"{vector} x float16, unit length"
    noise = f"noise, xi = {identity['xi']:g} (draw 0 of seed {identity['seed']})"
    captions = "true sentences, from the picture's parameters" if identity["sentences"] else "human captions"

    # Columns.
    columns = [
        Column("key", "sc:Text", "the sample's key"),
        Column("index", "sc:Integer", "its row number in the set"),
        Column("image_embedding", "cr:Float16", f"{unit}: the encoder's embedding of the picture", vector),
        Column("pseudo_caption", "cr:Float16", f"{unit}: that embedding moved by {noise}", vector),
        Column("caption", "sc:Text", captions, "-1"),
    ]
    embeddings = "the encoder's embeddings of the captions, unit length"
    if texts:
        columns.append(Column("text_embedding", "cr:Float16", embeddings, f"-1,{vector}"))

    # Bare names.
    if "names" in identity:
        columns.append(Column("name", "sc:Text", "the picture's bare name: a ground truth", "-1"))
        embedded = "the encoder's embedding of the name, unit length"
        columns.append(Column("name_embedding", "cr:Float16", embedded, f"-1,{vector}"))

    # Columns of a captioner.
    if "captioner" in identity:
        described = f"the caption by {identity['captioner']['model']}"
        embedded = "the encoder's embedding of the caption by the captioner, unit length"
        columns.append(Column("synthetic_caption", "sc:Text", described, "-1"))
        columns.append(Column("synthetic_embedding", "cr:Float16", embedded, f"-1,{vector}"))
    return columns


def _croissant(manifest: Json, folder: str, columns: list[Column]) -> bytes:
    dataset, encoder = manifest["identity"]["shards"]["dataset"], manifest["identity"]["encoder"]
    description = (
        f"CLIP embeddings, pseudo-captions and captions of the {manifest['samples']:,} pictures of {dataset},"
        f" by {encoder}. A row belongs to the picture with its key. The tar of that picture has the name of"
        f" the table, in the set with manifest digest {manifest['shards']['digest']}."
    )
    name, provenance = f"{dataset} by {encoder}", "made by exnihilo"
    return croissant.of_tables(manifest, name, description, provenance, folder=folder, columns=columns)


def _card(manifest: Json, folder: str, columns: list[Column]) -> str:
    identity, parts = manifest["identity"], manifest["parts"]
    dataset, encoder = identity["shards"]["dataset"], identity["encoder"]

    # Shipped encoders are recognised by their weights, because any folder may be called nano.
    shipped = {encoders.find(name).sha256: sentence for name, sentence in _TRAINING_DATA.items()}
    training_data = shipped.get(identity["weights"], _SEE_ITS_OWN)

    # Front matter.
    head = front_matter.of_dataset(
        f"{dataset} by {encoder}",
        "captions and CLIP embeddings",
        manifest["licence"],
        manifest["samples"],
        tasks=("image-feature-extraction", "text-to-image"),
        tags=("clip", "embeddings"),
        splits={"train": f"{folder}*.parquet"},
    )

    # Card.
    size, precision = sum(p["bytes"] for p in parts), identity["precision"]
    rows = "\n".join(f"| {column.name} | {column.description} |" for column in columns)
    captioner = _captioner(identity.get("captioner"))
    return f"""{head}# Captions of {dataset}, by {encoder}

{manifest["samples"]:,} rows in {len(parts):,} Parquet files, {size:,} bytes. Each shard has one file, with
the same stem and the same order of rows. A row belongs to the sample with its key.

| column | content |
| --- | --- |
{rows}

Encoder: `{encoder}`, in {precision}, weights sha256 `{identity["weights"]}`.
{training_data}
{captioner}
Shards: manifest digest `{manifest["shards"]["digest"]}`. Licence: {manifest["licence"]}
Digest of these tables, to which later stages are pinned: `{ledger.manifest_digest(manifest)}`.
`sha256sum -c {checksums.NAME}` compares the files.

pandas, pyarrow.dataset, polars and duckdb read the files as one table:

```python
import pandas as pd
table = pd.read_parquet("{folder.rstrip("/") or parts[0]["file"]}", columns=["key", "image_embedding"])
```

fastparquet reads float16 as pairs of bytes, without an error. Use pyarrow, which pandas prefers.
"""


def _captioner(identity: Json | None) -> str:
    """Returns the paragraph about a captioner, or an empty text if the tables have none."""
    if identity is None:
        return ""
    source = f"files sha256 `{identity['weights']}`" if "weights" in identity else "behind an endpoint"
    prompt = f" Its prompt: {json.dumps(identity['prompt'])}" if "prompt" in identity else ""
    return f"""
Captioner: `{identity["model"]}`, {source}.{prompt}
Its captions may be wrong: nobody has compared them with the pictures.
"""
