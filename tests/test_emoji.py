import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.cli import app
from data.emoji import font, prepare
from synth.errors import UserError
from synth.sets.shards import ShardSet
from tests.kit import ROOT, invoke, json_lines, states, tar_hashes
from tests.kit_font import write_font

TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
WAVING = {f"👋{tone}": (200 - 30 * i, 150 - 20 * i, 100) for i, tone in enumerate(["", *TONES])}
FRUIT = {
    emoji: (250 - 7 * i, 10 + 9 * i, 60) for i, emoji in enumerate("🍎🍏🍐🍊🍋🍌🍉🍇🍓🍈🍒🍑🥭🍍🥥🥝🍅🍆🥑🥦")
}
OTHERS = {"🇹🇩": (10, 20, 200), "😀": (250, 200, 20)}


@pytest.fixture(scope="module")
def made_font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_font(tmp_path_factory.mktemp("font") / "made.ttf", {**WAVING, **FRUIT, **OTHERS})


def run(*arguments: object) -> Any:
    """Runs the command in this process; the UserError that it ends with is raised."""
    return invoke(app, "emoji", *arguments, raising=True)


def samples(place: Path) -> dict[str, Any]:
    shard_set = ShardSet(str(place))
    return {s.metadata["emoji"]: s for shard in shard_set.shards for s in shard_set.read(shard)}


@pytest.fixture(scope="module")
def prepared(made_font: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("emoji") / "set"
    run("--font", made_font, "--out", out, "--workers", 0, "--test-share", 0.3)
    return out


def test_every_emoji_that_the_font_shows_is_drawn_with_its_names_and_no_other(prepared: Path) -> None:
    train, test = samples(prepared / "train"), samples(prepared / "test")
    assert {**train, **test}.keys() == {*WAVING, *FRUIT, *OTHERS} and not train.keys() & test.keys()
    drawn = {**train, **test}
    for emoji, colour in {**WAVING, **FRUIT, **OTHERS}.items():
        pixels = drawn[emoji].pixels
        assert pixels.shape == (32, 32, 3) and (pixels[0, 0] == 255).all(), emoji
        assert np.abs(pixels[16, 16].astype(int) - colour).max() <= 1, emoji
    assert drawn["🍎"].captions == ["red apple", "apple"] and drawn["🍎"].metadata["source"] == "1F34E"
    assert drawn["🇹🇩"].captions == ["flag of Chad", "flag for Chad"]


def test_variants_in_several_skin_tones_lie_in_one_split(prepared: Path) -> None:
    places = {
        split
        for split in ("train", "test")
        for s in samples(prepared / split).values()
        if s.metadata["concept"] == "waving hand"
    }
    assert len(places) == 1


@pytest.mark.parametrize(
    ("emoji", "concept"),
    [
        ("🧑🏻‍❤️‍💋‍🧑🏿", "kiss"),
        ("💏🏾", "kiss"),
        ("🤝🏽", "handshake"),
        ("🫱🏻‍🫲🏿", "handshake"),
        ("🧔🏽‍♀️", "woman beard"),
        ("🐸", "frog"),
    ],
)
def test_a_concept_is_the_name_without_skin_tones(emoji: str, concept: str) -> None:
    [match] = [e for e in prepare.known() if e.emoji == emoji]
    assert match.concept == concept


def test_the_split_is_written_down_with_font_package_and_licence(prepared: Path) -> None:
    written = json.loads((prepared / "splits.json").read_text())
    for split in ("train", "test"):
        assert written["splits"][split] == [s.metadata["source"] for s in samples(prepared / split).values()]
        manifest = json.loads((prepared / split / "manifest.json").read_text())
        assert manifest["identity"]["dataset"] == f"emoji-{split}"
        assert "Open Font License" in manifest["licence"]
        assert (manifest["identity"]["filter"], manifest["identity"]["size"]) == ("lanczos", 32)
    assert len(next(iter(samples(prepared / "test").values())).metadata["font"]) == 64


def test_a_second_call_does_nothing(made_font: Path, prepared: Path) -> None:
    before = states(prepared)
    result = run("--font", made_font, "--out", prepared, "--workers", 0, "--test-share", 0.3)
    assert states(prepared) == before
    assert [row["prepared"] for row in json_lines(result)] == [0, 0]


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes_and_another_seed_another_split(
    made_font: Path, prepared: Path, tmp_path: Path
) -> None:
    run("--font", made_font, "--out", tmp_path / "again", "--workers", 0, "--test-share", 0.3)
    assert tar_hashes(tmp_path / "again" / "train") == tar_hashes(prepared / "train")
    run("--font", made_font, "--out", tmp_path / "other", "--workers", 0, "--test-share", 0.3, "--seed", 1)
    assert samples(tmp_path / "other" / "test").keys() != samples(prepared / "test").keys()


def test_a_font_without_colour_bitmaps_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    black = write_font(tmp_path / "black.ttf", {"😀": (0, 0, 0), **FRUIT}, bitmaps=False)
    text = tmp_path / "text.ttf"
    text.write_text("no font")
    for path, sentence in (
        (black, "without colours"),
        (text, "no font with colour bitmaps"),
        (tmp_path / "none.ttf", "there is no font"),
    ):
        with pytest.raises(UserError, match=sentence):
            run("--font", path, "--out", tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
def test_the_command_ends_with_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "data",
        "emoji",
        "--font",
        str(tmp_path / "none.ttf"),
        "--out",
        str(tmp_path / "set"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: there is no font")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0])
def test_a_share_that_holds_out_nothing_or_all_is_refused(
    made_font: Path, share: float, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        run("--font", made_font, "--out", tmp_path / "set", "--test-share", share)


@pytest.mark.slow
@pytest.mark.skipif(
    not any(Path(p).exists() for p in font.PLACES), reason="Debian's fonts-noto-color-emoji is not installed"
)
def test_noto_color_emoji_has_nearly_all_of_them() -> None:
    splits = prepare.originals(font.find(None), seed=0, share=0.1)
    concepts = {split: {o.metadata["concept"] for o in originals} for split, originals in splits.items()}
    assert sum(map(len, splits.values())) > 3500 and sum(map(len, concepts.values())) > 1700
    assert not concepts["train"] & concepts["test"]
