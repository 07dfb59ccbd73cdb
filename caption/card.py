"""The card of finished caption tables: their content, and the training data of the encoder."""

from typing import Any

from caption import encoders
from synth.sets import ledger

Json = dict[str, Any]

FILES = ("README.md",)

_FORMULAS_ONLY = (
    "Its training data are formula pictures and their attribute sentences only:"
    " no photograph, nothing from the web."
)
_AND_EMOJI = (
    "Its training data are formula pictures, and a drawn emoji font with its names: not formulas only."
)
_SEE_ITS_OWN = (
    "Its owners know its training data."
    " The models of open_clip's list, OpenAI's among them, were trained on pictures from the web."
)

_TRAINING_DATA = dict(zip(encoders.SHIPPED, (_FORMULAS_ONLY, _AND_EMOJI), strict=True))


def files(manifest: Json) -> dict[str, bytes]:
    """Returns the card of finished tables, by file name."""
    identity, parts = manifest["identity"], manifest["parts"]

    # Shipped encoders are recognised by their weights, because any folder may be called nano.
    shipped = {encoders.find(name).sha256: sentence for name, sentence in _TRAINING_DATA.items()}
    training_data = shipped.get(identity["weights"], _SEE_ITS_OWN)

    # Columns.
    vector = f"{identity['dimensions']} x float16, unit length"
    noise = f"noise, xi = {identity['xi']:g} (draw 0 of seed {identity['seed']})"
    captions = "true sentences, from the picture's parameters" if identity["sentences"] else "human captions"
    texts = "| text_embedding | the encoder's embeddings of the captions, unit length |\n"

    # Card.
    size, precision = sum(p["bytes"] for p in parts), identity["precision"]
    text = f"""# Captions of {identity["shards"]["dataset"]}, by {identity["encoder"]}

{manifest["samples"]:,} rows in {len(parts):,} Parquet files, {size:,} bytes. Each shard has one file, with
the same stem and the same order of rows.

| column | content |
| --- | --- |
| key | the sample's key |
| index | its row number in the set |
| image_embedding | {vector}: the encoder's embedding of the picture |
| pseudo_caption | {vector}: that embedding moved by {noise} |
| caption | {captions} |
{texts if identity["text_embeddings"] else ""}
Encoder: `{identity["encoder"]}`, in {precision}, weights sha256 `{identity["weights"]}`.
{training_data}

Shards: manifest digest `{manifest["shards"]["digest"]}`. Licence: {manifest["licence"]}
Digest of these tables, to which later stages are pinned: `{ledger.manifest_digest(manifest)}`.

```python
import pyarrow.parquet as pq
table = pq.read_table("{parts[0]["file"]}", columns=["key", "image_embedding"])
```
"""
    return {"README.md": text.encode()}
