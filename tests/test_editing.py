"""Attention maps and prompt-to-prompt: train/sampling/maps.py, alignment.py, editing.py."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from synth.errors import UserError
from synth.images import codecs
from tests.kit import invoke
from tests.kit_squares import VOCABULARY, batch
from train.cli import app
from train.model import AttentionLayer
from train.models import diffusion
from train.models.byte_pairs import BytePairs, packed
from train.runs import Run
from train.sampling import draw, editing, maps, unread
from train.sampling.alignment import aligned, common, worded
from train.sampling.editing import Edited, Editor, Plan

pytestmark = pytest.mark.usefixtures("one_thread")

RED, GREEN = "a red square on blue", "a green square on blue"


@pytest.fixture
def run(squares: Run) -> Run:
    return squares


def editor(run: Run, **options: str) -> Editor:
    return Editor(run, run.load(), {"steps": "3", **options}, "cpu")


def edited(run: Run, source: str = RED, edit: str = GREEN, **plan: object) -> Edited:
    """Returns the edit of two pictures."""
    opened = editor(run)
    return opened.edited([source] * 2, [edit] * 2, Plan(**plan), noise=opened.noise(range(2), 0))  # type: ignore[arg-type]


def close(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one, other, atol=2e-5))


# Alignment.


@pytest.mark.parametrize(
    ("source", "edit", "pairs"),
    [
        ("a b c", "a b c", [(0, 0), (1, 1), (2, 2)]),
        ("a b c", "a x c", [(0, 0), (2, 2)]),
        ("a c", "a b c", [(0, 0), (1, 2)]),
        ("a b c", "a c", [(0, 0), (2, 1)]),
        ("b", "a b", [(0, 1)]),
        ("a b", "c d", []),
    ],
)
def test_equal_words_are_aligned(source: str, edit: str, pairs: list[tuple[int, int]]) -> None:
    assert common(source.split(), edit.split()) == pairs


def alignment_of(source: str, edit: str, kind: str = "auto") -> tuple[str, list[object]]:
    pair = aligned(worded(VOCABULARY, source), worded(VOCABULARY, edit), kind)
    return pair.kind, list(pair.links)


def test_words_that_change_in_place_are_replaced_and_new_ones_refine() -> None:
    same = [((1,), (1,)), ((3,), (3,))]
    assert alignment_of("a red square", "a blue square") == ("replace", [*same, ((2,), (2,))])
    assert alignment_of("a square", "a blue square") == ("refine", [((1,), (1,)), ((2,), (3,))])
    assert alignment_of("a red square", "a blue square", "refine") == ("refine", same)

    # One word becomes two, which share its map.
    kind, links = alignment_of("a red square", "a blue green square", "replace")
    assert (kind, links[-1]) == ("replace", ((2,), (2, 3)))


def test_words_have_their_pieces() -> None:
    merges = [("r", "e"), ("re", "d</w>")]
    tokenise = BytePairs(packed(merges), 8)
    words = worded(tokenise, "A red reed")
    assert [(word.text, word.columns) for word in words] == [
        ("a", (1,)),
        ("red", (2,)),
        ("reed", (3, 4, 5)),
    ]
    assert worded(BytePairs(packed(merges), 5), "a red reed")[2].columns == (3,)
    assert [word.columns for word in worded(VOCABULARY, RED)] == [(1,), (2,), (3,), (4,), (5,)]


# Maps.


def test_maps_sum_to_1_over_the_words(run: Run) -> None:
    """The first token, which begins a text, has a map too."""
    model = run.load()
    texts = draw.texts_of(model, [RED, "a square"], None, "cpu")
    kept = maps.maps_of(texts.tokens)
    with diffusion.attention(model.parts, kept):
        drawn = draw.pictures(draw.drawing(model, texts, seed=0, options={"steps": "2"}, run=run))
    for side in (4, 8):
        assert close(kept.at(side).sum(dim=1), torch.ones(2, side, side))
        assert not kept.at(side)[1, 3:].any()
    assert close(kept.whole(8).sum(dim=1), torch.ones(2, 8, 8))

    # Reading changes nothing, and ends with the block.
    again = draw.pictures(draw.drawing(model, texts, seed=0, options={"steps": "2"}, run=run))
    assert (drawn == again).all() and sum(kept.counts.values()) == 3 * 4


def test_layers_below_a_quarter_of_the_side_are_left_out_of_whole_maps() -> None:
    sums = {side: torch.rand(1, 2, side, side) for side in (4, 8)}
    kept = maps.Maps(1, 2, sums, {4: 2, 8: 1})
    enlarged = {s: torch.nn.functional.interpolate(sums[s], (32, 32), mode="bilinear") for s in sums}
    assert torch.equal(kept.whole(32), enlarged[8])
    assert close(kept.whole(16).mean(), (sums[4].sum() / 16 + sums[8].sum() / 64) / 2 / 3)
    assert torch.equal(maps.Maps(1, 2, {4: sums[4]}, {4: 2}).whole(32), enlarged[4] / 2)  # no other is there


def test_maps_belong_to_words(run: Run) -> None:
    seen = maps.attention(run, RED, seed=0, options={"steps": "2"})
    assert [word.text for word in seen.words] == RED.split() and seen.maps.shape == (5, 8, 8)
    shown = maps.shown(seen.maps[1])
    assert shown.shape == (8, 8, 3) and shown.max() == 255


# Identities of prompt-to-prompt.


def test_no_injection_is_plain_sampling(run: Run) -> None:
    opened = editor(run)
    pair = edited(run, cross=0.0, itself=0.0, weights={"green": 4.0})
    noise = opened.noise(range(2), 0)
    assert close(pair.edit, opened.drawn(noise, [GREEN] * 2))
    assert close(pair.source, opened.drawn(noise, [RED] * 2))


def test_full_injection_takes_every_map(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every map of the edit is that of the source, bit for bit, and yet the picture is another."""
    rows: list[Tensor] = []
    unet = diffusion.attention

    def watched(parts: dict[str, torch.nn.Module], control: object) -> object:
        def kept(weights: Tensor, layer: AttentionLayer) -> Tensor:
            changed: Tensor = control(weights, layer)  # type: ignore[operator]
            rows.append(changed[:4])
            return changed

        return unet(parts, kept)

    monkeypatch.setattr(diffusion, "attention", watched)
    pair = edited(run, cross=1.0, itself=1.0)
    assert len(rows) == 5 * 8 and all(torch.equal(row[:2], row[2:]) for row in rows)
    plain = editor(run).drawn(editor(run).noise(range(2), 0), [GREEN] * 2)
    assert not close(pair.edit, pair.source) and not close(pair.edit, plain)


