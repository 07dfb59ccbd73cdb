"""The paper's tables with our figures in their cells."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from evaluate import results, tables
from evaluate.cli import app
from synth.errors import UserError
from tests.kit import ROOT, full_disk, invoke, json_lines
from train import runs

FIXTURE = ROOT / "tests/fixtures/at_2cbd3b2/run"
Make = Callable[..., str]

PAPER = {  # from the paper's text, line by line: Nakao et al., tables 1 to 3
    1: """
        Scratch             17.4 50.9 5.82 46.0 3.02 52.7
        CC3M + caption      25.9 20.4 5.94 20.4 2.94 17.8
        CC3M + pseudo       24.2 26.3 6.21 25.3 2.86 21.2
        Visual Atoms        20.9 36.9 6.95 38.6 2.85 35.2
        Shaders21k          22.1 37.4 6.64 35.3 2.67 25.8
        Improved FractalDB  24.2 29.3 6.13 30.4 2.76 26.9
    """,
    2: """
        Improved FractalDB  29.3 30.4 26.9
        w/o color           42.7 41.6 39.5
    """,
    3: """
        w/o background      35.9 50.1 36.6
        corrupted contour   41.6 52.7 41.3
    """,
}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a run of some set, started from a run of another, with figures; returns its place."""

    def make_run(
        name: str, dataset: str, source: str | None = None, *, text: str = "pseudo", **figures: float
    ) -> str:
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        config = json.loads((FIXTURE / runs.CONFIG).read_text())
        config["shards"]["dataset"], config["config"]["data"]["text"] = dataset, text
        config["from"] = {"run": source, "checkpoint": "0", "digest": ""} if source else None
        (run / runs.CONFIG).write_text(json.dumps(config))
        for metric, value in figures.items():
            terms = {"n": 30_000, "reference": "val", "detector": "inception", "images_seen": 4_000_000}
            results.append(run, {**terms, "metric": metric, "value": value})
        return str(run)

    return make_run


def cells(text: str) -> dict[str, list[str]]:
    """The rows of all tables of a text, by their first cell."""
    lines = [
        line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ") and "---" not in line
    ]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}


def table(number: int, places: list[str]) -> dict[str, list[str]]:
    return cells(tables.markdown(number, [tables.row_of(runs.find(place)) for place in places]))


def write(places: list[str], out: Path) -> None:
    tables.write(out, 1, [tables.row_of(runs.find(place)) for place in places])


@pytest.mark.parametrize("number", PAPER)
def test_the_papers_figures_stand_in_its_rows_and_columns(make: Make, number: int) -> None:
    rows = table(number, [make("other", "emoji", FID=1.0)])
    metrics = ("IS", "FID") if number == 1 else ("FID",)
    header = [f"{name} {metric}, paper" for name in ("MSCOCO", "CUB", "CelebA-HQ") for metric in metrics]
    assert rows["pre-trained on"][::2] == header and set(rows["pre-trained on"][1::2]) == {"ours"}
    lines = [re.split(r"\s{2,}", line.strip()) for line in PAPER[number].strip().splitlines()]
    for name, figures in lines:
        assert rows[name][::2] == figures.split()
        assert set(rows[name][1::2]) == {""}
    names = list(rows)
    assert names[1 : names.index("run")] == [name for name, _ in lines]


def test_a_run_stands_in_the_cell_of_its_arm_and_its_set(make: Make) -> None:
    sources = {
        "CC3M + caption": make("a", "cc3m", text="caption"),
        "CC3M + pseudo": make("b", "cc3m", text="stored"),
        "Visual Atoms": make("c", "visual_atoms"),
        "Shaders21k": make("d", "shaders21k"),
        "Improved FractalDB": make("e", "fractals"),
    }
    places = [
        make(f"{name}-cub", "cub", source, FID=40.25 + n, IS=5.5)
        for n, (name, source) in enumerate(sources.items())
    ]
    places.append(make("none-coco", "coco", FID=60.0))
    rows = table(1, places)
    for n, name in enumerate(sources):
        assert rows[name][1::2] == ["", "", "5.5", f"{40.25 + n:.4g}", "", ""]
    assert rows["Scratch"] == ["17.4", "", "50.9", "60", "5.82", "", "46.0", "", "3.02", "", "52.7", ""]
    assert rows["none-coco"] == ["scratch", "coco", "4,000,000", "30,000"]


