import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluate import sources
from synth.errors import UserError
from synth.sets.shards import ShardSet
from tests.kit import ROOT, make_small, pictures


def joined(source: sources.Pictures, first: int = 0) -> np.ndarray:
    return np.concatenate(list(source.batches(first)))


def folder_of(pixels: np.ndarray, folder: Path, suffix: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number:04d}.{suffix}")
    return folder


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), np.uint8)


def test_a_set_of_shards_comes_in_order_from_any_number(undisturbed: Path) -> None:
    whole = sources.find(str(undisturbed))
    expected = np.stack(
        [np.frombuffer(p, np.uint8).reshape(32, 32, 3) for p in pictures(undisturbed).values()]
    )
    assert whole.digest == ShardSet(str(undisturbed)).digest
    for first in (0, 5, 16, 39):
        np.testing.assert_array_equal(joined(whole, first), expected[first:])


def test_the_first_pictures_of_a_set_are_another_set(undisturbed: Path) -> None:
    whole, part = sources.find(str(undisturbed)), sources.find(str(undisturbed), limit=20)
    np.testing.assert_array_equal(joined(part), joined(whole)[:20])
    assert part.digest != whole.digest
    assert sources.find(str(undisturbed), limit=40).digest == whole.digest


def test_a_folder_comes_by_name_from_any_number(pixels: np.ndarray, tmp_path: Path) -> None:
    folder_of(pixels[:40], tmp_path / "a")
    folder_of(pixels[40:], tmp_path / "b" / "c", "webp")
    (tmp_path / "notes.txt").write_text("no picture")
    source = sources.find(str(tmp_path))
    assert source.count == 70
    np.testing.assert_array_equal(joined(source)[:40], pixels[:40])
    np.testing.assert_array_equal(joined(source, 41), joined(source)[41:])
    before = source.digest
    Image.fromarray(pixels[1]).save(tmp_path / "a" / "0000.png")
    assert sources.find(str(tmp_path)).digest != before


def test_what_holds_no_pictures_gets_a_sentence(pixels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no pictures"):
        sources.find(str(tmp_path))
    with pytest.raises(UserError, match="is not there"):
        sources.find(str(tmp_path / "nowhere"))
    folder_of(pixels[:3], tmp_path)
    with pytest.raises(UserError, match=r"0000.png is a file; give a finished set of shards or a folder"):
        sources.find(str(tmp_path / "0000.png"))
    with pytest.raises(UserError, match="holds 3 pictures, so 5 cannot be taken"):
        sources.find(str(tmp_path), limit=5)


def test_a_run_is_no_folder_of_pictures() -> None:
    for place in ("formula-32", ROOT / "data" / "formula-32"):
        with pytest.raises(UserError, match="is a run, and holds no pictures to measure; give a folder or"):
            sources.find(str(place))
    assert not sources.is_run(str(ROOT / "data"))


def test_an_unreadable_picture_is_named(pixels: np.ndarray, tmp_path: Path) -> None:
    (folder_of(pixels[:3], tmp_path) / "0001.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"0001.png of .* does not decode"):
        joined(sources.find(str(tmp_path)))


def test_pictures_of_two_sizes_are_named(pixels: np.ndarray, tmp_path: Path) -> None:
    folder_of(pixels[:3], tmp_path)
    Image.fromarray(pixels[3]).resize((9, 7)).save(tmp_path / "9.png")
    with pytest.raises(
        UserError, match=r"several sizes \(0000.png has 8 x 8 pixels and 9.png has 9 x 7 pixels\)"
    ):
        joined(sources.find(str(tmp_path)))


def test_pictures_of_another_size_in_a_later_batch_are_named(
    pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_AT_ONCE", 2)
    folder_of(pixels[:2], tmp_path)
    Image.fromarray(pixels[3]).resize((9, 7)).save(tmp_path / "9.png")
    with pytest.raises(UserError, match=r"several sizes \(0000.png has 8 x 8 pixels and 9.png has 9 x 7"):
        joined(sources.find(str(tmp_path)))


def test_a_damaged_shard_is_named(undisturbed: Path, tmp_path: Path) -> None:
    spoilt = Path(shutil.copytree(undisturbed, tmp_path / "set"))
    tar = sorted(spoilt.glob("*.tar"))[1]
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data)
    with pytest.raises(UserError, match=tar.name):
        joined(sources.find(str(spoilt)))


def test_an_unfinished_set_gets_a_sentence(tmp_path: Path) -> None:
    make_small(tmp_path / "set")
    (tmp_path / "set" / "manifest.json").unlink()
    with pytest.raises(UserError, match="holds no finished set"):
        sources.find(str(tmp_path / "set"))