@pytest.mark.parametrize("cross", [0.0, 0.5, 1.0])
def test_an_unchanged_prompt_gives_the_source(run: Run, cross: float) -> None:
    pair = edited(run, RED, RED, cross=cross, itself=cross)
    assert close(pair.edit, pair.source)


def test_a_weight_of_1_is_the_identity(run: Run) -> None:
    plain = edited(run)
    assert torch.equal(edited(run, weights={"green": 1.0}).edit, plain.edit)
    assert not close(edited(run, weights={"green": 3.0}).edit, plain.edit)


def test_a_negative_weight_has_a_map_and_changes_pixels(run: Run) -> None:
    assert maps.shown(np.array([[0.0, -3.0], [-1.5, 1.5]]))[:, :, 0].tolist() == [[0, 255], [128, 128]]
    after = edited(run, RED, RED, weights={"red": -3.0}, keep_background=True)
    assert not close(after.edit, after.source)


def test_refine_without_new_words_is_replace(run: Run) -> None:
    one, other = (edited(run, RED, RED, kind=kind, cross=0.7) for kind in ("refine", "replace"))
    assert torch.equal(one.edit, other.edit)


def test_a_share_of_a_word_acts_on_this_word_alone(run: Run) -> None:
    plain = edited(run).edit
    assert torch.equal(edited(run, shares={"green": Plan().cross}).edit, plain)
    assert not close(edited(run, shares={"green": 0.0}).edit, plain)


