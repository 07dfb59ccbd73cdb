import dataclasses
import json
from collections.abc import Generator
from pathlib import Path

import pytest

from synth import console, pipeline
from synth.errors import UserError
from synth.sets import completion
from synth.sets.completion import Estimate, Progress
from synth.sets.ledger import manifest_digest
from synth.sets.shards import ShardSet
from synth.sets.storage import Folder
from tests.kit import SMALL, make_small, tar_hashes


def request(out: Path) -> pipeline.RenderRequest:
    return pipeline.RenderRequest(**{**SMALL, "out": str(out)})  # type: ignore[arg-type]


def test_events_are_the_estimate_before_anything_is_written_the_progress_and_one_summary(
    tmp_path: Path,
) -> None:
    events = pipeline.make_shards(request(tmp_path / "set"))
    first = next(events)
    assert isinstance(first, Estimate) and first.pictures == 40 and not list((tmp_path / "set").iterdir())
    *progress, last = events
    assert all(isinstance(event, Progress) for event in progress)
    assert sum(event.amount for event in progress if isinstance(event, Progress)) == 40
    assert isinstance(last, pipeline.RenderSummary) and last.pictures == 40


def test_a_finished_set_yields_its_summary_alone(undisturbed: Path) -> None:
    [summary] = pipeline.make_shards(request(undisturbed))
    assert isinstance(summary, pipeline.RenderSummary) and (summary.total, summary.pictures) == (40, 0)


def test_a_set_that_lacks_its_manifest_alone_is_closed_without_a_probe_or_ray(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    manifest = (finished / "manifest.json").read_text()
    (finished / "manifest.json").unlink()
    monkeypatch.setattr(pipeline._Rendering, "probe", fail)
    monkeypatch.setattr(completion.parallel, "ray_session", fail)
    estimate, summary = pipeline.make_shards(dataclasses.replace(request(finished), workers=2))
    assert isinstance(estimate, Estimate) and (estimate.pictures, estimate.bytes) == (0, 0)
    assert isinstance(summary, pipeline.RenderSummary) and summary.pictures == 0
    assert ShardSet(str(finished)).digest == manifest_digest(json.loads(manifest))


@pytest.mark.parametrize("steps", [1, 2, 3], ids=["at the estimate", "in the first shard", "after a shard"])
def test_whoever_stops_listening_leaves_a_set_to_go_on_from(
    tmp_path: Path, undisturbed: Path, steps: int
) -> None:
    events = pipeline.make_shards(request(tmp_path / "set"))
    for _ in range(steps):
        next(events)
    events.close()
    left = Folder(str(tmp_path / "set")).sizes()
    assert "manifest.json" not in left and not list(tmp_path.glob("set/.*"))
    assert len([name for name in left if name.endswith(".tar")]) == max(0, steps - 2)
    make_small(tmp_path / "set")
    assert tar_hashes(tmp_path / "set") == tar_hashes(undisturbed)


def test_finish_returns_the_outcome_and_refuses_events_without_one() -> None:
    assert completion.finish(iter([Progress(1), "outcome"])) == "outcome"
    with pytest.raises(ValueError, match="not enough values"):
        completion.finish(iter([Progress(1)]))


def test_no_bar_is_drawn_before_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    def refused(steps: int) -> Generator[Progress | str, None, None]:
        yield from (Progress(1) for _ in range(steps))
        raise UserError("no")

    for steps in range(2):
        with pytest.raises(UserError):
            console.watched("pictures", refused(steps), 40)
        assert bool(capsys.readouterr().err) == bool(steps)


def test_watched_events_are_drawn_with_lost_work_named(capsys: pytest.CaptureFixture[str]) -> None:
    estimate, lost = Estimate(12, 2_500_000, 3.0, 10**9), Progress(-8, "set-0.tar is made again (lost)")
    events = (event for event in (estimate, Progress(8), lost, "outcome"))
    assert console.watched("pictures", events) == "outcome"
    drawn = capsys.readouterr().err
    assert "12 pictures to make: about 2.5 MB, 1.0 GB free, 3 s" in drawn
    assert "set-0.tar is made again (lost)" in drawn
    assert "0/12" in drawn