@pytest.mark.parametrize(
    ("number", "dataset", "name"),
    [
        (2, "fractals", "Improved FractalDB"),
        (2, "fractals_without_color", "w/o color"),
        (3, "fractals_without_background", "w/o background"),
        (3, "fractals_corrupted_contour", "corrupted contour"),
    ],
)
def test_an_ablation_stands_beside_the_papers(make: Make, number: int, dataset: str, name: str) -> None:
    rows = table(number, [make("run", "celeba_hq", make("source", dataset), FID=33.0, IS=2.0)])
    assert rows[name][1::2] == ["", "", "33"] and rows["run"][-1] == "2"  # IS is no column of this table


def test_several_runs_of_a_cell_stand_in_their_order(make: Make) -> None:
    source = make("source", "fractals")
    places = [make(f"seed-{i}", "cub", source, FID=value) for i, value in enumerate((31.5, 30.0, 32.25))]
    assert table(1, places)["Improved FractalDB"][7] == "31.5; 30; 32.25"


def test_arms_that_the_paper_does_not_have_get_rows_below(make: Make) -> None:
    noise = make("noise-cub", "cub", make("noise", "noise"), FID=70.0)
    captioned = make("told-cub", "cub", make("told", "fractals", text="caption"), FID=28.0)
    mixed = make("mixed-cub", "cub", make("mixed", "cc3m", text="mix:0.5"), FID=27.0)
    gone = make("gone-cub", "cub", "runs/nowhere", FID=26.0)
    rows = table(1, [noise, captioned, mixed, gone])
    for name, figure in {
        "noise": "70",
        "fractals, captions": "28",
        "cc3m, mix:0.5": "27",
        "the run nowhere, which cannot be read": "26",
    }.items():
        assert rows[name] == ["", "", "", "", "", "", "", figure, "", "", "", ""]
    assert set(rows["Improved FractalDB"][1::2]) == {""}
    names = list(rows)
    assert names.index("Improved FractalDB") < names.index("noise") < names.index("run")


def test_figures_without_a_cell_stand_with_their_run(make: Make) -> None:
    source = make("source", "fractals")
    emoji = make("emoji", "emoji", source, FID=12.0)
    other = make("other", "cub", source, **{"FD (nano)": 0.5, "FID": 30.0, "KID": 0.01})
    rows = table(1, [emoji, other])
    assert rows["run"] == ["pre-trained on", "set", "images seen", "N", "FID", "FD (nano)", "KID"]
    assert rows["emoji"] == ["fractals", "emoji", "4,000,000", "30,000", "12", "", ""]
    assert rows["other"] == ["fractals", "cub", "4,000,000", "30,000", "", "0.5", "0.01"]
    assert rows["Improved FractalDB"][7] == "30"


def test_the_newest_checkpoint_counts_and_of_a_figure_taken_twice_the_later(make: Make) -> None:
    place = make("run", "cub", FID=3.0)
    for images, value in ((9_000_000, 2.0), (5_000_000, 1.0), (9_000_000, 2.5)):
        results.append(Path(place), {"n": 30_000, "metric": "FID", "value": value, "images_seen": images})
    results.append(
        Path(place),
        {"n": 0, "metric": "attribute agreement: colour", "value": None, "images_seen": 10_000_000},
    )
    rows = table(1, [place])
    assert rows["Scratch"][7] == "2.5" and rows["run"][2] == "9,000,000"


def test_rows_of_one_metric_stand_apart_and_rows_without_a_checkpoint_do_not_stand(make: Make) -> None:
    place = make("flat", "emoji", FID=3.0)
    shared = {"metric": "obedience: colour", "images_seen": 4_000_000, "set": "scenes"}
    for split, value in (("all", 0.5), ("seen", 0.6), ("held_out", 0.4)):
        results.append(Path(place), {**shared, "split": split, "value": value})
    results.append(Path(place), {"metric": "probe accuracy, ridge", "value": 0.9, "n": 100})
    rows = table(1, [place])
    named = [f"obedience: colour, scenes{split}" for split in ("", ", seen", ", held_out")]
    assert rows["run"][4:] == ["FID", *named] and rows["run"][3] == "N"


def test_terms_and_notes_stand_below(make: Make) -> None:
    place = make("run", "cub", FID=3.0)
    row: dict[str, Any] = {
        "n": 400,
        "metric": "KID",
        "value": 0.125,
        "error": 0.01,
        "images_seen": 4_000_000,
        "reference": "other",
    }
    results.append(Path(place), {**row, "notes": ["few pictures"]})
    text = tables.markdown(1, [tables.row_of(runs.find(place))])
    assert cells(text)["run"][-2:] == ["30,000, 400", "0.125 ± 0.01*"]
    below = text.split("\n\n")[-1].splitlines()
    assert below[0] == "Figures compare only if all of these conditions agree:"
    assert below[1:] == ["- reference val, detector inception", "- reference other", "- * KID: few pictures"]


