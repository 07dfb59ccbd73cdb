"""The captioner of scenes: fit, decoding, exam, and its folder as a captioner of recaption."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from caption import captioners, encoders
from caption.captioners import SceneCaptioner
from caption.cli import app
from caption.lean_imports import import_torchvision
from caption.scene_captioner import exam, fitting, folder
from caption.scene_captioner.decoder import Decoder, Seen, Shape
from caption.scene_captioner.vocabulary import END, Vocabulary
from caption.sentences import scene_sentences
from caption.sentences.scene_facts import SceneFact, scene_facts
from caption.table import CaptionSet
from synth import seeds
from synth.errors import UserError
from tests.kit import TINY_CLIP, invoke, json_lines, make_tables, tar_hashes, write_foreign

SMALL = ["--encoder", "nano", "--visits", "32", "--pictures", "3"]


@pytest.fixture(scope="module", autouse=True)
def few_texts() -> Iterator[None]:
    """Takes the words of a vocabulary from a tenth of the pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_CORPUS", 50)
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of a captioner after three steps, and the printed figures."""
    out = tmp_path_factory.mktemp("captioner") / "little"
    return out, json_lines(invoke(app, "fit-captioner", "--out", out, *SMALL, raising=True))


@pytest.fixture(scope="module")
def truths() -> list[dict[str, Any]]:
    """Samples of both sets."""
    return [sample for name in exam.SETS for _, sample in exam.scenes(name, 5, range(40))]


def toy(words: int = 12, most: int = 20) -> Decoder:
    torch.manual_seed(0)
    return Decoder(Shape(words, 6, 4, 5, most=most)).eval()


def blurred(pictures: int) -> Seen:
    random = torch.Generator().manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(pictures, 6, generator=random), dim=-1)
    return Seen(vectors, torch.randn(pictures, 4, 4, generator=random))


@pytest.mark.slow
def test_it_overfits_a_handful_of_pictures() -> None:
    model, seen = toy().train(), blurred(5)
    rows = [[2, 3], [3, 2, 4, 5], [5], [6, 7, 8, 9, 10, 11], [2, 3, 4]]
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimiser.zero_grad()
        fitting.loss_of(model, seen, rows).backward()
        optimiser.step()
    written = model.eval().write(seen)
    assert [row[: row.index(END)] for row in written] == rows


def test_writing_word_by_word_gives_the_scores_of_whole_texts() -> None:
    model, seen = toy(), blurred(3)
    for row, picture in zip(model.write(seen), range(3), strict=True):
        words = [END, *row[: row.index(END)]] if END in row else [END, *row[:-1]]
        alone = seen.rows(slice(picture, picture + 1))
        scores = model(torch.tensor([words]), alone)[0]
        scores[:, 1] = scores[0, END] = -torch.inf
        assert scores.argmax(dim=-1).tolist() == row[: len(words)]


def test_a_vector_alone_is_enough_to_read() -> None:
    model = Decoder(Shape(12, 6, 0, 1))
    assert model(torch.zeros(2, 3, dtype=torch.int64), Seen(blurred(2).vectors, None)).shape == (2, 3, 12)


def test_vectors_of_patches_come_with_those_of_pictures(tiny_encoder: Path) -> None:
    encoder = encoders.load(encoders.find(str(tiny_encoder)), "cpu", "fp32")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    vectors, patches = encoder.patches(pixels)
    np.testing.assert_allclose(vectors, encoder.images(pixels), atol=1e-6)
    assert patches.shape == (3, 16, 32) and patches.std(axis=1).min() > 0


@pytest.mark.slow
def test_an_encoder_without_patches_is_refused_by_name(tiny_encoder: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(tiny_encoder, tmp_path / "shallow"))
    sizes: dict[str, Any] = TINY_CLIP
    vision = {**sizes["vision_cfg"], "layers": 1}
    torch.manual_seed(0)
    import_torchvision()
    from open_clip.model import CLIP

    model = {**sizes, "vision_cfg": vision}
    save_file(CLIP(**model).state_dict(), place / "open_clip_model.safetensors")
    (place / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    command = ["fit-captioner", "--out", tmp_path / "c", "--encoder", place, "--visits", "32"]
    error = invoke(app, *command, "--pictures", "1").exception
    assert isinstance(error, UserError) and "shallow has no vectors of patches" in str(error)
    assert not (tmp_path / "c").exists()
    encoder = encoders.load(encoders.find(str(place)), "cpu", "fp32")
    assert fitting.shape_for(encoder, "vector") == Shape(0, 32, 0, 1)


def test_sentences_on_scenes_survive_the_vocabulary(truths: list[dict[str, Any]]) -> None:
    stream = seeds.stream(0, "texts")
    texts = [scene_sentences.long(scene_facts(sample), stream) for sample in truths]
    vocabulary = Vocabulary.of(texts)
    assert [vocabulary.decode(vocabulary.encode(text)) for text in texts] == texts
    assert vocabulary.decode([*vocabulary.encode("a red disc"), END, 5]) == "a red disc"


def test_true_texts_have_no_false_fact(truths: list[dict[str, Any]]) -> None:
    stream = seeds.stream(0, "texts")
    whole = exam.score([scene_sentences.long(scene_facts(s), stream) for s in truths], truths)
    assert (whole.parsed, whole.true, whole.main, whole.recall) == (1, 1, 1, 1)
    short = exam.score([scene_sentences.short(scene_facts(s), stream) for s in truths], truths)
    assert (short.parsed, short.true, short.main) == (1, 1, 1) and 0 < short.recall < 0.5
    assert short.types.keys() == {"kind", "colour", "size"} and short.stated < 3


def test_texts_on_other_pictures_are_mostly_false(truths: list[dict[str, Any]]) -> None:
    texts = [scene_sentences.long(scene_facts(sample)) for sample in truths]
    shuffled = exam.score(texts[1:] + texts[:1], truths)
    assert shuffled.parsed == 1 and shuffled.true < 0.6 and shuffled.main < 0.2
    assert exam.score(["red of a the"], truths[:1]).parsed == 0


def test_objects_are_matched_by_kind_and_colour_then_by_relations() -> None:
    facts = scene_sentences.parse("a red disc left of a blue star, and a small red disc")
    claims = scene_sentences.parse("a blue star right of a red disc, a green ring, and a red disc")
    [star] = [fact.subject for fact in facts if fact.value == "star"]
    matched = exam.matched(claims, facts)
    assert SceneFact("colour", star, "blue") in matched
    assert SceneFact("relation", 0, "left of", "left of", star) in matched
    false = set(matched) - set(facts)
    assert {(fact.type, fact.value) for fact in false} == {("kind", "ring"), ("colour", "green")}
    assert min(fact.subject for fact in false) > 6


@pytest.mark.slow
def test_a_fit_writes_a_folder_with_its_figures(fitted: tuple[Path, list[dict[str, Any]]]) -> None:
    out, rows = fitted
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "captioner.json",
        "long.safetensors",
        "short.safetensors",
        "vocabulary.json",
    ]
    assert [(row["tuning"], row["set"]) for row in rows] == [
        (t, s) for t in folder.TUNINGS for s in exam.SETS
    ]
    assert all(row["pictures"] == 3 and 0 <= row["parsed"] <= 1 for row in rows)
    card = (out / "README.md").read_text()
    assert card.startswith("---\npretty_name:") and "| short | scenes_flat |" in card
    assert sum(path.stat().st_size for path in out.glob("*.safetensors")) < 1_000_000
    words = json.loads((out / "vocabulary.json").read_text())
    assert {"red", "star", "left", ",", "."} <= set(words)


@pytest.mark.slow
def test_the_same_command_does_nothing_and_elsewhere_gives_the_same_bytes(
    fitted: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    out, rows = fitted
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = invoke(app, "fit-captioner", "--out", out, *SMALL, raising=True)
    assert "is finished: nothing to do" in again.stderr and json_lines(again) == rows
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before

    # Another place, and other options at the same place.
    invoke(app, "fit-captioner", "--out", tmp_path / "little", *SMALL, raising=True)
    for name in before.keys() - {"README.md"}:
        assert (tmp_path / "little" / name).read_bytes() == (out / name).read_bytes()
    error = invoke(app, "fit-captioner", "--out", out, *SMALL, "--seed", "1").exception
    assert isinstance(error, UserError) and "holds a captioner of other options; give another --out" in str(
        error
    )


@pytest.mark.slow
def test_recaption_reads_the_folder(
    fitted: tuple[Path, list[dict[str, Any]]], tiny_encoder: Path, tmp_path: Path
) -> None:
    out, _ = fitted
    real = write_foreign(tmp_path / "s", [{"txt": b"x"}] * 6, sizes=(32,))
    options = ["--captioner", out, "--encoder", tiny_encoder, "--prompt", "short"]
    printed = invoke(app, "recaption", real, *options, "--out", tmp_path / "t", raising=True)
    assert "little describes 6 pictures" in printed.stderr
    tables = CaptionSet(str(tmp_path / "t"))
    texts = tables.read(tables.parts[0], ["synthetic_caption"])["synthetic_caption"].to_pylist()
    assert len(texts) == 6 and all(row[0] for row in texts)
    assert tables.identity["captioner"]["prompt"] == "short"
    assert 'Its prompt: "short"' in (tmp_path / "t" / "README.md").read_text()

    # The same captions again; long ones are another captioner.
    make_tables(real, tmp_path / "u", tiny_encoder, captioner=str(out), prompt="short")
    assert tar_hashes(tmp_path / "t", ".parquet") == tar_hashes(tmp_path / "u", ".parquet")
    with pytest.raises(UserError, match=r"captioner\.prompt is"):
        make_tables(real, tmp_path / "t", tiny_encoder, captioner=str(out))
    with pytest.raises(UserError, match="reads no text; give --prompt short or --prompt long"):
        make_tables(real, tmp_path / "v", tiny_encoder, captioner=str(out), prompt="name the colours")


@pytest.mark.slow
def test_pictures_of_any_size_get_captions(fitted: tuple[Path, list[dict[str, Any]]]) -> None:
    describer = folder.load(str(fitted[0]), "short", "cpu")
    pictures = [np.full((side, side, 3), side, np.uint8) for side in (16, 64, 100)]
    together = describer.captions(pictures)
    assert together == [describer.captions([picture])[0] for picture in pictures]
    assert all(together)


@pytest.fixture
def damaged(fitted: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> Iterator[Path]:
    """A copy of the folder, to be damaged."""
    yield Path(shutil.copytree(fitted[0], tmp_path / "copy"))
    captioners._describer.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("captioner.json", b"{", "captioner.json is no JSON; copy the captioner's folder again"),
        ("captioner.json", b'{"kind": "other"}', "does not describe a captioner of this version"),
        ("vocabulary.json", b'["a"]', "vocabulary.json is not the vocabulary of captioner.json"),
        ("long.safetensors", b"no weights", "does not hold the weights of captioner.json"),
        ("long.safetensors", None, "long.safetensors is missing; copy the whole folder"),
        ("vocabulary.json", None, "vocabulary.json is missing; copy the whole folder"),
    ],
)
def test_a_damaged_folder_gets_one_sentence(
    damaged: Path, file: str, content: bytes | None, sentence: str
) -> None:
    (damaged / file).unlink()
    if content is not None:
        (damaged / file).write_bytes(content)
    with pytest.raises(UserError) as error:
        captioners.in_folder(str(damaged), "cpu")
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.slow
def test_other_weights_of_the_encoder_are_refused(damaged: Path) -> None:
    text = (damaged / "captioner.json").read_text()
    entries = json.loads(text)
    (damaged / "captioner.json").write_text(text.replace(entries["encoder"]["sha256"], "0" * 64))
    with pytest.raises(UserError, match=r"reads the encoder nano, but .* holds other weights"):
        SceneCaptioner.find(str(damaged), "cpu")


def test_options_out_of_range_get_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    for options, sentence in [
        (["--out", tmp_path / "c", "--reads", "all"], "--reads is all; give vector or patches"),
        (["--out", tmp_path / "c", "--encoder", "nano0"], "unknown encoder 'nano0'"),
        (["--out", tmp_path / "used"], "already holds files; give another folder"),
    ]:
        error = invoke(app, "fit-captioner", *options).exception
        assert isinstance(error, UserError) and sentence in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_pictures_that_follow_each_other_differ_in_class_and_a_round_has_all() -> None:
    samples = [sample for _, sample in exam.scenes("scenes_flat", 0, range(120))]
    assert len({sample["index"] for sample in samples}) == 120
    assert len({sample["class"] for sample in samples[:60]}) == 60
    mains = [sample["params"]["objects"][sample["params"]["main"]]["colour"] for sample in samples[:16]]
    assert len(set(mains)) > 4
