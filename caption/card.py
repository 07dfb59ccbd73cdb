"""The card of finished caption tables: their content, and the training data of the encoder."""

from typing import Any

from caption import encoders
from synth.sets import ledger

Json = dict[str, Any]

FILES = ("README.md",)

_FORMULAS_ONLY = "It was trained on formula pictures and their attribute sentences only: no photograph, nothing from the web."
_AND_EMOJI = (
    "It was trained on formula pictures, and on a drawn emoji font with its names: not on formulas only."
)
_SEE_ITS_OWN = "What it was trained on is its owners' to say; the models of open_clip's list, OpenAI's among them, have seen the web."

_SHIPPED = dict(zip(encoders.SHIPPED, (_FORMULAS_ONLY, _AND_EMOJI), strict=True))


def files(manifest: Json) -> dict[str, bytes]:
    """Returns the card of a manifest, by file name."""
    identity, parts = manifest["identity"], manifest["parts"]
    # Shipped encoders are recognised by their weights, because any folder may be called nano.
    shipped = {encoders.find(name).sha256: said for name, said in _SHIPPED.items()}
    seen = shipped.get(identity["weights"], _SEE_ITS_OWN)
    noise = f"moved by noise, xi = {identity['xi']:g} (draw 0 of seed {identity['seed']})"
    captions = (
        "sentences that the picture's parameters make true" if identity["sentences"] else "people's captions"
    )
    size = f"{manifest['samples']:,} rows in {len(parts):,} Parquet files, {sum(p['bytes'] for p in parts):,} bytes"
    text = f"""# Captions of {identity["shards"]["dataset"]}, by {identity["encoder"]}

{size}: one a shard, of its stem and in its order.

| column | what |
| --- | --- |
| key | the sample's key |
| index | its row number in the set |
| image_embedding | {identity["dimensions"]} x float16, unit length: the picture, by the encoder |
| pseudo_caption | {identity["dimensions"]} x float16, unit length: that embedding {noise} |
| caption | {captions} |
{"| text_embedding | theirs, unit length |" if identity["text_embeddings"] else ""}

Encoder: `{identity["encoder"]}`, weights sha256 `{identity["weights"]}`, computed in {identity["precision"]}. {seen}
Shards: manifest digest `{manifest["shards"]["digest"]}`. Licence: {manifest["licence"]}
Digest of these tables (what later stages pin): `{ledger.manifest_digest(manifest)}`.

```python
import pyarrow.parquet as pq
table = pq.read_table("{parts[0]["file"]}", columns=["key", "image_embedding"])
```
"""
    return {"README.md": text.encode()}
