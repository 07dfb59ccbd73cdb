"""Speed of the caption stage: CPU time on one thread, and ratios within one run. `make bench` prints it.

python -m tests.bench.bench_caption              the stage beside the bare encoder, and its parts
python -m tests.bench.bench_caption sentences    words and distinct sentences of 1,000 pictures per data set
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caption import encoders, worker
from caption.audit.wording import wording
from caption.encoders import Encoder
from caption.pipeline import CaptionRequest, _Captioning
from caption.pseudo import noise
from caption.sentences import attributes
from caption.table import KIND, CaptionSet, Rows, TableWriter, metadata
from caption.worker import CaptionJob, caption_shard
from synth import datasets, families
from synth.sets import ledger
from synth.sets.records import Record
from synth.sets.shards import ShardSet
from synth.sets.storage import open_storage
from tests.kit import make_small

PICTURES = 256
ROUNDS = 3


def cpu(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Returns the least CPU seconds of several calls."""
    best = float("inf")
    for _ in range(rounds):
        begun = time.process_time()
        action()
        best = min(best, time.process_time() - begun)
    return best


def random_encoder(folder: Path) -> Path:
    """Writes a ViT-B-32 with random weights as a folder."""
    from safetensors.torch import save_file

    with encoders._open_clip() as open_clip:
        torch.manual_seed(0)
        config = open_clip.get_model_config("ViT-B-32")
        model = open_clip.create_model("ViT-B-32", pretrained=None)
    folder.mkdir()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return folder


