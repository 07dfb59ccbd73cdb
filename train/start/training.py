"""The training of a request: it begins or resumes the run, and yields its events."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from caption import encoders
from synth.errors import UserError
from synth.sets.storage import Folder
from train import checkpoint, log, machine
from train.distributed import Ranks
from train.log import Log
from train.loop import Grid, Step, Tick, Trainer
from train.start.prepared import Prepared, prepare, survey_of
from train.start.request import TrainRequest


class Started(NamedTuple):
    """An event: training begins."""

    images: int  # to be seen in the end
    images_seen: int  # already


class Note(NamedTuple):
    """An event: a line for a person."""

    text: str


class Ended(NamedTuple):
    """The last event."""

    signal: int  # number of the signal that ended the run; 0: it is finished


Event = Started | Step | Note | Ended


def train(request: TrainRequest) -> Generator[Event]:
    """Trains the run of a request, or resumes it. Yields its events, Ended last.

    Raises UserError. Of several ranks, one raises it and the others exit with code 2."""
    device = encoders.choose_device(request.device)
    machine.use_one_thread(device)
    ranks = Ranks.join(device)
    with ExitStack() as stack:
        # Inputs.
        prepared = ranks.together(lambda: prepare(request, ranks.device, ranks=ranks.count))
        images = prepared.config.run.images
        newest, note = ranks.together(lambda: _open(prepared, ranks, stack))
        # A rank may read other copies of the sets than rank 0, or a newer checkpoint of --from.
        ranks.together(lambda: log.require_same(prepared.run, prepared.metadata))
        for sentence in filter(None, (note, prepared.note if ranks.rank == 0 else "")):
            yield Note(sentence)

        # A finished run.
        if newest and checkpoint.images_seen(newest) >= images:
            if ranks.rank == 0:
                seen = f"{checkpoint.images_seen(newest):,} of {images:,} images are seen"
                yield Note(f"finished: {seen}; a larger --images goes on")
            yield Ended(0)
            return

        # The loop.
        trainer = ranks.together(lambda: trainer_of(prepared, ranks, newest))
        for event in _train(prepared, ranks, trainer, stack):
            if ranks.rank == 0:
                yield event
        if ranks.rank == 0:
            resume = "stopped after a checkpoint; run the same command again to resume"
            yield Note(resume if trainer.ended_by else f"finished: the run is {prepared.run}")
        yield Ended(trainer.ended_by)


def finish(events: Iterator[Event]) -> int:
    """Trains to the end without a display.

    Returns the number of the signal that ended the run, or 0 if the run is finished."""
    signal = 0
    for event in events:
        signal = event.signal if isinstance(event, Ended) else signal
    return signal


def _train(prepared: Prepared, ranks: Ranks, trainer: Trainer, stack: ExitStack) -> Iterator[Event]:
    """Runs the loop over the stream. Keeps the log on rank 0."""
    # Stream. One process per node fetches remote files.
    begin, wanted = trainer.images_seen, trainer.model.wanted
    run, loop = prepared.run, prepared.config.run
    stream = ranks.together(lambda: prepared.stream(wanted))
    batch, limit = prepared.config.groups.training.batch, int(loop.cache_gb * 1e9)
    fetcher = ranks.together(
        lambda: stream.fetcher(begin, loop.images, batch, limit) if ranks.local == 0 else None
    )
    if fetcher:
        fetcher.start()
        stack.callback(fetcher.end)
    batches = stream.batches(
        begin,
        batch,
        rank=ranks.rank,
        ranks=ranks.count,
        workers=loop.workers,
        stopped=lambda: bool(trainer.ended_by),
    )
    stack.callback(batches.close)

    # Log.
    records = ranks.together(
        lambda: Log(run, begin, *prepared.grid_texts(), ranks.device) if ranks.rank == 0 else None
    )
    if records:
        stack.callback(records.close)
    yield Started(loop.images, begin)

    def recorded(event: Tick | Grid) -> str:
        return records.record(event, trainer) if records else ""

    # Loop.
    if not begin:
        trainer.together(partial(recorded, Grid(0)), run)
    with closing(trainer.run(batches, run)) as events:
        for event in events:
            if isinstance(event, Step):
                yield event
            elif line := trainer.together(partial(recorded, event), run):
                yield Note(line)


def _open(prepared: Prepared, ranks: Ranks, stack: ExitStack) -> tuple[Path | None, str | None]:
    """Locks the run's folder, and writes config.json, on rank 0.

    Returns the checkpoint to resume from, and a sentence if there are no locks."""
    run, note = prepared.run, None
    if ranks.rank == 0:
        survey = survey_of(prepared)
        note = stack.enter_context(log.locked(run))
        # Another command may have begun a run here since `prepare`.
        log.require_same(run, prepared.metadata)
        log.write_config(run, {**prepared.metadata, "survey": survey}, machine.describe(ranks))
    newest = checkpoint.newest(run)
    if ranks.rank == 0:
        log.cut_back(run, checkpoint.images_seen(newest) if newest else 0)
    return newest, note


def trainer_of(prepared: Prepared, ranks: Ranks, newest: Path | None) -> Trainer:
    """Returns a trainer at a checkpoint of its run, with another run's weights, or with new ones."""
    trainer = Trainer(prepared.config, prepared.context(ranks, survey_of(prepared)), ranks)
    if ranks.rank == 0:
        _require_room(prepared, trainer, checkpoint.images_seen(newest) if newest else 0)
    if newest:
        trainer.restore(newest)
    elif prepared.source:
        trainer.start_from(prepared.source)
    return trainer


def _require_room(prepared: Prepared, trainer: Trainer, images_seen: int) -> None:
    """Raises UserError if the disk has no room for the checkpoints that the run will write."""
    # The last checkpoints are full, and one more while it is written.
    run, left = prepared.config.run, prepared.config.run.images - images_seen
    sizes, free = trainer.sizes(), Folder(str(prepared.run)).free_bytes()
    count = -(-run.images // run.checkpoint) - images_seen // run.checkpoint
    full = min(count, checkpoint.FULL + 1)
    needed = full * sizes.full + (count - full) * sizes.lasting
    if free is None or needed <= free:
        return

    # Fewer checkpoints may fit.
    problem = f"the checkpoints of this run take {needed / 1e9:,.3g} GB"
    problem = f"{problem}, and {prepared.run} has {free / 1e9:,.3g} GB free"
    advice = "make room, or give another --out"
    if (spare := free - (checkpoint.FULL + 1) * sizes.full) >= 0:
        fits = checkpoint.FULL + 1 + spare // sizes.lasting
        advice = f"make room, or give --set run.checkpoint={-(-left // fits)}"
    raise UserError(f"{problem}; {advice}")
