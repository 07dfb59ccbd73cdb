"""Diffusion that reads the token states of a frozen CLIP text transformer."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caption import encoders, text_towers
from caption.encoders import Encoder
from synth.errors import UserError
from tests.kit_train import DENOISER, quiet, refused, weights
from train import export, runs
from train.config import from_json, to_json
from train.models import diffusion, tower
from train.models.byte_pairs import END, BytePairs, cleaned, divided, packed
from train.models.denoiser import Sizes
from train.models.diffusion import Config
from train.models.guidance import without
from train.models.words import BEGIN, PAD, padded
from train.sampling import draw
from train.start.request import TrainRequest

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    "a red star",
    "A Blue disc, left of 12 rings!",
    "!",
    "!!! wow",
    "don't we'll they're I'VE it'S '\u017f",
    "“curly” \u2018quotes\u2019 of ﬁne \uff26\uff35\uff2c\uff2c\u3000width ŉ ﬅ ǆ",
    "café cafe\u0301 ½ ² Ⅷ 一 東京 İstanbul",
    "&amp; &lt;b&gt; &eacute; &ldquo;x&rdquo; <b>&rdquo;</b> &amp;amp;amp; &none;",
    "<start_of_text> x <END_OF_TEXT> <start_of_text",
    "emoji 😀👩‍👩‍👧 snake_case a_b1",
    "",
    "   ",
    "tab\tnew\nline\r\nx\x0by\x00",
    "नमस्ते שלום عربي ก็",
    "word " * 200,
]


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return encoders.load(encoders.find("nano"))


@pytest.fixture(scope="module")
def read(nano: Encoder) -> text_towers.TextTower:
    return nano.text_tower()


@pytest.fixture(scope="module")
def byte_pairs(read: text_towers.TextTower) -> BytePairs:
    return BytePairs(packed(read.merges), read.sizes["length"])


def ours(row: list[int], first: int) -> list[int]:
    """Returns tokens of open_clip in the numbers of byte_pairs.py. `first` is its token of the beginning."""
    length = max(place for place, token in enumerate(row) if token == first + 1) + 1
    return [{first: BEGIN, first + 1: END}.get(token, token + END + 1) for token in row[:length]]


# Tokens.


def test_tokens_are_those_of_open_clip(nano: Encoder, byte_pairs: BytePairs) -> None:
    rows = nano._tokenizer(TEXTS).tolist()
    first = len(byte_pairs) - 3
    assert [byte_pairs(text) for text in TEXTS] == [ours(row, first) for row in rows]
    assert len(byte_pairs("word " * 200)) == 96 and len(byte_pairs.merges) < 7000


@pytest.mark.slow
def test_tokens_of_clip_are_those_of_open_clip() -> None:
    from open_clip import SimpleTokenizer

    theirs = SimpleTokenizer()
    clip = BytePairs(packed(theirs.bpe_ranks), 77)
    assert len(clip.merges) < 200_000 and len(clip) == 49_408 + 1
    assert [clip(text) for text in TEXTS] == [ours(row, 49_406) for row in theirs(TEXTS).tolist()]


def test_padding_is_no_piece(byte_pairs: BytePairs) -> None:
    """open_clip pads by 0, which is its token of "!"."""
    assert [PAD, BEGIN, END] == [0, 1, 2] and byte_pairs("") == [BEGIN, END]
    assert byte_pairs("!!x")[1:-1] and min(byte_pairs("!!x")[1:-1]) > END
    assert byte_pairs("!") == [BEGIN, END + 1 + 256, END]


def test_byte_pairs_pickle(byte_pairs: BytePairs) -> None:
    byte_pairs("a red star")
    copy = pickle.loads(pickle.dumps(byte_pairs))
    assert copy == byte_pairs and copy("a blue star") == byte_pairs("a blue star")


def test_texts_are_cleaned_and_split_as_by_clip() -> None:
    assert cleaned("  Two\n “Words”  &amp;lt; ") == 'two "words" <'
    assert divided("it's 12 stars!?") == ["it", "'s", "1", "2", "stars", "!?"]


# States.


@torch.no_grad()
def states_of(nano: Encoder, texts: list[str]) -> Tensor:
    """Returns the token states (N, 96, W) of open_clip's own network."""
    model: Any = nano._model
    states = model.token_embedding(nano._tokenizer(texts)) + model.positional_embedding
    states = model.transformer(states, attn_mask=model.attn_mask)
    return model.ln_final(states)


