"""Other people's tools read our files as they are: folders as data sets, exports, cards and catalogues.

README.md, "Tools", has the table of versions.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from caption import encoders, export
from caption.lean_imports import import_torchvision
from caption.table import CaptionSet
from synth.sets import front_matter
from synth.sets.shards import ShardSet
from tests.kit import ROOT, make_tables, prepare_set, samples, write, write_picture

pytestmark = pytest.mark.filterwarnings("ignore")  # the tools have warnings of their own

FIXTURE = ROOT / "tests/fixtures/at_2cbd3b2"
Places = dict[str, Path]


@pytest.fixture(scope="module")
def places(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Places:
    """A folder of each kind: shards, their tables and export; a real set, its tables and export."""
    place = tmp_path_factory.mktemp("tools")
    lines = ["image,caption"]
    for i in range(12):
        write_picture(place / f"pictures/{i}.png", i)
        lines += [f"{i}.png,picture {i}", f"{i}.png,another text of picture {i}"]
    write(place / "pictures/captions.csv", "\n".join(lines))
    options = ["--captions", "captions.csv", "--licence", "CC BY 4.0", "--shard-size", 5]
    prepare_set("folder", place / "pictures", place / "real", *options, "--test-share", 0.25)
    make_tables(place / "real/train", place / "real-tables", tiny_encoder)
    pairs = {"export": (captioned, undisturbed), "real-export": (place / "real-tables", place / "real/train")}
    for name, (tables, shards) in pairs.items():
        request = export.ExportRequest(str(tables), str(shards), str(place / name), workers=0)
        list(export.make_export(request))
    names = ("real", "real-tables", "export", "real-export")
    return {"shards": undisturbed, "tables": captioned, **{name: place / name for name in names}}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`datasets.load_dataset`, without progress bars and with a cache of its own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    return lambda place, **options: datasets.load_dataset(str(place), cache_dir=str(tmp_path), **options)


SPLITS = {  # with the columns that a reader looks for
    "shards": ({"train": 40}, {"png", "json"}),
    "export": ({"train": 40}, {"png", "json", "txt"}),
    "real": ({"train": 9, "test": 3}, {"png", "json", "txt"}),
    "tables": ({"train": 40}, {"key", "image_embedding", "pseudo_caption", "caption"}),
    "real-tables": ({"train": 9}, {"key", "image_embedding", "caption", "text_embedding"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", SPLITS)
def test_datasets_loads_a_folder_with_its_splits(
    places: Places, load: Callable[..., Any], name: str, streaming: bool
) -> None:
    counts, columns = SPLITS[name]
    loaded = {split: list(rows) for split, rows in load(places[name], streaming=streaming).items()}
    assert {split: len(rows) for split, rows in loaded.items()} == counts
    assert columns <= loaded["train"][0].keys()
    if "png" in columns:
        stored = samples(places["real"] / "test") if name == "real" else samples(places[name])
        for row, sample in zip(loaded["test" if name == "real" else "train"], stored, strict=True):
            assert row["__key__"] == sample.key and row["json"]["size"] == sample.metadata["size"]
            assert np.array_equal(np.asarray(row["png"].convert("RGB")), sample.pixels)


def rows_of(tables: Path) -> tuple[list[str], np.ndarray]:
    """Keys and embeddings of a set of tables, in its order."""
    caption_set = CaptionSet(str(tables))
    keys = [key for part in caption_set.parts for key in caption_set.read(part, ["key"])["key"].to_pylist()]
    return keys, np.concatenate([caption_set.vectors(part) for part in caption_set.parts])


def by_pandas(folder: Path) -> tuple[list[str], Any]:
    import pandas as pd

    frame = pd.read_parquet(folder)
    return list(frame["key"]), list(frame["image_embedding"])


def by_pyarrow(folder: Path) -> tuple[list[str], Any]:
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(folder).to_table(["key", "image_embedding"])
    return table["key"].to_pylist(), table["image_embedding"].to_pylist()


def by_polars(folder: Path) -> tuple[list[str], Any]:
    import polars as pl

    frame = pl.scan_parquet(folder).select("key", "image_embedding").collect()
    return frame["key"].to_list(), frame["image_embedding"].to_list()


def by_duckdb(folder: Path) -> tuple[list[str], Any]:
    import duckdb

    query = f"SELECT key, image_embedding FROM read_parquet('{folder}') ORDER BY index"
    rows = duckdb.connect().sql(query).fetchall()
    return [key for key, _ in rows], [vector for _, vector in rows]


@pytest.mark.parametrize("name", ["tables", "real-tables"])
@pytest.mark.parametrize("read", [by_pandas, by_pyarrow, by_polars, by_duckdb])
def test_the_folder_of_the_tables_is_one_table(
    places: Places, read: Callable[[Path], tuple[list[str], Any]], name: str
) -> None:
    keys, vectors = read(places[name] / "tables")
    expected_keys, expected = rows_of(places[name])
    assert keys == expected_keys and np.array_equal(np.array(vectors, np.float16), expected)


@pytest.fixture(scope="module")
def croissant(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library, with its cache in a temporary folder: it reads the variable as it is imported."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CROISSANT_CACHE", str(tmp_path_factory.mktemp("croissant")))
        import mlcroissant
    return mlcroissant


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shards", "export", "real/train", "tables", "real-tables"])
def test_croissant_validates_and_gives_every_sample(places: Places, name: str, croissant: Any) -> None:
    first, *below = name.split("/")
    place = places[first].joinpath(*below)
    catalogue = croissant.Dataset(jsonld=place / "croissant.json")
    assert not catalogue.metadata.issues.errors and not catalogue.metadata.issues.warnings
    expected = rows_of(place)[0] if name.endswith("tables") else [s.key for s in samples(place)]
    for record_set in catalogue.metadata.record_sets:
        rows = list(catalogue.records(record_set.name))
        keys = [row[f"{record_set.name}/key"].decode() for row in rows]
        assert sorted(keys) == sorted(expected), record_set.name
        assert all(len(row) == len(record_set.fields) for row in rows)


@pytest.mark.parametrize("name", ["export", "real-export"])
def test_webdataset_reads_an_export_by_the_pattern_of_its_card(places: Places, name: str) -> None:
    import webdataset as wds

    place = places[name]
    pattern = (place / "README.md").read_text().split('--train-data "')[1].split('"')[0]
    pipeline = (
        wds.WebDataset(f"{place}/{pattern}", shardshuffle=False)
        .decode("rgb8")
        .to_tuple("png", "txt", "__key__")
    )
    for (pixels, text, key), sample in zip(pipeline, samples(place), strict=True):
        assert key == sample.key and [text] == sample.captions and np.array_equal(pixels, sample.pixels)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["export", "real-export"])
def test_open_clip_reads_an_export(places: Places, name: str) -> None:
    """Through its own reader of a validation set. That of training fails with webdataset 1.x, on any set."""
    import_torchvision()
    from open_clip import get_tokenizer, image_transform
    from open_clip_train import data

    shard_set = ShardSet(str(places[name]))
    tars = f"{places[name]}/{{{','.join(shard.file for shard in shard_set.shards)}}}"
    assert data.get_dataset_size(tars) == (len(shard_set), len(shard_set.shards))
    arguments = SimpleNamespace(val_data=tars, val_num_samples=len(shard_set), batch_size=16, workers=0)
    tokenizer, transform = (
        get_tokenizer(f"local-dir:{ROOT / 'data/nano'}"),
        image_transform(64, is_train=False),
    )
    loader = data.get_wds_dataset(arguments, transform, is_train=False, tokenizer=tokenizer).dataloader
    batches = list(loader)
    assert sum(len(pictures) for pictures, _ in batches) == len(shard_set) == loader.num_samples
    texts = [text for sample in samples(places[name]) for text in sample.captions]
    assert np.array_equal(np.concatenate([tokens for _, tokens in batches]), tokenizer(texts))


def test_open_clip_drops_every_sample_of_shards_without_captions(undisturbed: Path, places: Places) -> None:
    """The reason for exports."""
    import_torchvision()
    from open_clip_train.data import filter_no_caption_or_no_image as keeps

    for place, kept in ((undisturbed, 0), (places["export"], 40)):
        shard_set = ShardSet(str(place))
        stored = [dict(files) for shard in shard_set.shards for _, files in shard_set.verified(shard)]
        assert sum(map(keeps, stored)) == kept


# Names that the hub knows; it refuses a model card with another.
TASKS = {
    *("text-to-image", "image-to-text", "unconditional-image-generation", "image-classification"),
    *("image-feature-extraction", "zero-shot-image-classification"),
}
CARDS = ["shards", "tables", "real", "real/train", "real/test", "real-tables", "export", "real-export"]


@pytest.mark.parametrize("name", CARDS)
def test_the_hubs_library_reads_the_card_of_a_data_set(places: Places, name: str) -> None:
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    first, *below = name.split("/")
    place = places[first].joinpath(*below)
    card = DatasetCard.load(place / "README.md")
    real = first.startswith("real")
    assert card.data.license == ("cc-by-4.0" if real else "cc0-1.0")
    assert card.data.size_categories == ["n<1K"] and card.text.lstrip().startswith("# ")
    assert set(card.data.task_categories) <= TASKS and len(card.data.pretty_name) > 8
    [config] = MetadataConfigs.from_dataset_card_data(card.data).values()
    for files in config["data_files"]:
        assert list(place.glob(files["path"])), files


@pytest.mark.parametrize("name", encoders.SHIPPED)
def test_the_hubs_library_reads_the_card_of_a_shipped_model(name: str) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(ROOT / "data" / name / "README.md")
    assert card.data.library_name == "open_clip" and card.data.pipeline_tag in TASKS
    assert card.data.license == ("other" if name == "nano-emoji" else "cc0-1.0")
    assert (card.data.license_name is None) == (name != "nano-emoji")


@pytest.mark.parametrize(
    ("licence", "entries"),
    [
        ("CC0-1.0", {"license": "cc0-1.0"}),
        ("CC BY-SA 4.0", {"license": "cc-by-sa-4.0"}),
        ("unknown, as its owner states it", {"license": "unknown"}),
        (
            "for research",
            {"license": "other", "license_name": "my-set-terms", "license_details": "for research"},
        ),
    ],
)
def test_a_licence_is_its_spdx_name_or_other_with_a_name(licence: str, entries: dict[str, str]) -> None:
    assert front_matter.licence_of("My Set", licence) == entries


def test_sizes_are_the_hubs_classes() -> None:
    from datasets.utils import resources

    known = json.loads(Path(resources.__file__).with_name("size_categories.json").read_text())
    classes = [front_matter.size_category(n) for n in (1, 999, 1000, 9999, 10_000, 10**6, 10**9, 10**10)]
    assert classes == ["n<1K", "n<1K", "1K<n<10K", "1K<n<10K", "10K<n<100K", "1M<n<10M", *["1B<n<10B"] * 2]
    assert set(classes) <= set(known)


def test_front_matter_holds_any_text() -> None:
    import yaml

    texts = ['a "b": \\ #', "- x\ny\t\x00\x7f", "é 狐 😀 \u2028 \ufeff", "", "null", "1.0", "*", "%", "{"]
    entries = {"pretty_name": "".join(texts), "tags": texts, "configs": [{"a": t, "b": texts} for t in texts]}
    head, _ = front_matter.text(entries).removeprefix("---\n").split("---\n\n")
    assert yaml.safe_load(head) == entries


def test_tables_beside_their_manifest_are_read_where_they_lie() -> None:
    """Tables of an older version: no reader takes their folder for one table, but everything of ours does."""
    tables = CaptionSet(str(FIXTURE / "captions/fractals/nano"))
    assert tables.place.url == tables.storage.url and len(rows_of(Path(tables.storage.url))[0]) == len(tables)


@pytest.mark.slow
@pytest.mark.parametrize("name", encoders.SHIPPED)
def test_transformers_embeds_as_the_shipped_encoders_do(name: str) -> None:
    import_torchvision()
    import transformers

    # Model.
    clip: Any = transformers.CLIPModel
    folder, encoder = ROOT / "data" / name, encoders.load(encoders.find(name))
    model, loading = clip.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()) and model.dtype == torch.float32

    # Embeddings.
    pixels = np.random.default_rng(3).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    texts = ["a red fractal on a black background", "Two shapes. " * 50, ""]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        planes = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        output = model(**tokens, pixel_values=planes)
    np.testing.assert_allclose(output.image_embeds, encoder.images(pixels), atol=1e-5)
    np.testing.assert_allclose(output.text_embeds, encoder.texts(texts), atol=1e-5)
