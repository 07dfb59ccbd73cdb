"""What the demo's report says, and that a browser shows it."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.experiments.demo.figures import Figures, Point, sentence, swing

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")

UNTRAINED = Point(32, 500.0, 5.0)


def at(value: float, images: int = 20_000, error: float = 5.0) -> Point:
    return Point(images, value, error)


@pytest.mark.parametrize(
    ("scratch", "longer", "said"),
    [
        (400, 350, "a lower KID than the run from scratch (300 ± 10 against 400 ± 10), and a lower KID than"),
        (400, 350, "pre-training was worth more here than the same computing time spent on emoji."),
        (400, 305, "but a KID that cannot be told from that of the run from scratch carried on"),
        (400, 305, "pre-training is a head start, worth about as much as the same computing time spent on emoji."),
        (400, 200, "but a higher KID than the run from scratch carried on until it had seen 50,000"),
        (400, 200, "pre-training is a head start, but the same computing time was better spent on emoji."),
        (310, 350, "at equal emoji the figures do not tell whether pre-training helped, and the longer run has become worse than both"),
        (310, 305, "a KID that cannot be told from that of the run from scratch (300 ± 10 against 310 ± 10), and a KID that cannot"),
        (310, 305, "the figures do not tell whether pre-training helped."),
        (310, 200, "the figures do not tell whether pre-training helped, and the same computing time was better spent on emoji"),
        (200, 350, "pre-training did harm at equal emoji, though the longer run has become worse than both"),
        (200, 305, "pre-training did harm at equal emoji, and the longer run has come no further"),
        (200, 150, "pre-training did harm, and the same computing time was better spent on emoji"),
    ],
)
def test_the_sentence_says_what_the_ends_of_the_curves_say(scratch: float, longer: float, said: str) -> None:
    told = sentence(at(300), at(scratch), at(longer, 50_000), untrained=UNTRAINED)
    assert said in told and told.count(". ") == 0 and told.endswith(".")


def test_two_figures_are_equal_where_the_difference_lies_in_its_interval() -> None:
    inside, outside = (at(300 + 1.96 * 5 * 2**0.5 + more) for more in (-0.01, 0.01))
    assert "cannot be told from that of the run from scratch (" in sentence(at(300), inside, at(200), untrained=UNTRAINED)
    assert "a lower KID than the run from scratch (" in sentence(at(300), outside, at(200), untrained=UNTRAINED)


@pytest.mark.parametrize(
    ("finetuned", "scratch", "who"), [(495, 300, "the pre-trained run (495 ± 10) is"), (300, 620, "the run from scratch (620 ± 10) is")]
)
def test_nothing_is_compared_before_it_is_better_than_no_training(finetuned: float, scratch: float, who: str) -> None:
    told = sentence(at(finetuned), at(scratch), at(100, 50_000), untrained=UNTRAINED)
    assert told.startswith("Nothing can be said of pre-training yet") and who in told and "never trained (500 ± 10)" in told


def test_both_may_be_no_better_than_no_training() -> None:
    told = sentence(at(600), at(505), at(100), untrained=UNTRAINED)
    assert "the pre-trained run (600 ± 10) and the run from scratch (505 ± 10) are no better" in told


def test_the_sentence_allows_for_how_runs_are_thrown_about() -> None:
    assert swing([[at(1), at(3)], [at(5), at(4), at(4)]]) == pytest.approx(((4 + 1 + 0) / 6) ** 0.5)
    calm = Figures(UNTRAINED, [at(560, 0), at(300)], [at(400), at(390, 30_000)], 20_000, 400, 400, [])
    assert calm.same == at(400) and "(300 ± 17 against 400 ± 17)" in calm.sentence and "a lower KID" in calm.sentence
    wild = Figures(at(700), [at(560, 0), at(300)], [at(300, 10_000), at(400), at(320, 30_000)], 20_000, 400, 400, [])
    assert "the figures do not tell whether pre-training helped." in wild.sentence


def test_the_page_fetches_nothing_and_runs_nothing(demo_done: Path) -> None:
    page = (demo_done / "report.html").read_text()
    assert "<script" not in page and "<link" not in page and "@import" not in page and "url(" not in page
    sources = re.findall(r'src="([^"]{0,40})', page)
    assert len(sources) > 40 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert all("http" not in target for target in re.findall(r'(?:src|href)="([^"]{0,8})', page))


def test_the_page_says_what_was_left_out_and_why(demo_done: Path) -> None:
    from evaluate.experiments.demo import page
    from evaluate.experiments.demo.journal import Journal
    from evaluate.experiments.demo.plan import FAMILIES, Plan, steps

    plan = Plan(64, 64, 32, measured=12, families=FAMILIES[:2])
    content = page.gather(plan, {}, steps(plan, demo_done), Journal(demo_done), demo_done)
    told = page.render(replace(content, left_out={"shaders": "no renderer <is> here"}), 1.0, 1, "0" * 64)
    assert "<b>shaders are left out</b>" in told and "no renderer &lt;is&gt; here" in told and "2 &times; 32 pictures" in told


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here; Debian's package is called chromium")
def test_a_browser_shows_it_with_all_its_pictures_and_complains_of_nothing(demo_done: Path, tmp_path: Path) -> None:
    count = (
        "const all = [...document.images]; document.title = `${all.length} ${all.filter(i => i.naturalWidth && i.clientWidth > 20).length}`"
    )
    page = tmp_path / "report.html"
    page.write_text(
        (demo_done / "report.html").read_text().replace("</body>", f"<script>addEventListener('load', () => {{{count}}})</script></body>")
    )
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}/profile",
        "--enable-logging=stderr",
    ]
    shown = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode == 0 and "CONSOLE" not in shown.stderr, shown.stderr
    [(there, visible)] = re.findall(r"<title>(\d+) (\d+)</title>", shown.stdout)
    assert there == visible and int(visible) > 40