def test_states_are_those_of_open_clip(
    nano: Encoder, read: text_towers.TextTower, byte_pairs: BytePairs
) -> None:
    network = tower.Tower(len(byte_pairs), **read.sizes)
    tower.fill(network, read.weights)
    tokens = padded(map(byte_pairs, TEXTS))
    with torch.no_grad():
        states = network(tokens)
    assert torch.allclose(states[tokens != PAD], states_of(nano, TEXTS)[tokens != PAD], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_first_clip_has_another_activation(nano: Encoder) -> None:
    from open_clip.transformer import QuickGELU, TextTransformer

    torch.manual_seed(0)
    theirs = TextTransformer(96, 2514, 16, heads=2, layers=2, output_dim=8, act_layer=QuickGELU)
    sizes, _, values = text_towers.read("first", theirs, nano._tokenizer)
    network = tower.Tower(2515, **sizes)
    tower.fill(network, values)
    tokens = torch.randint(0, 2512, (2, 96))
    states, mask = theirs._embeds(tokens)
    expected = theirs.ln_final(theirs.transformer(states, attn_mask=mask))
    assert sizes["activation"] == "quick_gelu"
    assert torch.allclose(network(tokens + 3), expected, atol=1e-5)


def test_other_text_networks_are_refused(nano: Encoder) -> None:
    from open_clip.transformer import TextTransformer

    wide = TextTransformer(96, 2514, 16, heads=2, layers=1, no_causal_mask=True)
    for model, tokenizer, sentence in (
        (torch.nn.Linear(1, 1), nano._tokenizer, "has another text network than CLIP's transformer"),
        (wide, nano._tokenizer, "has a text transformer with other attention than CLIP's"),
        (nano._model, None, "has another tokeniser than CLIP's byte pairs"),
    ):
        with pytest.raises(UserError, match=f"encoder x {sentence}; give another encoder"):
            text_towers.read("x", model, tokenizer)


# A run.

CAPTIONS = ["a red square", "a blue ring on white"]


@pytest.fixture(scope="module")
def request_of(undisturbed: Path, captioned: Path, tiny_encoder: Path) -> Any:
    """Returns the request of a run at a place."""
    settings = (*DENOISER, "model.words=tower", "run.checkpoint=16")

    def at(out: Path, images: int = 48, encoder: Path = tiny_encoder) -> TrainRequest:
        tables = (str(captioned),)
        return TrainRequest(
            "diffusion-32",
            (str(undisturbed),),
            str(out),
            tables,
            images=images,
            settings=settings,
            encoder=str(encoder),
        )

    return at


@pytest.fixture(scope="module")
def run(request_of: Any, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A run with checkpoints at 16, 32 and 48 images."""
    out = tmp_path_factory.mktemp("tower") / "run"
    assert quiet(request_of(out)) == 0
    return runs.find(out)


@pytest.mark.slow
def test_the_tower_stays_that_of_the_encoder(run: runs.Run, tiny_encoder: Path) -> None:
    values = encoders.load(encoders.find(str(tiny_encoder))).text_tower().weights
    sizes = run.survey["tower"]["sizes"]
    expected = tower.Tower(49_409, **sizes)
    tower.fill(expected, values)

    # Every checkpoint has it once, also the one without optimisers.
    for folder in run.checkpoints():
        names = {path.name for path in folder.iterdir()}
        assert "tower.safetensors" in names and "tower.optimiser.safetensors" not in names
        parts = run.load(folder).parts
        assert set(parts) == {diffusion.DENOISER, diffusion.TOWER}
        for name, value in parts[diffusion.TOWER].state_dict().items():
            assert torch.equal(value, expected.state_dict()[name])
    assert not (run.checkpoints()[0] / "denoiser.safetensors").exists()
    assert "text.project.weight" in parts[diffusion.DENOISER].state_dict()


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one(run: runs.Run, request_of: Any, tmp_path: Path) -> None:
    for images in (24, 48):
        assert quiet(request_of(tmp_path / "run", images)) == 0
    assert weights(tmp_path / "run") == weights(run.path)


@pytest.mark.slow
def test_an_export_draws_the_same_pictures_without_open_clip(run: runs.Run, tmp_path: Path) -> None:
    out = tmp_path / "export"
    export.export(str(run.path), str(out))
    program = (
        "import sys, model\n"
        "drawer = model.load()\n"
        f"pictures = drawer.draw(drawer.texts({CAPTIONS!r}), seed=3, steps=2)\n"
        "assert 'open_clip' not in sys.modules\n"
        "print(pictures.double().flatten().tolist())"
    )
    theirs = json.loads(subprocess.check_output([sys.executable, "-c", program], cwd=out))

    # As a RUN, the folder draws them too.
    for each in (run, runs.find(out)):
        loaded = each.load()
        texts = draw.texts_of(loaded, CAPTIONS, None, "cpu")
        drawing = draw.drawing(loaded, texts, seed=3, options={"steps": "2"})
        assert np.allclose(theirs, drawing.images(range(2)).flatten(), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_words_and_their_absence_reach_the_denoiser(run: runs.Run) -> None:
    loaded = run.load()
    denoiser, network = loaded.parts[diffusion.DENOISER], loaded.parts[diffusion.TOWER]
    tokens = padded(map(diffusion.tokeniser(loaded.config, loaded.survey), CAPTIONS))

    # Of a text without words, the beginning alone is left. Its state knows no word.
    bare = without(tokens, torch.tensor([True, True]))
    states, present = denoiser.states(bare, None, None, network)  # type: ignore[operator]
    assert present.sum(1).tolist() == [1, 1] and torch.equal(states[0, 0], states[1, 0])
    full, _ = denoiser.states(tokens, None, None, network)  # type: ignore[operator]
    assert torch.allclose(full[:, 0], states[:, 0], atol=1e-6) and not torch.allclose(full[0, 2], full[1, 2])

    # An earlier checkpoint has a tower to guide with.
    images = [
        draw.sample(run, CAPTIONS, n=1, seed=0, options={"steps": "1", **options})
        for options in ({}, {"weak": "16"}, {"base": str(run.path)})
    ]
    assert images[0].shape == images[1].shape == images[2].shape == (2, 16, 16, 3)


@pytest.mark.slow
def test_a_run_without_such_a_tower_is_refused(request_of: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    # The same weights with attention to later tokens.
    other = tmp_path / "other"
    other.mkdir()
    for path in tiny_encoder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    values = json.loads((other / "open_clip_config.json").read_text())
    values["model_cfg"]["text_cfg"]["no_causal_mask"] = True
    (other / "open_clip_config.json").write_text(json.dumps(values))
    refused(
        request_of(tmp_path / "run", encoder=other),
        "the encoder other has a text transformer with other attention than CLIP's; "
        "give another encoder, or train on words",
    )
    refused(
        request_of(tmp_path / "run", encoder=tmp_path / "none"),
        "model.words=tower needs the captions' encoder: .* or --set model.words=own does without",
    )
    with pytest.raises(UserError, match="--live has none; give a captioned set by --on, or --set model"):
        diffusion.survey(replace(Config(), model=Sizes(words="tower")), [], {})


def test_older_configs_read_their_own_words() -> None:
    from train.config import RunConfig

    values = to_json(RunConfig.of("diffusion"))
    assert values["model"].pop("words") == "own"
    assert from_json(values, "diffusion") == RunConfig.of("diffusion")
    with pytest.raises(ValueError, match="must be own or tower"):
        Sizes(words="song")
