"""Textual inversion: train/models/textual_inversion.py, train/sampling/inverting.py and learned.py."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from synth.errors import UserError
from synth.images import codecs
from synth.sets.completion import Progress
from tests.kit import invoke, json_lines
from tests.kit_squares import VOCABULARY, WORDS
from train.cli import app
from train.models.denoiser import Denoiser
from train.models.diffusion import DENOISER
from train.models.textual_inversion import ROWS, Inversion, Settings, invert, key_values, with_words
from train.models.words import BEGIN, UNKNOWN, TextStates, Vocabulary
from train.runs import Run
from train.sampling import draw, learned, maps
from train.sampling.inverting import InvertRequest, settings_of
from train.sampling.inverting import invert as learn

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = Settings(steps=6, batch=4, lr=0.05)
THING = Vocabulary(WORDS, learned=(("<thing>", 2, 1), ("<other>", 1, 1)))


@pytest.fixture(scope="module")
def concept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of yellow squares, a colour that training never showed."""
    folder = tmp_path_factory.mktemp("concept")
    for i in range(3):
        pixels = np.full((8, 8, 3), (25, 25, 230), np.uint8)
        pixels[1 + i : 5 + i, 2:6] = (230, 230, 25)
        (folder / f"{i}.png").write_bytes(codecs.encode_png(pixels))
    return folder


def request(run: Run, concept: Path, out: Path, **changes: Any) -> InvertRequest:
    whole = InvertRequest(str(run.path), str(concept), "<thing>", "red", str(out), settings=QUICK)
    return replace(whole, **changes)


def row_of(wanted: InvertRequest) -> dict[str, Any]:
    """Learns a word. Returns its row."""
    [*_, row] = learn(wanted)
    assert isinstance(row, dict)
    return row


