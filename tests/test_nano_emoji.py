"""Encoders that are carried on, captioned sets among what they are fitted to, and the shipped one."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from caption import encoders
from caption.nano import captioned_fitting, card, fitting, fitting_sets, names, naming_exam, network
from synth.errors import UserError
from synth.images.codecs import encode_png
from synth.sets import completion, ledger
from synth.sets.records import Record
from synth.sets.shards import ShardWriter
from synth.sets.storage import Folder
from synth.settings import digest
from tests.kit import make_small

SHADES = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 220), "grey": (128, 128, 128)}
LEAST = 0.4  # of emoji named right among 10
SHAPES = ("disc", "bar", "post", "corner")


def drawn(colour: str, shape: str, side: int) -> np.ndarray:
    """A figure of a colour on white: uint8 (S, S, 3)."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    inside = {
        "disc": x**2 + y**2 < 0.1,
        "bar": abs(y) < 0.15,
        "post": abs(x) < 0.15,
        "corner": (x < 0) & (y < 0),
    }[shape]
    pixels = np.full((side, side, 3), 255, np.uint8)
    pixels[inside] = SHADES[colour]
    return pixels


def named_set(folder: Path, colours: list[str], *, texts: bool = True) -> Path:
    """Returns the folder of a finished set as data.emoji makes them: pictures, concepts in JSON, and names.

    Half of the concepts have two pictures."""
    storage, identity = Folder(str(folder)), {"dataset": f"toy-{folder.name}"}
    rows = [
        (c, shape, side)
        for c in colours
        for shape in SHAPES
        for side in ((32, 48) if shape in SHAPES[:2] else (32,))
    ]
    with storage.staged("00000.tar") as path, ShardWriter(path) as writer:
        for i, (colour, shape, side) in enumerate(rows):
            name = f"{colour} {shape}"
            sample = {"dataset": identity["dataset"], "emoji": "?", "name": name, "concept": name}
            pixels = fitting_sets.resized(drawn(colour, shape, side)[None])[0]
            files = {"png": encode_png(pixels), "json": json.dumps(sample).encode()}
            writer.add(
                f"{i:09d}", files | ({"txt": f"{name}\n{shape} in {colour}".encode()} if texts else {})
            )
    record = Record("00000.tar", 0, 0, len(rows), writer.size, writer.sha256, digest(identity), identity)
    ledger.write_record(storage, record)
    ledger.write_manifest(
        storage, ledger.manifest([record], identity, {"title": "figures", "licence": "CC0-1.0"}, {})
    )
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("named")
    named_set(root / "train", ["red", "green", "blue"])
    named_set(root / "test", ["grey", "green"])
    make_small(root / "atoms", samples=32, shard_size=32)
    make_small(root / "exam", seed=1, samples=32, shard_size=32)
    return root


def fitted(sets: Path, out: Path, **changes: Any) -> dict[str, Any]:
    request = {
        "shards": (str(sets / "train"), str(sets / "atoms")),
        "exam": (str(sets / "test"), str(sets / "exam")),
        "out": str(out),
        "start": "nano",
        "visits": 72,
        "batch": 24,
        **changes,
    }
    return completion.finish(fitting.fit(fitting.FitRequest(**request)))


@pytest.mark.soak
def test_nano_carried_on_twice_gives_the_same_bytes_and_a_card_that_says_what_it_has_seen(
    sets: Path, tmp_path: Path
) -> None:
    first, second = fitted(sets, tmp_path / "a"), fitted(sets, tmp_path / "b", exam=())
    a, b = ((tmp_path / name / network.WEIGHTS).read_bytes() for name in "ab")
    assert a == b != Path(encoders.find("nano").weights).read_bytes()
    assert first["pictures"] == 18 + 32 and first["first_loss"] == second["first_loss"]
    text = (tmp_path / "a" / card.NAME).read_text()
    assert "trained on formula pictures and an emoji font that people drew" in text
    assert "formula pictures only" not in text
    assert "started from nano" in text
    assert "18 pictures of 12 concepts" in text
    assert "| toy-train: figures | 18 | CC0-1.0 |" in text
    assert "--from nano --exam" in text and "| zero-shot background |" in text
    again = fitted(
        sets, tmp_path / "c", start=str(tmp_path / "a"), shards=(str(sets / "atoms"),), exam=(), visits=24
    )
    assert again["pictures"] == 32  # of formulas only, but not the encoder
    text = (tmp_path / "c" / card.NAME).read_text()
    assert "formula pictures only" not in text
    assert "the training data of a, from which the fit started" in text


