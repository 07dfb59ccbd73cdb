"""Blending: a synthetic caption with a probability, else the ground truth, by (seed, index, epoch)."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from caption import blending, worker
from caption.blending import Blend
from caption.join import dataset
from caption.sentences import names, scene_facts, scene_sentences
from caption.sentences.attributes import facts, parse
from caption.table import CaptionSet, text_vectors
from synth import seeds
from synth.errors import UserError
from synth.families import draw, scene_world
from synth.sets.shards import Sample, ShardSet
from tests.kit import ROOT, chat_server, invoke, make_small, make_tables, samples, write_foreign
from tests.kit_train import DENOISER, GAN, SETTINGS, first, joined, quiet, refused, stream
from train import runs
from train.model import Wanted
from train.start.request import TrainRequest
from train.stream import captioned_sets, live
from train.stream.batches import Batch
from train.stream.cache import Cache
from train.stream.captioned_sets import CaptionedSet
from train.stream.stream import Stream
from train.stream.visits import Text, Visit

TEXTS = [{"txt": f"picture {i}\nagain {i}".encode()} for i in range(40)]
FAMILIES = ("visual_atoms", "fractals", "fractals_multi", "noise")


@pytest.fixture(scope="module")
def named(undisturbed: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the small set with bare names."""
    out = tmp_path_factory.mktemp("named") / "t"
    make_tables(undisturbed, out, tiny_encoder, names=True)
    return out


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Iterator[tuple[Path, Path]]:
    """A set with two captions of people for each picture, and its tables with those of a captioner."""
    from caption.endpoint import Endpoint

    place = tmp_path_factory.mktemp("real")
    shards = write_foreign(place / "s", TEXTS, sizes=(32,))
    with chat_server() as address:
        endpoint = Endpoint(f"{address}/v1", "tiny", timeout=5.0, pause=0.01)
        make_tables(shards, place / "t", tiny_encoder, endpoint=endpoint)
    yield shards, place / "t"


def visit(text: str, seed: int = 4) -> Visit:
    return Visit(16, seed, Text.parse(text), 0.25, 0.0, GAN)


def column(tables: Path, name: str) -> list[Any]:
    """A column of all tables, by row of the set."""
    caption_set = CaptionSet(str(tables))
    read = [caption_set.read(part, [name])[name] for part in caption_set.parts]
    if not name.endswith("embedding"):
        return [value for chunk in read for value in chunk.to_pylist()]
    return [v.astype(np.float32) for chunk in read for v in text_vectors(chunk, caption_set.dimensions)]


def sources(shards: Path, tables: Path, text: str, columns: tuple[str, str], images: int = 80) -> list[Any]:
    """For each visit the number of its vector among those of either source, or None."""
    opened = stream(shards, tables, visit(text))
    opened.require_whole()
    [batch] = first(opened.batches(0, images), 1)
    vectors = [column(tables, name) for name in columns]
    firsts = [shard.first for shard in ShardSet(str(shards)).shards]
    rows = []
    for place, vector in zip(opened.order.places(0, images), batch.vectors["g"].numpy(), strict=True):
        candidates = [v[firsts[place.shard] + place.row] for v in vectors]
        rows.append(
            [[i for i, c in enumerate(each) if np.allclose(vector, c, atol=2e-3)] for each in candidates]
        )
    assert np.array_equal(batch.vectors["d"], batch.vectors["g"])  # one text for all draws of a visit
    return rows


def test_the_share_of_synthetic_captions_is_the_probability() -> None:
    visits, count = [blending.chances(0, range(10_000), epoch) for epoch in range(2)], 20_000
    for share in (0.05, 0.5, 0.8, 0.9, 0.95):
        blend = Blend(share)
        drawn = sum(blend.choose("s", "t", c) == "s" for epoch in visits for c in epoch)
        bound = NormalDist().inv_cdf(1 - 0.0005) * (count * share * (1 - share)) ** 0.5
        assert abs(drawn - count * share) <= bound + 1
    assert {Blend(0.0).choose("s", "t", c) for c in visits[0]} == {"t"}
    assert {Blend(1.0).choose("s", "t", c) for c in visits[0]} == {"s"}


