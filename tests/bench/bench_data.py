"""Speed of the preparations, on made-up originals, on one core: `python -m tests.bench.bench_data`."""

import importlib
import io
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.kit import invoke, write, write_picture

PICTURES = 600


def write_cifar10(root: Path) -> None:
    """Writes the six files of the binary version, with noise for pictures."""
    write(root / "batches.meta.txt", "airplane\nbird\n")
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        records = np.random.default_rng(0).integers(0, 256, (PICTURES // 6, 3073), dtype=np.uint8)
        records[:, 0] %= 2
        write(root / name, records.tobytes())


def write_folder(root: Path) -> None:
    """Writes photographs of 200 x 150 pixels."""
    for i in range(PICTURES):
        write_picture(root / f"{i:04d}.jpg", i, size=(200, 150))
        write(root / f"{i:04d}.txt", "a picture")


def write_tar(root: Path) -> None:
    """Writes one tar of JPEGs of 256 pixels and their captions, as img2dataset does."""
    root.mkdir()
    with tarfile.open(root / "00000.tar", "w") as tar:
        for i in range(PICTURES):
            pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            picture = io.BytesIO()
            Image.fromarray(pixels).resize((256, 256)).save(picture, "JPEG")
            for extension, data in (("jpg", picture.getvalue()), ("txt", b"a picture")):
                member = tarfile.TarInfo(f"{i:09d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def milliseconds(name: str, *words: object) -> float:
    """Returns the CPU time of a picture in a preparation, in this process."""
    main = importlib.import_module(f"data.{name}.prepare").main
    begun = time.process_time()
    invoke(main, *words, "--workers", 0, raising=True)
    return 1e3 * (time.process_time() - begun) / PICTURES


def main() -> None:
    """Prints a line for each preparation: the better of two runs."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_cifar10(folder / "cifar10")
        write_folder(folder / "photographs")
        rows = [("cifar10, 32 px", "cifar10", ("--root", folder / "cifar10", "--size", 32))]
        for size in (64, 256):
            rows.append(
                (
                    f"folder, photographs of 200 x 150 at {size} px",
                    "folder",
                    ("--root", folder / "photographs", "--size", size),
                )
            )
        for title, name, words in rows:
            best = min(milliseconds(name, *words, "--out", folder / f"{title}, {i}") for i in range(2))
            print(f"{title:<60}{best:8.2f} ms a picture", flush=True)
        best = float("inf")
        for i in range(2):
            write_tar(folder / f"tars{i}")
            best = min(best, milliseconds("img2dataset", folder / f"tars{i}"))
        print(f"{'img2dataset in place, JPEGs of 256 px':<60}{best:8.2f} ms a picture")


if __name__ == "__main__":
    main()