@pytest.mark.soak
def test_captioned_sets_alone_are_learnt_from_random_weights(sets: Path, tmp_path: Path) -> None:
    row = fitted(
        sets,
        tmp_path / "a",
        shards=(str(sets / "train"),),
        exam=(),
        start="",
        visits=480,
        batch=12,
        rate=2e-3,
    )
    assert row["last_loss"] < 0.75 * row["first_loss"]
    encoder = encoders.load(encoders.find(str(tmp_path / "a")))
    pictures = np.stack([drawn(colour, "disc", 64) for colour in ("red", "green", "blue")])
    likeness = encoder.images(pictures) @ encoder.texts(["a red disc", "a green disc", "a blue disc"]).T
    assert likeness.argmax(axis=1).tolist() == [0, 1, 2]


def test_an_exam_has_only_concepts_that_were_not_fitted_to(sets: Path, tmp_path: Path) -> None:
    read = fitting_sets.read((str(sets / "train"),))
    assert read.captioned.captions[0] == ["red disc", "disc in red"]
    assert len(read) == 18
    assert read.captioned.by_concept()[0] == [0, 1]
    held_out = fitting_sets.held_out(fitting_sets.read((str(sets / "test"),)), read).captioned
    assert set(held_out.concepts) == {f"grey {shape}" for shape in SHAPES} and len(held_out.pixels) == 6
    with pytest.raises(UserError, match=r"no concept outside the fitted sets; .* give its test split"):
        fitted(sets, tmp_path, exam=(str(sets / "train"),))


def test_a_set_with_neither_captions_nor_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sample 000000000 of .* has neither parameters nor captions"):
        fitting_sets.read((str(named_set(tmp_path / "mute", ["red"], texts=False)),))


def test_too_few_visits_are_told_how_many_a_batch_takes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at least as many visits as a batch has pictures \(256\)"):
        completion.finish(fitting.fit(fitting.FitRequest(("sets",), str(tmp_path), visits=255)))