def test_choices_follow_from_seed_index_and_epoch() -> None:
    [apart] = blending.chances(3, [17], 5)
    assert blending.chances(3, range(30), 5)[17] == apart
    others = [blending.chances(s, [i], e)[0] for s, i, e in ((4, 17, 5), (3, 18, 5), (3, 17, 6))]
    assert apart not in others and all(0 <= number < 1 for number in apart)
    assert len({*apart}) == 4


def test_lengths_are_settings_of_one_mechanism() -> None:
    captions, visits = ["short", "long"], blending.chances(0, range(400), 0)
    stored = ("any", "short", "long")
    shown = {t: [Blend.parse(f"blend:1,{t}").choose(captions, [], c) for c in visits] for t in stored}
    assert set(shown["short"]) == {"short"} and set(shown["long"]) == {"long"}
    assert 150 < shown["any"].count("long") < 250
    assert shown["any"] == [Blend.parse("blend:1").choose(captions, [], c) for c in visits]


@pytest.mark.parametrize(
    "text",
    [
        "blend:0.95",
        "blend:0.8,short",
        "blend:1,long",
        "blend:1,plain",
        "blend:1,related",
        "blend:1,mixed",
        "blend:0.9,facts=1..4",
    ],
)
def test_one_caption_of_a_blend_is_parsed(text: str) -> None:
    blend = Blend.parse(text)
    assert f"blend:{blend.share:g}" == text.partition(",")[0]
    assert blend.facts == ((1, 4) if "facts" in text else None)
    assert Text.parse(text).blend == blend and Text.parse(text).kind == "blend"
    assert Blend.parse("blend:0.5,facts=3").facts == (3, 3)


BAD = [
    "blend:",
    "blend:1.5",
    "blend:nan",
    "blend:0.9,",
    "blend:0.9,medium",
    "blend:0.9,facts=",
    "blend:0.9,facts=0..2",
]
BAD += ["blend:0.9,facts=3..2", "blend:0.9,facts=1..2000", "blend:0.9,facts=a", "blend"]


@pytest.mark.parametrize("text", BAD)
def test_other_blends_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"unknown (blend|text)"):
        Text.parse(text)


@pytest.mark.parametrize("name", FAMILIES)
def test_bare_names_and_sentences_of_k_facts(name: str) -> None:
    chances = blending.chances(0, range(200), 0)
    for _, sample in draw(name, None, 0, range(12), size=64):
        certain = facts(sample)
        assert parse(names.name(sample)) == {"family": certain["family"]}
        for k in (1, 2, 3, 1000):
            stated = parse(names.stating(sample, k, seeds.Stream(k)))
            assert len(stated) == min(k, len(certain)) and stated.items() <= certain.items()
        drawn = [Blend(1.0, facts=(1, 3)).text(lambda s=sample: s, [], [], c) for c in chances]  # type: ignore[misc]
        counts = {len(parse(text or "")) for text in drawn}
        assert counts == {min(k, len(certain)) for k in (1, 2, 3)}


def test_a_picture_without_parameters_has_no_bare_name() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UserError, match="sample 7 is no formula picture and has no bare name; leave --names"):
        worker.bare_name(Sample("7", pixels, {"family": "fractals"}, []))


def test_texts_on_scenes_state_k_facts() -> None:
    chances = blending.chances(0, range(60), 0)
    for _, sample in draw("scenes", None, 0, range(4), size=64):
        known = len(scene_sentences.canonical(scene_facts.scene_facts(sample)))
        drawn = [Blend(1.0, facts=(2, 5)).text(lambda s=sample: s, [], [], c) for c in chances]  # type: ignore[misc]
        counts = {len(scene_sentences.canonical(scene_sentences.parse(text or ""))) for text in drawn}
        assert counts == {min(k, known) for k in range(2, 6)}


