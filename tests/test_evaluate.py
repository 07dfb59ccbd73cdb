"""From a run to its figures: metrics, curve, agreement."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from caption import encoders
from caption.encoders import find, load
from caption.table import CaptionSet
from evaluate import agreement, curves, features, measuring, prompts
from evaluate.cli import app
from evaluate.measuring import MeasureRequest
from evaluate.sources import Pictures
from synth import console
from synth.errors import UserError
from synth.sets import completion
from synth.sets.completion import Progress
from synth.sets.shards import ShardSet
from tests.kit import ROOT, full_disk, invoke, json_lines, make_small, make_tables, write_foreign
from train import runs
from train.models.stylegan2_networks import Generator
from train.start.request import TrainRequest
from train.start.training import finish, train

TINY = (
    "model.resolution=16",
    "model.channel_base=128",
    "model.channel_max=8",
    "model.z_dim=8",
    "model.w_dim=8",
    "model.text_width=8",
)
SHORT = (
    "training.batch=16",
    "run.checkpoint=16",
    "run.tick=16",
    "run.samples=32",
    "run.workers=0",
    "training.precision=fp32",
)


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: Path, captioned: Path, tiny_encoder: Path
) -> Path:
    """A run of 32 images, with two checkpoints."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    training = TrainRequest(
        "tiny-32",
        (str(undisturbed),),
        str(out),
        (str(captioned),),
        32,
        encoder=str(tiny_encoder),
        settings=(*TINY, *SHORT),
    )
    assert finish(train(training)) == 0
    return out