def test_pixels_change_where_a_map_of_a_changed_word_is_high() -> None:
    heat = torch.full((2, 1, 8, 8), 0.01)
    heat[0, 0, 1, 1], heat[1, 0, 6, 6] = 1.0, 0.2
    mask = editing.changed_pixels(heat, 8)
    assert mask.shape == (1, 1, 8, 8) and mask.sum() == 18
    assert mask[0, 0, :3, :3].all() and mask[0, 0, 5:, 5:].all()
    assert not editing.changed_pixels(torch.zeros(2, 1, 8, 8), 8).any()


def test_the_maps_of_an_edit_are_spread_once() -> None:
    source, edit = (worded(VOCABULARY, text) for text in ("a red square", "a green square"))
    pair = aligned(source, edit, "auto")
    kept = maps.Maps(2, 4, {8: torch.zeros(2, 4, 8, 8)}, {8: 1})
    kept.sums[8][:, 2, 3, 3] = 1.0
    mask = editing._Injection([pair], [Plan()], kept).changed(8)
    assert mask.sum() == 9 and mask[0, 0, 2:5, 2:5].all()


def test_a_kept_background_is_the_sources(run: Run) -> None:
    pair = edited(run, RED, RED, keep_background=True, itself=0.0)
    assert torch.equal(pair.edit, pair.source)


# Pictures that were not drawn.


@pytest.mark.parametrize("sampler", ["heun", "euler"])
def test_the_source_branch_ends_in_the_picture(run: Run, sampler: str) -> None:
    opened = editor(run, sampler=sampler)
    picture = batch().pictures[:2, 0].float() / 127.5 - 1
    path = opened.inverted(picture, [RED, GREEN])
    pair = opened.edited([RED, GREEN], [GREEN, RED], Plan(), path=path)
    assert len(path) == 4 and torch.equal(pair.source, picture)


def test_a_picture_comes_back_the_better_the_more_steps(run: Run) -> None:
    picture, errors = batch().pictures[:2, 0].float() / 127.5 - 1, []
    for steps in ("3", "8", "20"):
        opened = editor(run, steps=steps, guidance="1")
        again = opened.from_path(opened.inverted(picture, [RED, GREEN]), [RED, GREEN])
        errors.append(float((again - picture).square().mean().sqrt()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.1


def test_one_step_leaves_no_way_back_to_noise(run: Run) -> None:
    with pytest.raises(UserError, match=r"steps is 1, .*; give --steps 2 or more"):
        editor(run, steps="1").inverted(torch.zeros(1, 3, 8, 8), [RED])


# Commands.


def png(place: Path, pixels: np.ndarray) -> str:
    place.write_bytes(codecs.encode_png(pixels.astype(np.uint8)))
    return str(place)


def sheet(*words: str, out: Path) -> None:
    """Runs a command that writes a sheet."""
    invoke(app, *words, "--out", str(out), "--steps", "2", raising=True)


def test_commands_write_sheets(run: Run, tmp_path: Path) -> None:
    place, picture = str(run.path), png(tmp_path / "p.png", np.full((8, 8, 3), 200))
    sheet("attention", place, RED, out=tmp_path / "maps.png")
    sheet("edit", place, RED, GREEN, "--weight", "green=2", "--picture", picture, out=tmp_path / "edit.png")
    assert codecs.decode((tmp_path / "edit.png").read_bytes()).shape[1] == 8 + 5 * 136


def noted(*words: str) -> list[str]:
    """Runs a command that draws. Returns its lines on stderr."""
    return invoke(app, *words, "--steps", "2", raising=True).stderr.splitlines()


def test_unknown_words_are_named_and_cut_texts_noted(run: Run) -> None:
    name, long = run.path.name, "a red square on blue " * 3
    unknown = f"note: {name} does not know {{}}, so they change the pictures as any unknown word would"
    cut = f"note: a text is cut, as {name} reads 12 tokens of a text at most: '{long[:40]}...'"
    assert unread.notes(run, ["A Zebra, red", "a dog"], {}) == [unknown.format("'zebra', ',', 'dog'")]
    assert unread.notes(run, [RED, long], {}) == [cut]
    assert unread.notes(run, [RED, "a dog"], {"text": "vector"}) == unread.notes(run, [RED], {}) == []
    [many, _] = unread.notes(run, [" ".join(f"w{i}" for i in range(11)) + " a"], {})
    assert "'w9' and 1 more, so they change" in many


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["sample", "a dog", "--n", "1"], ["attention", "a dog"], ["edit", RED, "a red square on dog"]]
)
def test_commands_that_draw_note_unknown_words(run: Run, tmp_path: Path, words: list[str]) -> None:
    [note] = noted(words[0], str(run.path), *words[1:], "--out", str(tmp_path / "out.png"))
    assert "does not know 'dog', so" in note


