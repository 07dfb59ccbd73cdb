"""CPU time of drawn pictures with sentences and tokens, as a share of a step of diffusion-32 at 32 px."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from train import model
from train.distributed import Ranks
from train.loop import Trainer
from train.start.prepared import Prepared, prepare, survey_of
from train.start.request import TrainRequest
from train.stream.reader import Reader, Slice

SETS = ("scenes_flat", "scenes", "fractals", "fractals_multi", "visual_atoms", "fractaldb", "noise")
TEXT = "blend:1,facts=1..6"
BATCH, BATCHES, ROUNDS = 64, 8, 3


def prepared(name: str, out: str) -> Prepared:
    """Returns a run of words alone on one live set."""
    settings = (f"training.batch={BATCH}", "training.drop_vector=1", f"live.{name}.pictures=1024")
    request = TrainRequest("diffusion-32", (), out, text=TEXT, device="cpu", live=(name,), settings=settings)
    return prepare(request, "cpu")


def drawing(run: Prepared, survey: dict[str, object]) -> float:
    """Returns CPU milliseconds of a picture with its tokens, the best of some rounds."""
    tokenise = model.find(run.config.name).tokeniser(run.config.groups, survey)
    stream = run.stream(model.Wanted((), tokenise=tokenise))
    reader, best = Reader(stream._sources, stream._visit, Slice(stream.order, 0, BATCH)), float("inf")
    for _ in range(ROUNDS + 1):  # the first one compiles
        begun = time.process_time()
        for batch in range(BATCHES):
            reader(batch * BATCH)
        best = min(best, time.process_time() - begun)
    return 1000 * best / (BATCH * BATCHES)


def step(run: Prepared, survey: dict[str, object]) -> float:
    """Returns CPU milliseconds of a training step, a picture."""
    ranks = Ranks(device="cpu")
    trainer = Trainer(run.config, run.context(ranks, survey), ranks)
    batches, best = run.stream(trainer.model.wanted).batches(0, BATCH), float("inf")
    for _ in range(ROUNDS + 2):
        batch = next(batches)
        begun = time.process_time()
        trainer.step(batch)
        best = min(best, time.process_time() - begun)
    batches.close()
    return 1000 * best / BATCH


def main() -> None:
    """Prints a row for each set."""
    torch.set_num_threads(1)
    took = None
    with TemporaryDirectory() as folder:
        for name in SETS:
            run = prepared(name, str(Path(folder) / name))
            survey = survey_of(run)
            took = took or step(run, survey)
            drawn = drawing(run, survey)
            print(f"{name:<15} {drawn:.3f} ms a picture, {drawn / took:.1%} of a step of {took:.2f} ms")


if __name__ == "__main__":
    main()