def test_figures_of_other_options_of_drawing_do_not_compare(make: Make) -> None:
    places = [make("plain", "cub", FID=3.0), make("guided", "cub")]
    row = {"n": 30_000, "metric": "FID", "value": 2.0, "images_seen": 4_000_000, "reference": "val"}
    drawing = {"steps": "12", "guidance": "1.5"}
    results.append(Path(places[1]), {**row, "detector": "inception", "drawing": drawing})
    below = tables.markdown(1, [tables.row_of(runs.find(place)) for place in places]).splitlines()
    assert below[-2:] == [
        "- reference val, detector inception",
        "- reference val, detector inception, drawing guidance=1.5 steps=12",
    ]


@pytest.mark.parametrize("number", PAPER)
def test_without_runs_the_command_prints_the_papers_table(tmp_path: Path, number: int) -> None:
    printed = json_lines(invoke(app, "table", number, "--out", tmp_path / "t.md", raising=True))
    lines = [re.split(r"\s{2,}", line.strip()) for line in PAPER[number].strip().splitlines()]
    assert [row.pop("pre-trained on") for row in printed] == [name for name, _ in lines]
    assert [[cell["paper"] for cell in row.values()] for row in printed] == [
        [*map(float, figures.split())] for _, figures in lines
    ]
    assert all(cell["ours"] == [] for row in printed for cell in row.values())
    assert "## Runs" not in (tmp_path / "t.md").read_text()


def test_a_person_sees_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    typer.main.get_command(app).main(["table", "2", "--out", str(tmp_path / "t.md")], standalone_mode=False)
    assert capsys.readouterr().out == (tmp_path / "t.md").read_text()


def test_the_command_prints_figures_with_all_their_terms(make: Make, tmp_path: Path) -> None:
    place = make("run", "cub", make("source", "visual_atoms"), FID=30.5)
    printed = json_lines(invoke(app, "table", 1, place, "--out", tmp_path / "t.md", raising=True))
    [cell] = [row["CUB FID"] for row in printed if row["pre-trained on"] == "Visual Atoms"]
    assert cell == {"paper": 38.6, "ours": results.read(Path(place))}


def test_the_page_is_one_file_with_the_newest_grid(make: Make, tmp_path: Path) -> None:
    place = make("run", "cub", make("source", "fractals"), FID=3.5, KID=0.5)
    (Path(place) / "samples").mkdir()
    Image.new("RGB", (4, 4)).save(Path(place) / "samples" / "004000000.png")
    Image.new("RGB", (4, 4)).save(Path(place) / "samples" / "of mine.png")
    write([place], tmp_path / "new" / "t.md")
    page = (tmp_path / "new" / "t.html").read_text()
    assert (
        page.count("<table>") == 2
        and 'src="data:image/png;base64,' in page
        and not re.search(r'(src|href)="http', page)
    )
    [header, *rows] = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in page.split("<tr>")[1:]]
    assert len(header) == 13 and all(len(row) == 13 for row in rows[:6])
    assert rows[5][:9] == ["Improved FractalDB", "24.2", "", "29.3", "", "6.13", "", "30.4", "3.5"]
    assert "<h1>Pre-training sets" in page and "<h2>Runs</h2>" in page
    assert "<h2>run, 4,000,000 images seen</h2>" in page


@pytest.mark.parametrize("file", ["t.md", "t.html"])
def test_a_table_on_a_full_disk_leaves_no_file_or_the_old_one(make: Make, tmp_path: Path, file: str) -> None:
    place, out = make("run", "cub", FID=3.5), tmp_path / "tables" / "t.md"
    with full_disk(file), pytest.raises(UserError, match="is full; make room"):
        write([place], out)
    assert not list(out.parent.glob(f"*{file}*"))
    write([place], out)
    before = (out.parent / file).read_bytes()
    results.append(Path(place), {"n": 30_000, "metric": "FID", "value": 9.75, "images_seen": 4_000_000})
    with full_disk(file), pytest.raises(UserError, match="is full; make room"):
        write([place], out)
    assert [path.name for path in out.parent.glob(f"*{file}*")] == [file] and (
        out.parent / file
    ).read_bytes() == before


def test_a_run_without_figures_gets_a_sentence(make: Make) -> None:
    with pytest.raises(UserError, match=r"has no metrics.jsonl; `python -m evaluate metrics .*` writes it"):
        table(1, [make("bare", "cub")])
    unjudged = make("unjudged", "cub")
    results.append(
        Path(unjudged), {"n": 0, "metric": "attribute agreement: colour", "value": None, "images_seen": 8}
    )
    with pytest.raises(
        UserError, match=r"metrics.jsonl holds no figure; `python -m evaluate metrics .*` writes some"
    ):
        table(1, [unjudged])