def test_an_empty_text_of_a_picture_is_a_text(run: Run, tmp_path: Path) -> None:
    picture = png(tmp_path / "p.png", np.full((8, 8, 3), 200))
    words = ["sample", str(run.path), RED, "--picture", picture, "--picture-text", ""]
    assert noted(*words, "--out", str(tmp_path / "out.png")) == []
    with pytest.raises(UserError, match="one noise gives one picture of each text"):
        noted(*words, "--n", "2", "--out", str(tmp_path / "out.png"))
    with pytest.raises(UserError, match="--seed is 3, and the noise is that of --picture; leave --seed out"):
        noted(*words, "--seed", "3", "--out", str(tmp_path / "out.png"))
    with pytest.raises(UserError, match="give --picture FILE too"):
        noted("sample", str(run.path), RED, "--picture-text", "", "--out", str(tmp_path / "out.png"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["RUN", RED, "-n", "2"], "unknown option -n; write --n"),
        (
            ["--steps", "2", "RUN", RED],
            "--steps stands before RUN; drawing options follow it: RUN TEXT --steps",
        ),
        (
            ["RUN", RED, "--encoder", "nano"],
            "--encoder is nano, and the pictures of .* follow words; leave it",
        ),
    ],
)
def test_options_that_a_sample_would_not_read_are_refused(
    run: Run, tmp_path: Path, words: Sequence[str], sentence: str
) -> None:
    given = [word.replace("RUN", str(run.path)) for word in words]
    with pytest.raises(UserError, match=sentence):
        invoke(app, "sample", *given, "--out", str(tmp_path / "grid.png"), raising=True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([RED], "1 text is given"),
        ([RED, "a square"], "nothing in the edited prompt stands for 'red'"),
        ([RED, GREEN, "--weight", "yellow=2"], "names 'yellow', which is no word of the edited prompt"),
        ([RED, GREEN, "--share", "green=2"], "--share is 2.0; it must be 0 to 1"),
        ([RED, GREEN, "--weight", "green"], "give WORD=X"),
        ([RED, GREEN, "--cross", "1.5"], "--cross is 1.5"),
        ([RED, GREEN, "--text", "both"], "leave --text out"),
        ([RED, GREEN, "--guidance", "0"], "--guidance 0 draws without them; give --guidance 1 or more"),
        ([RED, GREEN, "--picture", "none.png"], "which is no file"),
        ([RED, GREEN, "--picture", "SMALL", "--seed", "0"], "--seed is 0, and --picture has no random noise"),
        ([RED, GREEN, "-n", "2"], "unknown option -n; write --n"),
        ([RED, GREEN, "--steps", "--guidance", "2"], "--steps has no value; write --steps VALUE"),
        ([RED, GREEN, "--picture", "SMALL"], "4 x 4 pixels"),
    ],
)
def test_edits_that_cannot_be_are_refused(
    run: Run, tmp_path: Path, words: Sequence[str], sentence: str
) -> None:
    small = png(tmp_path / "small.png", np.zeros((4, 4, 3)))
    given = [word.replace("SMALL", small) for word in words]
    given += ["--kind", "replace"] if "a square" in words else []
    with pytest.raises(UserError, match=sentence) as error:
        sheet("edit", str(run.path), *given, out=tmp_path / "edit.png")
    assert "\n" not in str(error.value) and not (tmp_path / "edit.png").exists()


def test_a_model_without_maps_is_refused(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path, {**run.metadata, "model": "stylegan2"})
    with pytest.raises(UserError, match="a run of stylegan2, which offers no attention maps; give a run"):
        maps.attention(other, RED, seed=0)
