"""The card of a real set as a whole. With it, hubs take the folder of the splits for one data set."""

from collections.abc import Mapping
from typing import Any

from data.originals import Source
from data.splits import CARD
from synth.sets import front_matter, ledger
from synth.sets.storage import Storage, open_storage

Json = dict[str, Any]


def write(out: str, source: Source, law: str, sets: Mapping[str, Storage]) -> None:
    """Writes the card of finished sets, by split. Leaves a card with the same content alone."""
    data = _card(source, law, {split: ledger.read_manifest(place) for split, place in sets.items()}).encode()
    storage = open_storage(out)
    if storage.sizes().get(CARD) != len(data) or storage.read(CARD) != data:
        storage.write(CARD, data)


def _card(source: Source, law: str, manifests: Mapping[str, Json]) -> str:
    captions = sum(part["content"]["captions"] for m in manifests.values() for part in m["parts"])
    samples = sum(m["samples"] for m in manifests.values())
    head = front_matter.of_dataset(
        source.name,
        source.title,
        source.licence,
        samples,
        tasks=("text-to-image", "image-to-text") if captions else ("unconditional-image-generation",),
        tags=("webdataset",),
        splits={split: f"{split}/{m['identity']['dataset']}-*.tar" for split, m in manifests.items()},
    )
    rows = [
        f"| [{split}]({split}/README.md) | {m['samples']:,} | {len(m['parts']):,} |"
        for split, m in manifests.items()
    ]
    return f"""{head}# {source.name}: {source.title}

{samples:,} pictures with {captions:,} captions, in tar files of WebDataset's layout.

| split | pictures | tar files |
| --- | --- | --- |
{chr(10).join(rows)}

Source: {source.place or source.title}

Licence: {source.licence}

The splits: {law}. `splits.json` lists their originals.

```python
import datasets
pictures = datasets.load_dataset("DIR", streaming=True)
```
"""