def test_a_folder_of_before_its_config_named_a_tokenizer_is_carried_on(tmp_path: Path) -> None:
    old = Path(shutil.copytree(Path(encoders.find("nano").weights).parent, tmp_path / "old"))
    config = json.loads((old / network.CONFIG).read_text())
    del (
        config["model_cfg"]["text_cfg"]["hf_tokenizer_name"],
        config["model_cfg"]["text_cfg"]["tokenizer_kwargs"],
    )
    (old / network.CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    network.carried_on(encoders.find(str(old)))
    config["model_cfg"]["text_cfg"]["layers"] = 3
    (old / network.CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    with pytest.raises(UserError, match=r"open_clip_config\.json is not that of nano"):
        network.carried_on(encoders.find(str(old)))


def test_what_is_no_nano_is_not_carried_on(sets: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(Path(encoders.find("nano").weights).parent, tmp_path / "other"))
    (other / encoders.MERGES).write_bytes(b"another list")
    cut = Path(shutil.copytree(Path(encoders.find("nano").weights).parent, tmp_path / "cut"))
    (cut / network.WEIGHTS).write_bytes((cut / network.WEIGHTS).read_bytes()[:1000])
    for start, sentence in (
        (tiny_encoder, "open_clip_config.json is not that of nano; give --from nano"),
        (other, "merges.txt.gz is not that of nano; give --from nano"),
        (cut, "does not hold the weights"),
        (sets, "holds no encoder"),
    ):
        with pytest.raises(UserError, match=sentence):
            fitted(sets, tmp_path / "out", start=str(start))
    assert not (tmp_path / "out").exists()


def test_names_are_said_in_forms_and_known_by_their_words() -> None:
    stream = np.random.default_rng(0)
    texts = {names.draw(["frog", "Green Toad"], "emoji", stream).text for _ in range(300)}
    assert {
        "frog",
        "a frog",
        "an emoji of a frog",
        "a picture of a frog",
        "Green Toad",
        "a green toad",
    } <= texts
    sentence = "A man rides a horse along the beach."
    assert {names.draw([sentence], "picture", stream).text for _ in range(50)} == {sentence, sentence.lower()}
    assert [names.with_article(name) for name in ("apple", "frog", "Mongolia", "the end")] == [
        "an apple",
        "a frog",
        "Mongolia",
        "the end",
    ]
    drawn = [names.Name("", names.words(text)) for text in ("woman cook", "Cook", "man")]
    assert names.truth([["woman cook"], ["cook", "man with pan"], ["man cook"]], drawn).tolist() == [
        [True, True, False],
        [False, True, True],
        [False, True, True],
    ]


def test_every_visit_sees_another_version_of_a_picture_on_the_same_white() -> None:
    pixels = np.stack([drawn("red", "disc", 64)] * 64)
    versions = captioned_fitting.varied(pixels, np.random.default_rng(0))
    assert versions.dtype == np.uint8 and versions.shape == pixels.shape
    assert len({version.tobytes() for version in versions}) == 64
    assert (versions[:, 0, 0] == 255).all()
    np.testing.assert_allclose(versions.mean(axis=(0, 1, 2)), pixels.mean(axis=(0, 1, 2)), atol=10)
    np.testing.assert_array_equal(versions, captioned_fitting.varied(pixels, np.random.default_rng(0)))


class Oracle:
    """An encoder that knows some pictures, and takes all others for the same."""

    def __init__(self, known: int) -> None:
        self._known = known

    def images(self, pixels: np.ndarray) -> np.ndarray:
        numbers = pixels[:, 0, 0, 0].astype(int)
        return np.eye(201)[np.where(numbers < self._known, numbers, 200)]

    def texts(self, texts: list[str]) -> np.ndarray:
        return np.eye(201)[[int(text) for text in texts]]


def test_the_naming_exam_counts_own_names_that_are_nearest() -> None:
    pixels = np.broadcast_to(np.arange(120, dtype=np.uint8)[:, None, None, None], (120, 64, 64, 3))
    numbers = [str(i) for i in range(120)]
    concepts = [str(min(i, 109)) for i in range(120)]  # the last one has eleven pictures
    captioned = fitting_sets.Captioned(pixels, [[number] for number in numbers], concepts, ["emoji"] * 120)
    figures = naming_exam.examine(Oracle(known=55), captioned)  # type: ignore[arg-type]
    assert {name: (figure.right, figure.chance, figure.pictures) for name, figure in figures.items()} == {
        "named among 10": (0.5, 0.1, 110),
        "named among 100": (0.5, 0.01, 110),
        "named among 10, all": (55 / 120, 0.1, 120),
    }
    few = naming_exam.examine(Oracle(known=9), captioned.some([*range(20)]))  # type: ignore[arg-type]
    assert set(few) == {"named among 10", "named among 10, all"}


def test_the_shipped_one_has_a_card_that_says_what_it_has_seen_and_its_figures() -> None:
    source = encoders.find("nano-emoji")
    text = (Path(source.weights).parent / card.NAME).read_text()
    assert "trained on formula pictures and an emoji font that people drew" in text
    assert "SIL Open Font License" in text
    assert {tensor.dtype for tensor in load_file(source.weights).values()} == {torch.float16}
    shares = dict(re.findall(r"^\| ([a-z0-9 -]+) \| ([0-9.]+) % \|", text, re.MULTILINE))
    assert float(shares["named among 10"]) > 25 and float(shares["zero-shot colour"]) > 90


@pytest.mark.slow
def test_the_shipped_one_names_emoji_that_it_has_not_seen() -> None:
    from data.emoji import font, prepare
    from data.squares import square

    try:
        drawn_by = font.find(None)
    except UserError as error:
        pytest.skip(str(error))
    held_out = prepare.originals(drawn_by, seed=0, share=0.1)["test"]
    firsts = dict(list({o.metadata["concept"]: o for o in reversed(held_out)}.items())[:200])
    pixels = np.stack([square(drawn_by.open(o.name), 64).pixels for o in firsts.values()])
    captioned = fitting_sets.Captioned(
        pixels, [list(o.captions) for o in firsts.values()], list(firsts), ["emoji"] * len(firsts)
    )
    figures = naming_exam.examine(encoders.load(encoders.find("nano-emoji")), captioned)
    assert figures["named among 10"].right > LEAST