@pytest.fixture
def ask(
    run: Path,
    undisturbed: Path,
    captioned: Path,
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """A request for figures of the run, with a cache of its own."""
    monkeypatch.setattr(features, "CACHE", tmp_path / "features")
    common = {
        "captions": str(captioned),
        "n": 30,
        "detector": str(tiny_encoder),
        "metrics": "fid,kid",
    }
    return lambda **changes: MeasureRequest(str(run), str(undisturbed), **{**common, **changes})


def rows(request: MeasureRequest) -> list[dict[str, Any]]:
    return completion.finish(measuring.metrics(request))


def test_a_picture_depends_on_its_prompt_seed_and_number_alone(
    run: Path, undisturbed: Path, captioned: Path
) -> None:
    opened, shards, tables_ = runs.find(run), ShardSet(str(undisturbed)), CaptionSet(str(captioned))
    many, few = (prompts.of_tables(shards, tables_, opened, n) for n in (40, 20))
    drawn = [
        prompts.draw(opened, opened.checkpoint(), p, seed=s, device="cpu")
        for p, s in ((many, 0), (few, 0), (many, 1))
    ]
    pictures = [np.concatenate(list(d.batches(0))) for d in drawn]
    assert pictures[0].shape == (40, 16, 16, 3) and pictures[0].dtype == np.uint8
    assert np.array_equal(pictures[0][:20], pictures[1]) and not np.array_equal(pictures[0], pictures[2])
    assert np.array_equal(np.concatenate(list(drawn[0].batches(24))), pictures[0][24:])
    assert len({d.digest for d in drawn}) == 3


def test_figures_say_all_that_makes_them_comparable_and_are_kept(
    ask: Callable[..., MeasureRequest], run: Path, undisturbed: Path
) -> None:
    request = ask(metrics="fid,kid,pr")
    figures, again = rows(request), rows(request)
    assert figures == again  # from the cache
    lines = json_lines(run / "metrics.jsonl")
    assert lines[-len(figures) :] == figures
    assert figures[0]["metric"] == "FD (tiny)" and {
        "KD (tiny)",
        "FD-infinity (tiny)",
        "precision (tiny)",
    } <= {r["metric"] for r in figures}
    for row in figures:
        assert row["n"] == 30 and row["reference_n"] == 40 and row["seed"] == 0 and row["images_seen"] == 32
        assert row["reference_digest"] == ShardSet(str(undisturbed)).digest and len(row["weights"]) == 64
        assert row["captions"] == "stored pseudo-captions, xi = 0.25" and "bicubic" in row["resize"]
        assert any("encoder that made the run's captions" in note for note in row["notes"])


class Drawing:
    """The drawing of runs, which counts the pictures that are taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        self._drawn = prompts.draw
        monkeypatch.setattr(prompts, "draw", self)

    def __call__(self, *arguments: Any, **options: Any) -> Pictures:
        pictures = self._drawn(*arguments, **options)

        def batches(first: int) -> Iterator[np.ndarray]:
            for batch in pictures.batches(first):
                self.taken += len(batch)
                yield batch

        return replace(pictures, batches=batches)

    def count(self, request: MeasureRequest) -> int:
        """Returns the number of pictures drawn for a request."""
        self.taken = 0
        assert rows(request)
        return self.taken


def test_every_picture_is_drawn_once_for_all_metrics(
    ask: Callable[..., MeasureRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = Drawing(monkeypatch)
    both = ask(metrics="fid,clip,kid", clip="nano")
    assert drawing.count(both) == 30
    assert drawing.count(both) == 0  # Both kinds of features are in the cache.
    assert drawing.count(replace(both, metrics="kid", clip=None, detector="nano")) == 0
    assert drawing.count(replace(both, seed=1, metrics="kid", clip=None)) == 30
    assert drawing.count(replace(both, seed=1)) == 30  # The embeddings are missing.
    assert drawing.count(replace(both, seed=1)) == 0


def test_progress_is_the_pictures_of_the_reference_and_those_drawn(
    ask: Callable[..., MeasureRequest],
) -> None:
    for request in (
        ask(metrics="kid,clip", clip="nano"),
        ask(metrics="kid,clip", clip="nano"),
    ):  # the second from the cache
        steps = [
            event.amount for event in measuring.metrics(request) if isinstance(event, completion.Progress)
        ]
        assert sum(steps) == measuring.pictures(request) == 40 + 30


TEXTS = ["" if i % 13 == 0 else f"picture {i % 110}" for i in range(130)]  # 103 different ones


def name_pictures(texts: list[str], place: Path, encoder: Path) -> dict[str, Any]:
    """Makes a set of pictures with texts and its tables; returns both as a request takes them."""
    write_foreign(place / "named", [{"txt": text.encode()} for text in texts])
    make_tables(place / "named", place / "tables", encoder)
    return {"reference": str(place / "named"), "captions": str(place / "tables")}


class Numbers:
    """An encoder of numbers: of the one in a text, and of the one that a picture is filled with."""

    source, dimensions, size = SimpleNamespace(name="numbers", sha256="2" * 64), 110, 8

    def cut(self, text: str) -> str:
        return text

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(110, dtype=np.float32)[[int(text.split()[1]) for text in texts]]

    def images(self, pixels: np.ndarray) -> np.ndarray:
        return np.eye(110, dtype=np.float32)[pixels[:, 0, 0, 0]]


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "share"), [(0, 1.0), (1, 0.0)], ids=["own", "neighbour"])
def test_text_metrics_compare_each_picture_with_its_own_text(
    ask: Callable[..., MeasureRequest],
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shift: int,
    share: float,
) -> None:
    named = name_pictures(["any"] * 130, tmp_path, tiny_encoder)
    of_tables = prompts.of_tables
    monkeypatch.setattr(prompts, "of_tables", lambda *arguments: replace(of_tables(*arguments), texts=TEXTS))
    numbers = np.array([(i + shift) % 110 for i in range(130)], np.uint8)
    pictures = np.broadcast_to(numbers[:, None, None, None], (130, 8, 8, 3))
    real = encoders.load
    monkeypatch.setattr(
        encoders, "load", lambda source, *more: Numbers() if source.name == "nano" else real(source, *more)
    )
    monkeypatch.setattr(
        prompts,
        "draw",
        lambda *_, **__: Pictures("drawn", str(shift), 130, lambda first: iter([pictures[first:]])),
    )
    request = replace(ask(metrics="rprecision,clip", clip="nano", n=130), **named)
    precision, score = rows(request)
    assert (precision["metric"], precision["value"], precision["candidates"]) == (
        "R-precision (numbers)",
        share,
        100,
    )
    assert (score["metric"], score["value"], score["formula"]) == (
        "CLIP score (numbers)",
        100 * share,
        "100 mean max(cos, 0)",
    )
    for row in (precision, score):
        assert (row["n"], row["reference_n"], row["weights"], row["error"]) == (120, 130, "2" * 64, 0)


def test_text_metrics_of_a_run_are_those_of_its_pictures(
    ask: Callable[..., MeasureRequest], run: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    names = [f"picture {i % 100}" for i in range(120)]  # of 100 different texts all are candidates
    write_foreign(tmp_path / "named", [{"txt": name.encode()} for name in names])
    request = replace(
        ask(
            captions=None,
            encoder=str(tiny_encoder),
            metrics="kid,rprecision,clip,named",
            clip=str(tiny_encoder),
            n=120,
        ),
        reference=str(tmp_path / "named"),
    )
    figures = {row["metric"]: row for row in rows(request)}
    opened, encoder = runs.find(run), load(find(str(tiny_encoder)))
    prompted = prompts.of_texts(ShardSet(str(tmp_path / "named")), encoder, 120)
    drawn = np.concatenate(
        list(prompts.draw(opened, opened.checkpoint(), prompted, seed=0, device="cpu").batches(0))
    )
    cosines = encoder.images(drawn) @ encoder.texts(names[:100]).T
    matching = cosines[np.arange(120), np.arange(120) % 100]
    assert figures["R-precision (tiny)"]["value"] == pytest.approx(np.mean(matching == cosines.max(axis=1)))
    assert figures["CLIP score (tiny)"]["value"] == pytest.approx(100 * matching.clip(min=0).mean(), rel=1e-5)
    assert "encoder that made the run's captions" in figures["R-precision (tiny)"]["notes"][0]

    # Pictures of noise: names are guessed.
    [named] = [row for name, row in figures.items() if name.startswith("named right among 10")]
    assert named["n"] == 60 and 0 <= named["value"] < 0.4 and 0 <= named["of_real_pictures"] < 0.4


def test_text_metrics_without_texts_are_refused_before_anything_is_drawn(
    ask: Callable[..., MeasureRequest], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = name_pictures([""] * 5, tmp_path, tiny_encoder)
    drawing = Drawing(monkeypatch)
    with pytest.raises(UserError, match="the reference has no texts; clip and rprecision need some"):
        rows(replace(ask(metrics="kid,clip", clip="nano"), **named))
    assert drawing.taken == 0


def test_another_detector_is_not_marked(ask: Callable[..., MeasureRequest]) -> None:
    assert all(
        "encoder that made" not in note
        for row in rows(ask(detector="nano"))
        for note in row.get("notes") or []
    )


def test_texts_are_encoded_here_where_there_are_no_tables(
    ask: Callable[..., MeasureRequest], tiny_encoder: Path, undisturbed: Path
) -> None:
    figures = rows(ask(captions=None, encoder=str(tiny_encoder), metrics="clip", clip="nano"))
    assert [r["metric"] for r in figures] == ["CLIP score (nano)"]
    assert (
        figures[0]["captions"] == "the first caption of each picture, encoded here" and figures[0]["formula"]
    )
    prompted = prompts.of_texts(ShardSet(str(undisturbed)), load(find(str(tiny_encoder))), 3)
    assert len(prompted.texts) == 3 and prompted.vectors is not None
    assert np.allclose(np.linalg.norm(prompted.vectors, axis=1), 1, atol=1e-5)


def test_a_curve_has_every_checkpoint_with_last_and_best(
    ask: Callable[..., MeasureRequest], run: Path, tmp_path: Path
) -> None:
    points = completion.finish(measuring.curve(ask(metrics="kid")))
    assert sorted({r["images_seen"] for r in points}) == [16, 32]
    [ends] = curves.write(tmp_path / "curve.png", {str(run): points})
    values = {r["images_seen"]: r["value"] for r in points}
    assert ends["last"] == values[32] and ends["best"] == min(values.values())
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "curve.json").read_text())["rows"][str(run)] == points


@pytest.mark.parametrize("file", ["curve.json", "curve.png"])
def test_a_curve_on_a_full_disk_leaves_no_file_or_the_old_one(tmp_path: Path, file: str) -> None:
    rows_of = {"run": [{"metric": "KID", "images_seen": i, "value": 1.0 / (1 + i)} for i in range(3)]}
    out = tmp_path / "curves" / "curve.png"
    with full_disk(file), pytest.raises(UserError, match="is full; make room"):
        curves.write(out, rows_of)
    assert not list(out.parent.glob(f"*{file}*"))
    curves.write(out, rows_of)
    before = (out.parent / file).read_bytes()
    with full_disk(file), pytest.raises(UserError, match="is full; make room"):
        curves.write(out, {"other": rows_of["run"]})
    assert [path.name for path in out.parent.glob(f"*{file}*")] == [file] and (
        out.parent / file
    ).read_bytes() == before


def test_a_curve_of_a_shipped_model_goes_to_its_folder_which_git_ignores(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(path: Path, _: Any) -> list[Any]:
        written.append(path)
        return []

    monkeypatch.setattr(measuring, "curve", lambda _: iter([[]]))
    monkeypatch.setattr(console, "watched", lambda unit, events, total: next(events))
    monkeypatch.setattr(curves, "write", write)
    invoke(app, "curve", "formula-32", "--on", undisturbed, raising=True)
    [path] = written
    ignored = (ROOT / ".gitignore").read_text().split()
    assert path == ROOT / "data" / "formula-32" / "curve.png"
    for file in (path, path.with_suffix(".json"), path.with_name("metrics.jsonl")):
        assert str(file.relative_to(ROOT)) in ignored


def test_best_is_least_of_distances_and_most_of_scores() -> None:
    for metric, best in (("FID", 1.0), ("IS", 3.0), ("precision (nano)", 3.0), ("KD (nano)", 1.0)):
        points = [
            {"metric": metric, "images_seen": i, "value": v} for i, v in enumerate((2.0, 1.0, 3.0, 2.5))
        ]
        least, last = measuring.best_and_last(points, metric)
        assert (least["value"], last["value"]) == (best, 2.5)


def test_the_judge_of_colours_reads_pixels() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:] = (20, 40, 220)
    picture[10:20, 10:20] = (220, 20, 20)
    assert agreement.colours_of(picture) == ("red", "blue")


def test_the_judge_of_families_is_the_ridge_solution() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 5))
    families = ["a" if row[0] + 0.1 * row[1] > 0 else "b" for row in x]
    head = agreement.fit(x.astype(np.float32), families)
    standard = np.c_[(x - x.mean(0)) / x.std(0), np.ones(60)]
    y = np.array([[f == "a", f == "b"] for f in families], float)
    augmented = np.linalg.lstsq(
        np.r_[standard, np.sqrt(agreement._RIDGE * 60) * np.eye(6)], np.r_[y, np.zeros((6, 2))], rcond=None
    )[0]
    assert np.allclose(head.weights, augmented, atol=1e-4)
    assert np.mean([a == b for a, b in zip(head.names_of(x), families, strict=True)]) > 0.9
    with pytest.raises(UserError, match="needs pictures of at least two families"):
        agreement.fit(x, ["a"] * 60)


def test_a_note_tells_that_a_set_has_fewer_pictures_than_n(
    run: Path,
    undisturbed: Path,
    ask: Callable[..., MeasureRequest],
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agreement, "require_families", lambda _: None)
    few = f"note: {undisturbed} holds 40 pictures, so 40 are"
    terms: Any = {"weights": None, "seed": 0, "encoder": str(tiny_encoder), "device": "cpu"}
    judged = agreement.agreement(str(run), [str(undisturbed)], n=100, detector="pixels:8", **terms)
    for events, done in ((judged, "read"), (measuring.metrics(ask(n=100)), "drawn")):
        event = next(events)
        assert isinstance(event, Progress) and event.note == f"{few} {done}, not 100"
    terms |= {"n": 40, "detector": "pixels:8"}
    event = next(agreement.agreement(str(run), [str(undisturbed)], **terms))
    assert isinstance(event, Progress) and event.note is None


@pytest.mark.slow
def test_agreement_says_what_real_renders_and_chance_give(
    run: Path, undisturbed: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(tmp_path / "fractals", dataset="fractals", settings=())
    sets = [str(undisturbed), str(tmp_path / "fractals")]
    terms: Any = {
        "n": 40,
        "detector": "nano",
        "weights": None,
        "seed": 0,
        "encoder": str(tiny_encoder),
        "device": "cpu",
    }
    figures = completion.finish(agreement.agreement(str(run), sets, **terms))
    facts = [f"attribute agreement: {fact}" for fact in agreement.FACTS]
    assert [r["metric"] for r in figures] == [*facts, "KD (nano)"]
    family, _, background, distance = figures
    assert distance["value"] > 10 * distance["error"] > 0 and distance["n"] == 40
    assert family["of_real_renders"] > 0.9 and family["n"] == 40 and background["of_real_renders"] > 0.7
    assert [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-4:] == figures

    _, renders = agreement._halves(
        agreement.read(sets, 40), 0
    )  # A run that draws what the judge has as real renders.
    monkeypatch.setattr(
        prompts,
        "draw",
        lambda *_, **__: Pictures("renders", "", 40, lambda first: iter([renders.pixels[first:]])),
    )
    known = completion.finish(agreement.agreement(str(run), sets, **terms))
    assert abs(known[-1]["value"]) < figures[-1]["value"] / 10
    for row, drawn in zip(figures[:3], known[:3], strict=True):
        assert drawn["value"] == drawn["of_real_renders"] == row["of_real_renders"] != row["value"]
        assert drawn["commonest_answer"] == row["commonest_answer"]
    families = [facts["family"] for facts in renders.facts]
    turned = np.mean([a == b for a, b in zip(families, families[1:] + families[:1], strict=True)])
    assert family["commonest_answer"] == max(Counter(families).values()) / 40
    assert known[0]["value"] == 1 and known[0]["with_prompts_changed_round"] == turned


@pytest.mark.slow
def test_obedience_of_a_run_is_kept_with_the_judges_own_error(run: Path, tiny_encoder: Path) -> None:
    result = invoke(app, "obedience", run, "--facts", "2,4", "--n", 20, "--encoder", tiny_encoder)
    rows = json_lines(result)
    assert [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][
        -len(rows) :
    ] == rows
    for count in (2, 4):
        [whole] = [
            row
            for row in rows
            if row["metric"] == f"obedience: whole prompts of {count} facts" and row["split"] == "all"
        ]
        # A generator without training obeys nobody.
        assert whole["value"] <= 0.1 and whole["pictures"] == 20 and whole["images_seen"] == 32
        assert whole["judge_sensitivity"] > 0.9 > 0.1 > whole["judge_false_accepts"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["metrics", "{tmp}", "--on", "{set}"], "is no run: it has no config.json"),
        (["metrics", "{run}", "--on", "{tmp}"], "is missing or empty: it holds no finished set"),
        (
            ["metrics", "{run}", "--on", "{set}", "--metrics", "fidd"],
            "unknown metric 'fidd'; known are fid",
        ),
        (["metrics", "{run}", "--on", "{set}", "--n", "1"], "--n is 1; it must be at least 2"),
        (
            ["metrics", "{run}", "--on", "{set}", "--images-seen", "7"],
            "has no checkpoint at 7 images; it has 16, 32",
        ),
        (
            ["metrics", "{run}", "--on", "{set}", "--encoder", "nano"],
            "the encoder nano has other weights than the one of",
        ),
        (["compare", "{set}", "{set}", "--metrics", "clip"], "clip need texts; compare knows"),
        (
            ["metrics", "{run}", "--on", "{set}", "--metrics", "kid", "--resamples", "9"],
            "--resamples belongs to the metric fid; add it, or leave it out",
        ),
        (
            ["metrics", "{run}", "--on", "{set}", "--clip", "nano"],
            "--clip belongs to the metrics clip and rprecision",
        ),
        (["metrics", "{run}", "--on", "{set}", "--captions", "x", "--encoder", "nano"], "leave one out"),
        (["curve", "{run}", "--on", "{set}", "--out", "x.jpg"], "--out is x.jpg; it must end in .png"),
        (["table", "1", "{run}", "--out", "x.txt"], "--out is x.txt; it must end in .md"),
    ],
)
def test_bad_input_gets_a_sentence(
    run: Path, undisturbed: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    words = [a.format(run=run, set=undisturbed, tmp=tmp_path) for a in arguments]
    result = invoke(app, *words)
    assert isinstance(result.exception, UserError) and sentence in str(result.exception), result.exception


@pytest.fixture
def of_words(tmp_path: Path) -> Callable[..., Path]:
    """Makes copies of the shipped model that name no encoder, with changed settings of training."""

    def copied(**training: float) -> Path:
        place, shipped = tmp_path / "words", ROOT / "data" / "formula-32"
        place.mkdir()
        for file in ("COMMITTED", "denoiser.safetensors"):
            (place / file).symlink_to(shipped / file)
        metadata = json.loads((shipped / "config.json").read_text())
        metadata["config"]["training"] |= training
        (place / "config.json").write_text(json.dumps({**metadata, "encoder": None}))
        return place

    return copied


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "metrics --n 3 --metrics kid",
            "the metric kid needs at least 4 pictures of a set, not 3; give more",
        ),
        ("metrics --n 5 --metrics pr,dc", "the metric dc needs at least 6 pictures of a set, not 5"),
        ("metrics --n 10 --metrics is", "IS is defined on the classes of inception; the detector pixels:8"),
        ("metrics --n 12 --metrics named", "the metric named needs at least 40 pictures of a set, not 12"),
        ("metrics --n 10 --metrics kid --draw weak=7", "has no checkpoint at 7 images"),
        ("compare --n 3 --metrics kid", "the metric kid needs at least 4 pictures of a set, not 3"),
    ],
)
def test_a_metric_that_cannot_be_measured_is_refused_before_any_picture(
    arguments: str, sentence: str, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "extract", lambda *_: pytest.fail("the work has begun"))
    name, *options = arguments.split()
    place = [undisturbed, undisturbed] if name == "compare" else ["formula-32", "--on", undisturbed]
    with pytest.raises(UserError, match=sentence):
        invoke(app, name, *place, *options, "--detector", "pixels:8", raising=True)


@pytest.mark.parametrize(
    ("command", "suffix", "beside"),
    [
        ("grid formula-32 --on none", ".png", ".png"),
        ("concepts formula-32", ".png", ".png"),
        ("curve formula-32 --on none", ".png", ".json"),
        ("table 1", ".md", ".html"),
        ("prompts export", ".jsonl", ".jsonl"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    command: str, suffix: str, beside: str, tmp_path: Path
) -> None:
    (tmp_path / f"folder{beside}").mkdir()
    (tmp_path / "file").touch()
    for place, sentence in (
        (f"folder{suffix}", rf"folder{beside} is a folder; give the name of a"),
        (f"file/out{suffix}", "file is a file; give a folder"),
    ):
        with pytest.raises(UserError, match=sentence):
            invoke(app, *command.split(), "--out", tmp_path / place, raising=True)


@pytest.mark.slow
def test_a_run_of_words_alone_draws_by_the_words_of_captions(
    of_words: Callable[..., Path], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CACHE", tmp_path / "features")
    shards, run = ShardSet(str(undisturbed)), of_words()
    texts = prompts.of_texts(shards, None, 4)
    assert texts.vectors is None and texts.texts == prompts.of_texts(shards, load(find("nano")), 4).texts
    words = ("--on", undisturbed, "--n", 4, "--detector", "nano", "--metrics", "kid", "--draw", "steps=1")
    for command in ("metrics", "curve"):
        invoke(app, command, run, *words, raising=True)
    rows = json_lines(run / "metrics.jsonl")
    assert [row["captions"] for row in rows] == ["the first caption of each picture"] * 2
    assert rows[0]["value"] == rows[1]["value"]


@pytest.mark.parametrize(
    ("training", "arguments", "sentence"),
    [
        ({}, "metrics --captions x", "has learned words alone, so --captions has no use; leave it out"),
        ({}, "metrics --encoder nano", "has learned words alone, so --encoder has no use; leave it out"),
        ({}, "grid --encoder nano", "--encoder is nano, and the pictures of .* follow words; leave it out"),
        ({}, "loss --encoder nano", "--encoder is nano, and the pictures of .* follow words; leave it out"),
        ({}, "curve --metrics named", "the metric named needs vectors of captions, and .*; leave it out"),
        ({}, "metrics --draw text=both", "words alone, and no vectors; give --draw text=words"),
        ({}, "grid --draw text=vector", "words alone, and no vectors; give --draw text=words"),
        ({}, "loss --draw text=vector", "words alone, and no vectors; give --draw text=words"),
        ({"drop_words": 1, "drop_vector": 0}, "loss", "vectors alone, and no words; give --draw text=vector"),
        ({"drop_words": 1, "drop_vector": 0}, "metrics --draw text=vector", "names no encoder"),
        ({"drop_words": 1, "drop_vector": 0}, "loss --n 8 --draw text=vector --encoder nano", "no encoder"),
    ],
)
def test_texts_that_a_run_has_never_learned_are_refused(
    of_words: Callable[..., Path],
    undisturbed: Path,
    training: dict[str, float],
    arguments: str,
    sentence: str,
) -> None:
    name, *options = arguments.split()
    with pytest.raises(UserError, match=sentence):
        invoke(app, name, of_words(**training), "--on", undisturbed, *options, raising=True)


@pytest.mark.parametrize("name", ["agreement", "loss"])
def test_pictures_do_not_count_twice(name: str) -> None:
    with pytest.raises(UserError, match="--on some/set is given twice, and its pictures would count twice"):
        invoke(app, name, "formula-32", "--on", "some/set", "--on", "some/set/", raising=True)


@pytest.mark.parametrize("name", ["reading", "edits", "concepts"])
def test_a_run_without_words_is_refused_by_measures_of_words(
    of_words: Callable[..., Path], name: str
) -> None:
    with pytest.raises(UserError, match="has learned vectors alone; give a run that reads words"):
        invoke(app, name, of_words(drop_words=1, drop_vector=0), raising=True)


def test_tables_of_another_encoder_are_refused(run: Path, undisturbed: Path, tmp_path: Path) -> None:
    make_tables(undisturbed, tmp_path / "t", "nano")
    with pytest.raises(UserError, match="was made by nano, and "):
        prompts.of_tables(ShardSet(str(undisturbed)), CaptionSet(str(tmp_path / "t")), runs.find(run), 4)


def test_what_is_drawn_is_the_averaged_generator(run: Path, undisturbed: Path, captioned: Path) -> None:
    """The law of README: Philox with the key (seed, 0) and the picture's number in its counter."""
    opened = runs.find(run)
    prompted = prompts.of_tables(ShardSet(str(undisturbed)), CaptionSet(str(captioned)), opened, 2)
    [picture] = list(prompts.draw(opened, opened.checkpoint(), prompted, seed=5, device="cpu").batches(0))
    average = Generator(opened.config.groups.model)
    average.load_state_dict(load_file(opened.checkpoint() / "ema.safetensors"))
    streams = [np.random.Generator(np.random.Philox(key=[5, 0], counter=[0, 0, i, 0])) for i in range(2)]
    rows = [stream.standard_normal(8 + average.sizes.noise_size, dtype=np.float32) for stream in streams]
    normal = torch.from_numpy(np.stack(rows))
    with torch.no_grad():
        images = average(normal[:, :8], torch.from_numpy(prompted.vectors), noise=normal[:, 8:])
    expected = ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(picture, expected)