def test_plain_texts_name_every_object_of_a_scene() -> None:
    chances = blending.chances(0, range(40), 0)
    for _, sample in draw("scenes_flat", None, 0, range(6), size=64):
        known = scene_facts.scene_facts(sample)
        named = {(fact.value, fact.subject) for fact in known if fact.type in ("colour", "kind")}
        drawn = [Blend(1.0, "plain").text(lambda s=sample: s, [], [], c) for c in chances]  # type: ignore[misc]
        for text in drawn:
            stated = scene_sentences.parse(text or "")
            values = [fact.value for fact in stated if fact.type in ("colour", "kind")]
            assert sorted(map(str, values)) == sorted(str(value) for value, _ in named)
            assert {(f.type, f.value) for f in stated if f.subject < 0} <= {
                (f.type, f.value) for f in known if f.subject < 0
            }
        assert len(set(drawn)) > 3
        assert 0.4 < np.mean([" on " in (text or "") for text in drawn]) < 1


def test_half_of_mixed_texts_are_plain() -> None:
    [(_, sample)] = draw("scenes_flat", None, 0, [3], size=64)
    stored, visits = ["short", "long"], blending.chances(0, range(400), 0)
    texts = [Blend.parse("blend:1,mixed").text(lambda: sample, stored, ["name"], c) for c in visits]
    plain = [Blend.parse("blend:1,plain").text(lambda: sample, stored, ["name"], c) for c in visits]
    assert all(text in ("short", "long", one) for text, one in zip(texts, plain, strict=True))
    assert 160 < sum(text not in stored for text in texts) < 240
    assert 70 < texts.count("long") < 130


def test_related_texts_state_a_direction_whenever_one_is_clear() -> None:
    directed = 0
    for _, sample in draw("scenes_flat", None, 0, range(40), size=64):
        [chance] = blending.chances(0, [sample["index"]], 0)
        text = Blend.parse("blend:1,related").text(partial(dict, sample), ["short"], [], chance)
        assert text is not None
        facts = scene_facts.scene_facts(sample)
        known = [fact for fact in facts if fact.relation in scene_world.DIRECTIONS]
        assert any(f" {direction} " in text for direction in scene_world.DIRECTIONS) == bool(known)
        directed += bool(known)

        # It begins with these two objects, and is true.
        values = {(fact.type, fact.subject): fact.value for fact in facts}
        first = [(values["colour", f.subject], values["kind", f.subject], f.relation) for f in known]
        begun = [re.match(rf"an? (\w+ )?{' '.join(map(str, words))} ", text) for words in first]
        assert not known or any(begun)
    assert 8 < directed < 32


def test_the_name_of_a_scene_is_that_of_its_main_object() -> None:
    for _, sample in draw("scenes_flat", None, 0, range(8), size=64):
        main = sample["params"]["objects"][sample["params"]["main"]]
        article = "an" if main["colour"] == "orange" else "a"
        assert names.name(sample) == f"{article} {main['colour']} {main['kind']}"
    sample["objects"][sample["params"]["main"]]["visible"] = 0.1
    assert names.name(sample) == "a scene"