def stage_against_bare(shards: Path, encoder: Path | str, precision: str, scratch: Path) -> None:
    """Prints pictures/s of the whole stage and of the bare encoder, and the time of the stage's parts.

    The bare encoder reads tensors in memory."""
    # Stage and encoder.
    out = str(scratch / precision)
    work = _Captioning(CaptionRequest(str(shards), out, str(encoder), workers=0, precision=precision))
    model: Encoder = work._encoder
    [job] = work.jobs(work.parts)
    batch = torch.randint(0, 256, (32, 3, model.size, model.size), dtype=torch.uint8)

    # Both in turn, so that load on the machine reaches both.
    def embed() -> None:
        for _ in range(PICTURES // 32):
            model._embed(batch.float() / 255)

    bare, stage = float("inf"), float("inf")
    with torch.inference_mode():
        for _ in range(ROUNDS):
            bare = min(bare, cpu(embed, 1))
            stage = min(stage, cpu(lambda: list(caption_shard(job)), 1))
    write = cpu(lambda: _write(scratch, model.dimensions))

    # Rows.
    name = encoder if isinstance(encoder, str) else encoder.name
    print(f"{name:<10} {precision}  stage {PICTURES / stage:8.1f} pictures/s", end="")
    print(f"  bare {PICTURES / bare:8.1f}  ratio {bare / stage:.3f}  writing {100 * write / stage:.2f} %")
    _parts(job, model)


def _parts(job: CaptionJob, model: Encoder) -> None:
    """Prints the milliseconds of each part of the stage per picture."""
    # Times.
    shard_set = ShardSet(job.shards)
    samples = list(worker._decoded(shard_set, job.shard, "cpu"))
    decode = cpu(lambda: list(worker._decoded(shard_set, job.shard, "cpu")))
    sentences = cpu(lambda: [worker.captions_of(s) for s in samples])
    pseudo = cpu(lambda: noise(0, range(PICTURES), 0, model.dimensions))
    pixels = torch.from_numpy(worker.stacked(samples)).permute(0, 3, 1, 2)
    resize = cpu(lambda: encoders._resized(pixels, model.size))

    # Row.
    named = {"read and decode": decode, "resize": resize, "sentences": sentences, "noise": pseudo}
    parts = ", ".join(f"{name} {1000 * seconds / PICTURES:.3f}" for name, seconds in named.items())
    print("           ms a picture:", parts)


def _write(scratch: Path, dimensions: int) -> None:
    """Writes a table of random vectors."""
    texts = [["a grey contour on black"] * 2] * 32
    vectors = np.random.default_rng(0).standard_normal((PICTURES, dimensions)).astype(np.float16)
    with TableWriter(str(scratch / "w.parquet"), dimensions, text_embeddings=False, metadata={}) as writer:
        for i in range(0, PICTURES, 32):
            keys, rows = [f"{j:09d}" for j in range(i, i + 32)], vectors[i : i + 32]
            writer.add(Rows(keys, i, rows, rows, texts, None))


def reading(scratch: Path) -> None:
    """Prints the time of reading key and image_embedding of 4,096 rows of 512."""
    # Table.
    vectors = np.random.default_rng(0).standard_normal((4096, 512)).astype(np.float16)
    folder = scratch / "read"
    folder.mkdir()
    identity: dict[str, Any] = {"kind": KIND, "encoder": "toy", "weights": "", "preprocessing": {}}
    identity |= {"precision": "fp32", "dimensions": 512, "xi": 0.25, "seed": 0}
    file, header = str(folder / "toy-000000.parquet"), metadata(identity, "00", "")
    with TableWriter(file, 512, text_embeddings=False, metadata=header) as writer:
        writer.add(Rows([f"{j:09d}" for j in range(4096)], 0, vectors, vectors, [["a"]] * 4096, None))

    # Set.
    record = Record("toy-000000.parquet", 0, 0, 4096, writer.size, writer.sha256, "", content={"shard": "00"})
    ledger.write_manifest(open_storage(str(folder)), ledger.manifest([record], identity, {"shards": {}}, {}))

    # Time.
    tables = CaptionSet(str(folder))
    seconds = cpu(lambda: tables.read(tables.parts[0], ["key", "image_embedding"]), 10)
    print(f"reading key and image_embedding of 4,096 x 512: {1000 * seconds:.1f} ms")


def sentences() -> Iterator[str]:
    """Yields a line per data set: distinct words and long sentences, colours, and pairs per CPU-second.

    They are those of the first 1,000 pictures."""
    heads = f"{'words':>8}{'distinct long':>15}{'with a colour':>15}{'green':>8}{'pairs/CPU-s':>14}"
    yield f"{'data set':<30}{heads}"
    together: list[str] = []
    for name in datasets.DATASETS:
        if name == "shaders21k":
            continue

        # Sentences and facts.
        samples = [sample for _, sample in families.draw(name, None, 0, range(1000))]
        pairs = _state_all(samples)
        rate = len(pairs) / cpu(partial(_state_all, samples))
        colours = [attributes.facts(sample).get("colour") for sample in samples]
        texts = [text for pair in pairs for text in pair]
        together += texts

        # Row.
        row = f"{wording(texts).vocabulary:>8,}{len({pair[1] for pair in pairs}):>15,}"
        yield f"{name:<30}{row}{sum(map(bool, colours)):>15,}{colours.count('green'):>8,}{rate:>14,.0f}"
    yield f"{'all sets together':<30}{wording(together).vocabulary:>8,}"


def _state_all(samples: list[Any]) -> list[Any]:
    return [attributes.sentences(sample) for sample in samples]


def main() -> None:
    """Prints the speed of the stage for two encoders, or the table of sentences."""
    if sys.argv[1:] == ["sentences"]:
        for line in sentences():
            print(line, flush=True)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        make_small(scratch / "shards", samples=PICTURES, shard_size=PICTURES, size=256, settings=())
        big = random_encoder(scratch / "ViT-B-32")
        for precision in encoders.PRECISIONS:
            stage_against_bare(scratch / "shards", big, precision, scratch)
        if (encoders._DATA / "nano" / "open_clip_config.json").is_file():
            for precision in encoders.PRECISIONS:
                stage_against_bare(scratch / "shards", encoders.NANO, f"{precision}", scratch / "nano")
        reading(scratch)


if __name__ == "__main__":
    main()
