import io

import cv2
import numpy as np
import pytest
from PIL import Image

from synth.images import codecs

RNG = np.random.default_rng(0)
SHAPES = [(1, 1, 1), (5, 3, 1), (64, 64, 1), (1, 7, 3), (33, 20, 3)]


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_png_means_the_same_to_every_reader(shape: tuple[int, int, int]) -> None:
    pixels = noise(shape)
    data = codecs.encode_png(pixels)
    with Image.open(io.BytesIO(data)) as picture:
        picture.verify()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))).reshape(shape), pixels)
    cv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(np.asarray(cv).reshape(shape)[..., ::-1], pixels)
    assert np.array_equal(codecs.decode(data), pixels)


def test_webp_is_lossless() -> None:
    grey, colour = noise((32, 32, 1)), noise((32, 32, 3))
    assert np.array_equal(codecs.decode(codecs.encode_webp(colour)), colour)
    assert np.array_equal(codecs.decode(codecs.encode_webp(grey)), codecs.rgb(grey))


def test_jpeg_is_close() -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[:, None], 64, axis=1)[..., None]
    decoded = codecs.decode(codecs.encode_jpeg(ramp))
    assert decoded.shape == ramp.shape
    assert np.abs(decoded.astype(int) - ramp).max() <= 4


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA"])
def test_foreign_pngs_are_read_by_pillow(mode: str) -> None:
    picture = Image.fromarray(noise((16, 16, 3))).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    expected = np.asarray(picture if mode == "L" else picture.convert("RGB"))
    assert np.array_equal(codecs.decode(buffer.getvalue()).squeeze(), expected)


@pytest.mark.parametrize("position", [18, 31, 45, -20, -14])
def test_a_png_with_a_changed_byte_does_not_decode(position: int) -> None:
    data = bytearray(codecs.encode_png(noise((16, 16, 1))))
    data[position] ^= 255
    with pytest.raises(ValueError, match="not a readable picture"):
        codecs.decode(bytes(data))


def test_what_is_no_picture_does_not_decode() -> None:
    for data in (b"", b"no picture", codecs.encode_png(noise((16, 16, 1)))[:100]):
        with pytest.raises(ValueError, match="not a readable picture"):
            codecs.decode(data)