def test_tables_with_names_have_all_columns_of_others(
    undisturbed: Path, named: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    make_tables(undisturbed, tmp_path / "t", tiny_encoder, text_embeddings=True)
    plain, tables = CaptionSet(str(tmp_path / "t")), CaptionSet(str(named))
    assert tables.columns == [*plain.columns, "name", "name_embedding"]
    for ours, theirs in zip(tables.parts, plain.parts, strict=True):
        assert tables.read(ours, plain.columns).equals(plain.read(theirs, plain.columns))
    assert column(named, "name") == [["a contour"]] * 40
    assert "| name_embedding |" in (named / "README.md").read_text()


def test_formula_pictures_get_sentences_or_their_bare_name(undisturbed: Path, named: Path) -> None:
    columns = ("text_embedding", "name_embedding")
    half = sources(undisturbed, named, "blend:0.5", columns)
    assert all(bool(synthetic) != bool(truth) for synthetic, truth in half)
    assert 25 < sum(bool(synthetic) for synthetic, _ in half) < 55
    assert all(synthetic == [1] for synthetic, _ in sources(undisturbed, named, "blend:1,long", columns))
    assert all(synthetic == [0] for synthetic, _ in sources(undisturbed, named, "blend:1,short", columns))
    assert all(truth == [0] for _, truth in sources(undisturbed, named, "blend:0", columns))


def test_real_pictures_get_a_captioners_text_or_that_of_people(real: tuple[Path, Path]) -> None:
    columns = ("synthetic_embedding", "text_embedding")
    half = sources(*real, "blend:0.5", columns)
    assert all(bool(synthetic) != bool(truth) for synthetic, truth in half)
    assert 25 < sum(bool(synthetic) for synthetic, _ in half) < 55
    assert {truth[0] for _, truth in half if truth} == {0, 1}
    assert all(truth for _, truth in sources(*real, "blend:0", columns))
    assert all(synthetic == [0] for synthetic, _ in sources(*real, "blend:1,short", columns))


def codes(text: str) -> list[int]:
    """A tokeniser that loses nothing."""
    return [ord(letter) for letter in text]


def words(shards: Path, tables: Path, text: str, wanted: Wanted, workers: int = 0) -> tuple[list[str], Batch]:
    """The texts of 80 visits, by row of the batch, and the batch."""
    opened = stream(shards, tables, replace(visit(text), wanted=wanted))
    [batch] = first(opened.batches(0, 80, workers=workers), 1)
    assert batch.tokens is not None
    return ["".join(chr(code) for code in row if code) for row in batch.tokens.tolist()], batch


def test_models_that_read_words_get_the_texts_of_the_vectors(undisturbed: Path, named: Path) -> None:
    texts, batch = words(undisturbed, named, "blend:0.6", Wanted(("text",), tokenise=codes))
    stored = {}
    for name in ("caption", "name"):
        vectors = column(named, {"caption": "text_embedding", "name": "name_embedding"}[name])
        for row, rows in zip(column(named, name), vectors, strict=True):
            stored.update(dict(zip(row, rows, strict=True)))
    for text, vector in zip(texts, batch.vectors["text"].numpy(), strict=True):
        assert np.allclose(vector, stored[text], atol=2e-3)
    assert 10 < texts.count("a contour") < 60


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_models_that_read_words_alone_get_sentences_of_k_facts(
    undisturbed: Path, named: Path, workers: int
) -> None:
    only = Wanted((), tokenise=codes)
    texts, batch = words(undisturbed, named, "blend:0.8,facts=2..4", only, workers)
    assert batch.vectors == {}
    lengths = [len(parse(text)) for text in texts]
    assert {length for text, length in zip(texts, lengths, strict=True) if text != "a contour"} == {2, 3, 4}
    samples = dataset(str(undisturbed), str(named), ["key"], blend="blend:0.8,facts=2..4", shuffle=0, seed=4)
    assert {sample["text"] for sample in samples} <= set(texts)


def batches(shards: Path, tables: Path, workers: int) -> list[bytes]:
    opened = stream(shards, tables, visit("blend:0.6"))
    return [joined([batch]) for batch in first(opened.batches(24, 12, workers=workers), 5)]  # type: ignore[misc]


@pytest.mark.slow
def test_reader_processes_change_no_text(undisturbed: Path, named: Path) -> None:
    assert batches(undisturbed, named, 2) == batches(undisturbed, named, 0)


def test_ranks_change_no_text(undisturbed: Path, named: Path) -> None:
    opened = stream(undisturbed, named, visit("blend:0.6"))
    parts: list[list[Batch]] = [first(opened.batches(24, 12, rank=r, ranks=3), 5) for r in range(3)]
    assert [joined(list(p)) for p in zip(*parts, strict=True)] == batches(undisturbed, named, 0)


def test_formula_and_real_sets_blend_in_one_stream(
    undisturbed: Path, named: Path, real: tuple[Path, Path]
) -> None:
    pairs = [(undisturbed, named), real]
    sets = [CaptionedSet(ShardSet(str(shards)), CaptionSet(str(tables))) for shards, tables in pairs]
    opened = Stream(sets, visit("blend:0.5"), cache=stream(undisturbed, named)._sources.cache)
    opened.require_whole()
    [batch] = first(opened.batches(0, 80), 1)
    truths = [*column(named, "name_embedding"), *column(real[1], "text_embedding")]
    texts = [*column(named, "text_embedding"), *column(real[1], "synthetic_embedding")]
    for place, vector in zip(opened.order.places(0, 80), batch.vectors["g"].numpy(), strict=True):
        index = opened._sources.firsts[place.shard] + place.row
        assert any(np.allclose(vector, v, atol=2e-3) for v in (*truths[index], *texts[index]))


def test_what_tables_lack_is_named_with_the_command_that_makes_it(
    undisturbed: Path, named: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no column text_embedding; `python -m caption captions .* --names`"):
        stream(undisturbed, captioned, visit("blend:0.9"))
    make_tables(undisturbed, tmp_path / "t", tiny_encoder, text_embeddings=True)
    with pytest.raises(UserError, match=r"no column name_embedding; `python -m caption captions .* --names`"):
        stream(undisturbed, tmp_path / "t", visit("blend:0.9"))
    assert first(stream(undisturbed, tmp_path / "t", visit("blend:1")).batches(0, 8), 1)  # needs no names
    with pytest.raises(UserError, match="facts= draws sentences of any length, which stored vectors do not"):
        stream(undisturbed, named, visit("blend:0.9,facts=1..3"))
    shards = write_foreign(tmp_path / "s", TEXTS, sizes=(32,))
    make_tables(shards, tmp_path / "r", tiny_encoder)
    with pytest.raises(
        UserError, match=r"no column synthetic_embedding; `python -m caption recaption toy .*FOLDER`"
    ):
        stream(shards, tmp_path / "r", visit("blend:0.9"))
    assert first(stream(shards, tmp_path / "r", visit("blend:0")).batches(0, 8), 1)
    with pytest.raises(UserError, match="have no bare names, as they are no formula pictures; leave --names"):
        make_tables(shards, tmp_path / "n", tiny_encoder, names=True)


def test_the_command_for_missing_captions_takes_the_folder_of_a_split(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_tables(write_foreign(Path("data/real/toy/train"), TEXTS[:2], sizes=(32,)), "t", tiny_encoder)
    tables = CaptionSet("t")
    tables.identity["shards"]["dataset"] = "toy-train"
    with pytest.raises(UserError) as error:
        Blend.parse("blend:0.9").columns(tables, vectors=True)
    command = f"recaption data/real/toy/train --encoder {tables.identity['encoder']} --captioner FOLDER`"
    assert command in str(error.value)


def test_a_picture_without_a_caption_of_people_is_named_before_the_first_step(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    texts = [*TEXTS[:20], *({} for _ in range(4))]
    shards = write_foreign(tmp_path / "s", texts, sizes=(32,))
    make_tables(shards, tmp_path / "t", tiny_encoder)
    with pytest.raises(UserError, match=r"4 of 24 samples have no caption, such as photo_20 .*--text mix:1"):
        stream(shards, tmp_path / "t", visit("blend:0")).require_whole()

    # A live set beside it has no end.
    drawn = live.find(["scenes_flat"], [], [], 32)
    sets = [CaptionedSet(ShardSet(str(shards)), CaptionSet(str(tmp_path / "t")))]
    mixed = Stream(sets, visit("blend:0"), cache=Cache(str(tmp_path)), live=drawn.sets, shares=(0.5, 0.5))
    with pytest.raises(UserError, match=r"4 of 24 samples have no caption"):
        mixed.require_whole()


def test_a_models_own_loop_reads_texts_of_any_length(undisturbed: Path, named: Path) -> None:
    def texts(blend: str, epoch: int = 0, shuffle: int = 0) -> dict[str, str]:
        pipeline = dataset(str(undisturbed), str(named), ["key"], blend=blend, shuffle=shuffle, seed=3)
        pipeline.set_epoch(epoch)
        return {sample["key"]: sample["text"] for sample in pipeline}

    drawn = texts("blend:0.6,facts=1..4")
    assert drawn == texts("blend:0.6,facts=1..4", shuffle=16) != texts("blend:0.6,facts=1..4", epoch=1)
    chances = blending.chances(3, range(40), 0)
    for sample, chance in zip(samples(undisturbed), chances, strict=True):
        stated = parse(drawn[sample.key])
        assert drawn[sample.key] == "a contour" if chance.source >= 0.6 else 1 <= len(stated) <= 4
    longs = {k: row[1] for k, row in zip(drawn, column(named, "caption"), strict=True)}
    assert texts("blend:1,long") == longs
    assert set(texts("blend:0").values()) == {"a contour"}


def test_the_loop_of_the_readme_runs(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "caption" / "README.md").read_text()
    [script] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "blend=" in block]
    monkeypatch.chdir(tmp_path)
    make_small("data/shards/scenes", dataset="scenes", samples=8, settings=())
    make_tables("data/shards/scenes", "data/captions/scenes/nano-names", tiny_encoder, names=True)
    variables: dict[str, Any] = {}
    exec(script, variables)
    assert variables["picture"].shape[2] == 3 and len(scene_sentences.parse(variables["text"])) >= 1


def test_the_command_embeds_names_and_training_takes_the_tables_that_have_them(
    undisturbed: Path, tiny_encoder: Path, captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caption.cli import app

    monkeypatch.chdir(tmp_path)
    invoke(app, "captions", str(undisturbed), "--encoder", str(tiny_encoder), "--names", "--workers", "0")
    make_tables(undisturbed, "data/captions/visual_atoms/tiny", tiny_encoder)
    for kind, name in (("plain", "tiny"), ("blend", "tiny-names")):
        [(_, tables)] = captioned_sets.find([str(undisturbed)], [], kind=kind)  # type: ignore[arg-type]
        assert tables is not None and tables.storage.url.endswith(f"/{name}")


def test_a_run_blends_and_refuses_what_its_vectors_cannot_state(
    undisturbed: Path, named: Path, tmp_path: Path
) -> None:
    request = TrainRequest("tiny-32", (str(undisturbed),), str(tmp_path / "run"), (str(named),), device="cpu")
    request = replace(request, images=16, settings=SETTINGS)
    refused(replace(request, text="blend:0.9,facts=1..3"), "facts= draws sentences of any length")
    refused(replace(request, text="blend:2"), "give blend:SHARE, or with ,short or ,long")
    assert quiet(replace(request, text="blend:0.9,long")) == 0
    assert runs.describe(tmp_path / "run")["config"]["data"]["text"] == "blend:0.9,long"


@pytest.mark.slow
def test_a_model_of_words_alone_trains_on_sentences_of_k_facts(
    undisturbed: Path, named: Path, tmp_path: Path
) -> None:
    settings = (*DENOISER[:5], "training.batch=8", "training.precision=fp32", "run.tick=8", "run.workers=0")
    request = TrainRequest(
        *("diffusion-32", (str(undisturbed),), str(tmp_path / "run"), (str(named),)),
        images=16,
        text="blend:0.9,facts=1..3",
        device="cpu",
        settings=settings,
    )
    refused(request, "facts= draws sentences of any length, which stored vectors do not have")
    refused(replace(request, text="blend:1,plain"), "plain draws texts, which stored vectors do not have")
    assert quiet(replace(request, settings=(*settings, "training.drop_vector=1"))) == 0
    vocabulary = runs.describe(tmp_path / "run")["survey"]["words"]
    assert {"a", "contour", "waves"} <= set(vocabulary)