@pytest.fixture(scope="module")
def layered(squares: Run, concept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word of two tokens with vectors for each layer."""
    out = tmp_path_factory.mktemp("words") / "layered"
    row_of(request(squares, concept, out, word="<l>", settings=replace(QUICK, tokens=2, per_layer=True)))
    return out


@pytest.fixture(scope="module")
def thing(squares: Run, concept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("words") / "thing"
    row_of(request(squares, concept, out, settings=replace(QUICK, steps=40)))
    return out


def denoiser(run: Run) -> Denoiser:
    part = run.load().parts[DENOISER]
    assert isinstance(part, Denoiser)
    return part


# Words.


def test_a_learned_word_has_its_own_tokens() -> None:
    a, square = VOCABULARY("a square")[1:]
    first = len(VOCABULARY)
    assert THING("a <Thing> square") == [BEGIN, a, first, first + 1, square]
    assert THING("<other>") == [BEGIN, first + 2] and len(THING) == first + 3
    assert THING("a<thing>") == THING("a <thing>") and THING("<things>") == [BEGIN, *[UNKNOWN] * 3]
    assert THING.divided("a <thing>!") == ["a", "<thing>", "!"]
    assert THING("a red square") == VOCABULARY("a red square")


# The identities.


@pytest.mark.parametrize(("method", "per_layer"), [("row", False), ("keys", False), ("row", True)])
def test_nothing_but_the_word_is_trained(squares: Run, method: str, per_layer: bool) -> None:
    frozen, layers = denoiser(squares), 4 if per_layer else 1
    settings = replace(QUICK, method=method, tokens=2, per_layer=per_layer)
    before = learned.fingerprint(frozen)
    inversion = Inversion(frozen, 4, settings)
    first = inversion.learned
    pictures, tokens = torch.rand(3, 3, 8, 8), torch.tensor([THING("a <thing>"), THING("<thing> on")])
    assert sum(invert(inversion, pictures, tokens, settings)) == settings.steps

    # Gradients and weights of the frozen model.
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert learned.fingerprint(frozen) == before
    changed = {name for name, value in inversion.learned.items() if not torch.equal(value, first[name])}
    assert changed == {ROWS, *(key_values(frozen) if method == "keys" else ())}

    # A model with the word: its table has more rows, and all else is equal.
    model = with_words(frozen, [(inversion.learned, (2, layers))])
    grown, old = model.state_dict(), frozen.state_dict()
    table, rows = grown.pop("text.word.weight"), old.pop("text.word.weight")
    assert torch.equal(table, torch.cat([rows, inversion.rows])) and len(table) == len(rows) + 2 * layers
    assert {name for name in old if not torch.equal(old[name], grown[name])} == changed - {ROWS}


def test_the_word_alone_changes_pictures(squares: Run, thing: Path, layered: Path) -> None:
    def drawn(*words: str, text: str = "a red square") -> np.ndarray:
        return draw.sample(squares, [text], n=2, seed=0, options={"steps": "3"}, words=words)

    plain = drawn()
    assert (drawn(str(thing)) == plain).all()
    assert (drawn(str(layered)) == plain).all()
    assert (drawn(str(thing), text="a <thing> square") != plain).any()
    both = drawn(str(layered), str(thing), text="a <thing> square")
    assert (both == drawn(str(thing), text="a <thing> square")).all()
    assert (drawn(str(thing), str(layered), text="a <l> square") != plain).any()


def test_the_loss_falls(thing: Path) -> None:
    row = json.loads((thing / learned.CONFIG).read_text())
    assert row["loss_after"] < row["loss_before"]


def test_several_words_combine(squares: Run, concept: Path, thing: Path, tmp_path: Path) -> None:
    row_of(request(squares, concept, tmp_path / "other", word="<other>"))
    model = learned.added(squares.load(), [str(thing), str(tmp_path / "other")])
    tokens = draw.texts_of(model, ["a <other> on <thing>"], None, "cpu").tokens
    first = len(VOCABULARY)
    assert tokens is not None and tokens[0, [2, 4]].tolist() == [first + 1, first]
    tables = [learned.load_file(place / learned.TENSORS)[ROWS] for place in (thing, tmp_path / "other")]
    assert torch.equal(model.parts[DENOISER].state_dict()["text.word.weight"][-2:], torch.cat(tables))


# The command.


def test_texts_that_are_cut_are_noted(squares: Run, concept: Path, tmp_path: Path) -> None:
    """The run reads 12 tokens, one of them before the text, and the word has two."""
    steps = replace(QUICK, steps=1, tokens=2)
    texts = tuple(" ".join([*["a"] * count, "{}"]) for count in (9, 10))
    events = list(learn(request(squares, concept, tmp_path / "w", texts=texts, settings=steps)))
    notes = [event.note for event in events if isinstance(event, Progress) and event.note]
    assert notes == [
        f"note: a text is cut, as {squares.path} reads 12 tokens of a text at most: '{'a ' * 10}<thing>'"
    ]


def test_the_same_command_twice_does_nothing(squares: Run, concept: Path, tmp_path: Path) -> None:
    words = ["invert", squares.path, "--pictures", concept, "--word", "<thing>", "--init", "red"]
    words += ["--out", tmp_path / "thing", "--set", "steps=2", "--set", "batch=2"]
    first = json_lines(invoke(app, *words))
    files = {file.name: file.read_bytes() for file in (tmp_path / "thing").iterdir()}
    assert files.keys() == {learned.CONFIG, learned.TENSORS}
    assert json_lines(invoke(app, *words)) == first and first[0]["n"] == 3
    assert {file.name: file.read_bytes() for file in (tmp_path / "thing").iterdir()} == files
    elsewhere = f"{squares.path}/../{squares.path.name}"
    assert json_lines(invoke(app, "invert", elsewhere, *words[2:])) == first

    # In a second place, the same bytes.
    words[words.index("--out") + 1] = tmp_path / "again"
    invoke(app, *words)
    assert {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()} == files
    grid = tmp_path / "grid.png"
    drawing = ["--word", tmp_path / "thing", "--out", grid, "--n", "1", "--steps", "2"]
    assert invoke(app, "sample", squares.path, "a <thing>", *drawing).exit_code == 0 and grid.exists()
    with pytest.raises(UserError, match="holds the word '<thing>' of another request; give another --out"):
        invoke(app, *words, "--set", "lr=0.1", raising=True)


def test_a_seed_has_at_most_64_bits() -> None:
    assert settings_of([f"seed={2**64 - 1}"]).seed == 2**64 - 1
    with pytest.raises(UserError, match="seed must be at least 0 and below 2\\^64"):
        settings_of([f"seed={2**64}"])


def test_maps_and_edits_know_a_learned_word(squares: Run, thing: Path, layered: Path, tmp_path: Path) -> None:
    sheet = ("--out", tmp_path / "sheet.png", "--steps", "2", "--device", "cpu")
    maps = invoke(
        app, "attention", squares.path, "a <l> on <thing>", "--word", thing, "--word", layered, *sheet
    )
    assert json_lines(maps)[0]["words"] == 4
    prompts = ("a red square on blue", "a <thing> square on blue")
    [row] = json_lines(invoke(app, "edit", squares.path, *prompts, "--word", thing, *sheet))
    assert row["kind"] == "replace" and row["mean_difference"] > 0


def test_layers_read_vectors_of_their_own(squares: Run, layered: Path) -> None:
    model = learned.added(squares.load(), [str(layered)])
    text = cast(TextStates, cast(Denoiser, model.parts[DENOISER]).text)
    tokens = draw.texts_of(model, ["a <l> on"], None, "cpu").tokens
    assert tokens is not None and tokens[0, 2:4].tolist() == [len(VOCABULARY), len(VOCABULARY) + 1]
    states, _ = text(tokens, None, None)
    each = states.unflatten(2, (4, -1))
    assert states.shape == (1, 5, 4 * 32) and not torch.equal(each[:, :, 0], each[:, :, 3])

    # Without the word, all layers read the same states.
    states, _ = text(torch.tensor([VOCABULARY("a red square")]), None, None)
    each = states.unflatten(2, (4, -1))
    assert torch.equal(each[:, :, :1].expand_as(each), each)

    # A further word leaves them.
    further = with_words(cast(Denoiser, model.parts[DENOISER]), [({ROWS: torch.zeros(1, 32)}, (1, 1))])
    assert cast(TextStates, further.text).layered == text.layered != ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"word": "green"}, "--word is 'green', a word that .* knows; give a new one, such as '<green>'"),
        ({"word": "two words"}, "give lower-case letters and digits"),
        ({"word": "<Thing>"}, "give lower-case letters and digits"),
        ({"texts": ("a {}", "a photo of {}")}, "--text 'a photo of {}' has words that .* does not know; use"),
        ({"init": "dog"}, "--init is 'dog', which is no word of .*; give one that it knows, such as a, red"),
        ({"pictures": "none"}, "--pictures is none, which is no folder"),
        ({"pictures": "EMPTY"}, "holds no pictures; give .png, .webp or .jpg files"),
        ({"pictures": "SMALL"}, "has 4 x 4 pixels; give one of 8 x 8"),
    ],
)
def test_words_that_cannot_be_learned_are_refused(
    squares: Run, concept: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    for name in ("EMPTY", "SMALL"):
        (tmp_path / name).mkdir()
    (tmp_path / "SMALL" / "a.png").write_bytes(codecs.encode_png(np.zeros((4, 4, 3), np.uint8)))
    if changes.get("pictures", "").isupper():
        changes = {"pictures": str(tmp_path / changes["pictures"])}
    with pytest.raises(UserError, match=sentence) as error:
        row_of(request(squares, concept, tmp_path / "thing", **changes))
    assert "\n" not in str(error.value) and not (tmp_path / "thing" / learned.CONFIG).exists()


def test_a_run_of_words_alone_draws_no_vectors(squares: Run) -> None:
    model = squares.load()
    texts = draw.texts_of(model, ["a red square"], None, "cpu")
    with pytest.raises(UserError, match="has learned words alone, and no vectors; draw with --text words"):
        draw.drawing(model, texts, seed=0, options={"text": "both"})


def test_pictures_of_vectors_take_no_learned_word(squares: Run, thing: Path) -> None:
    with pytest.raises(
        UserError, match=r"--word is .*thing, and the pictures of .* follow vectors; leave it"
    ):
        draw.sample(squares, ["a <thing>"], n=1, seed=0, options={"text": "vector"}, words=[str(thing)])


def test_a_run_of_vectors_alone_draws_no_words(squares: Run) -> None:
    metadata = json.loads(json.dumps(squares.metadata))
    metadata["config"]["training"] |= {"drop_words": 1.0, "drop_vector": 0.0}
    run = Run(squares.path, metadata)
    with pytest.raises(UserError, match="has learned vectors alone, and no words; draw with --text vector"):
        draw.sample(run, ["a red square"], n=1, seed=0)
    with pytest.raises(UserError, match="has learned vectors alone; give a run that reads words"):
        maps.attention(run, "a red square", seed=0)


def refused(run: Run, words: Sequence[Path], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        learned.added(run.load(), [str(word) for word in words])


def test_words_that_do_not_fit_are_refused(squares: Run, thing: Path, tmp_path: Path) -> None:
    refused(squares, [tmp_path], "holds no word; `python -m train invert` learns one")
    refused(squares, [thing, thing], "a word that this run has already; leave it out")
    (tmp_path / "other").mkdir()
    config = json.loads((thing / learned.CONFIG).read_text())
    (tmp_path / "other" / learned.CONFIG).write_text(json.dumps({**config, "weights": "0"}))
    refused(squares, [tmp_path / "other"], "and this run has other weights; give")


def test_a_damaged_word_is_to_be_learned_again(squares: Run, thing: Path, tmp_path: Path) -> None:
    (tmp_path / learned.CONFIG).write_bytes((thing / learned.CONFIG).read_bytes())
    refused(squares, [tmp_path], "word.safetensors is missing; learn the word again")
    (tmp_path / learned.TENSORS).write_bytes((thing / learned.TENSORS).read_bytes()[:100])
    refused(squares, [tmp_path], "word.safetensors is damaged; learn the word again")


@pytest.mark.parametrize(
    "changes", [{"settings": {}}, {"settings": None}, {"layers": "four"}, {"settings": {"tokens": True}}]
)
def test_a_folder_without_the_sizes_of_its_word_is_no_word(
    squares: Run, thing: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = json.loads((thing / learned.CONFIG).read_text())
    (tmp_path / learned.CONFIG).write_text(json.dumps({**config, **changes}))
    shutil.copy(thing / learned.TENSORS, tmp_path / learned.TENSORS)
    refused(squares, [tmp_path], "holds no word; `python -m train invert` learns one")
    assert not learned.is_word(tmp_path)


def test_tensors_of_other_sizes_than_the_word_are_damaged(squares: Run, thing: Path, tmp_path: Path) -> None:
    config = json.loads((thing / learned.CONFIG).read_text())
    (tmp_path / learned.CONFIG).write_text(json.dumps(config))
    for tensors in ({}, {ROWS: torch.zeros(2, 32)}, {ROWS: torch.zeros(1, 32), "unet.x": torch.zeros(1)}):
        save_file(tensors, tmp_path / learned.TENSORS)
        refused(squares, [tmp_path], "word.safetensors is damaged; learn the word again")


def test_two_commands_learn_no_word_in_one_place(squares: Run, concept: Path, tmp_path: Path) -> None:
    first = learn(request(squares, concept, tmp_path / "w"))
    next(first)
    other = request(squares, concept, tmp_path / "w", settings=replace(QUICK, lr=0.1))
    with pytest.raises(UserError, match=r"another run is writing to .*; wait for it, or give another folder"):
        row_of(other)
    [*_, row] = first
    with pytest.raises(UserError, match="of another request; give another --out"):
        row_of(other)
    assert row == row_of(request(squares, concept, tmp_path / "w"))

    # The path of the run may be written in another way.
    link = tmp_path / "link"
    link.symlink_to(squares.path)
    assert row == row_of(replace(request(squares, concept, tmp_path / "w"), run=str(link)))


def test_a_missing_average_is_named(squares: Run, tmp_path: Path) -> None:
    """The newest checkpoint also holds the part, which would draw other pictures."""
    run = Run(Path(shutil.copytree(squares.path, tmp_path / "run")), squares.metadata)
    (run.checkpoint() / "ema.safetensors").unlink()
    with pytest.raises(UserError, match=r"ema.safetensors is missing; remove the folder to go on from"):
        run.load()
