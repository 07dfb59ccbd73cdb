"""The demo from end to end at its smallest, whatever stops it, and what it says to bad input."""

import json
import os
import re
import resource
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.experiments.demo import course, workers
from evaluate.experiments.demo.journal import Journal
from evaluate.experiments.demo.plan import FAMILIES, DemoStep, Plan, at_scale, steps
from synth.errors import UserError
from tests.kit import BROWSER, ROOT, children, demo_command, running, shown_in_browser, start


def finish(place: Path, *command: str) -> tuple[int, str, str]:
    process = start(list(command), cwd=place, PYTHONPATH=str(ROOT))
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def wait(until: Callable[[], bool], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def done(out: Path, name: str) -> bool:
    journal = out / "journal.jsonl"
    lines = (
        [line for line in journal.read_text().splitlines() if line.endswith("}")] if journal.exists() else []
    )
    return any(row["step"] == name and row["code"] == 0 for row in map(json.loads, lines))


def test_it_leaves_every_stage_and_a_report(demo_done: Path) -> None:
    plan = json.loads((demo_done / "plan.json").read_text())
    assert {p.name for p in (demo_done / "shards").iterdir()} == set(FAMILIES) - plan["left_out"].keys()
    assert {p.name for p in (demo_done / "runs").iterdir()} == {
        "pretrained",
        "finetuned",
        "scratch",
        "untrained",
    }
    figures = json.loads((demo_done / "figures.json").read_text())
    seen = {
        name: [point["images_seen"] for point in points] for name, points in figures["kid_x_1000"].items()
    }
    assert seen == {"untrained": [32], "finetuned": [0, 32, 64], "scratch": [32, 64, 96, 128]}
    assert {row["fact"] for row in figures["agreement"]} == {"family", "colour", "background"}
    assert figures["sentence"] in (demo_done / "report.html").read_text().replace("&#39;", "'")


def test_the_untrained_generator_is_the_one_that_training_from_scratch_began_with(demo_done: Path) -> None:
    import torch

    from train import runs
    from train.models.stylegan2_networks import Generator

    groups = runs.find(demo_done / "runs/scratch").config.groups
    torch.manual_seed(groups.training.seed)
    begun = Generator(groups.model).state_dict()
    kept = runs.load(str(demo_done / "runs/untrained")).parts["generator"].state_dict()
    assert all(torch.equal(begun[name], kept[name]) for name in begun)


def spent() -> float:
    """CPU seconds of the processes that this has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_second_call_does_nothing_and_soon(demo_done: Path, demo_place: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in demo_done.rglob("*") if p.is_file()}
    before_cpu = spent()
    code, output, errors = finish(demo_place, *demo_command(demo_done, demo_place / "made.ttf"))
    assert (
        code == 0
        and "nothing to do" in errors
        and json.loads(output)["report"] == str(demo_done / "report.html")
    )
    assert spent() - before_cpu < 10
    assert {p: p.stat().st_mtime_ns for p in demo_done.rglob("*") if p.is_file()} == before


def test_the_page_fetches_nothing_and_runs_nothing(demo_done: Path) -> None:
    page = (demo_done / "report.html").read_text()
    assert "<script" not in page and "<link" not in page and "@import" not in page and "url(" not in page
    sources = re.findall(r'src="([^"]{0,40})', page)
    assert len(sources) > 40 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert all("http" not in target for target in re.findall(r'(?:src|href)="([^"]{0,8})', page))


def test_the_page_says_what_was_left_out_and_why(demo_done: Path) -> None:
    from evaluate.experiments.demo import page

    plan = Plan(64, 64, 32, measured=12, families=FAMILIES[:2])
    content = page.gather(plan, {}, steps(plan, demo_done), Journal(demo_done), demo_done)
    text = page.render(replace(content, left_out={"shaders": "no renderer <is> here"}), 1.0, 1, "0" * 64)
    assert (
        "<b>shaders are left out</b>" in text
        and "no renderer &lt;is&gt; here" in text
        and "2 &times; 32 pictures" in text
    )


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here; Debian's package is called chromium")
def test_a_browser_shows_it_with_all_its_pictures_and_complains_of_nothing(
    demo_done: Path, tmp_path: Path
) -> None:
    there, visible = shown_in_browser(demo_done / "report.html", tmp_path)
    assert there == visible and visible > 40


def parent(pid: int) -> int:
    """Whose child a process is; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


@pytest.mark.soak
def test_killed_and_stopped_it_goes_on_to_the_same_figures(demo_done: Path, demo_place: Path) -> None:
    out = demo_place / "killed"
    command = demo_command(out, demo_place / "made.ttf")
    process = start(command, cwd=demo_place, PYTHONPATH=str(ROOT))
    wait(lambda: done(out, "captions emoji-train"))
    family = children(process.pid)
    assert (
        sum("evaluate.experiments.worker" in line and parent(pid) == process.pid for pid, line in family) == 2
    )
    process.kill()
    process.communicate()
    wait(lambda: not any(running(pid) for pid, _ in family), 60)
    assert not (out / "report.html").exists()

    process = start(command, cwd=demo_place, PYTHONPATH=str(ROOT))
    wait(lambda: done(out, "pretrain"))
    family = children(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "run the same command again" in errors
    assert not any(running(pid) for pid, _ in family)

    code, _, errors = finish(demo_place, *command)
    assert code == 0, errors
    assert (out / "figures.json").read_text() == (demo_done / "figures.json").read_text()
    assert Journal(out).starts == 3 and "in 3 starts" in (out / "report.html").read_text()


def test_other_sizes_at_the_same_place_are_refused(demo_done: Path, demo_place: Path) -> None:
    with pytest.raises(UserError, match=r"holds a demo with --pretraining 64 .*; give the same again"):
        list(course.run(Plan(), demo_done))


@pytest.mark.slow
def test_a_missing_font_is_told_before_minutes_are_spent(demo_place: Path) -> None:
    begun = spent()
    code, _, errors = finish(demo_place, *demo_command(demo_place / "fontless", demo_place / "none.ttf"))
    assert (
        code == 2 and "none.ttf" in errors.splitlines()[-1] and errors.splitlines()[-1].startswith("error: ")
    )
    assert spent() - begun < 20


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"pretraining": 0}, "--pretraining is 0; it must be at least 32, a batch"),
        ({"pictures": 31}, "--pictures is 31; it must be at least 32, a batch"),
        ({"size": 48}, "--size is 48; the demo draws pictures of 16, 32, 64, 128 pixels a side"),
        ({"measured": 3}, "--measured is 3; KID needs at least 4 pictures"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, int], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Plan(**sizes)  # type: ignore[arg-type]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("")
    with pytest.raises(UserError, match="is not empty and holds no demo"):
        list(course.run(Plan(), tmp_path))
    with pytest.raises(UserError, match="is a file"):
        list(course.run(Plan(), tmp_path / "letter.txt"))


def test_without_a_renderer_shaders_are_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/dev/null")
    [(family, why)] = course._left_out(Plan()).items()
    assert family == "shaders" and "EGL" in why and "error" not in why


def test_every_step_is_a_command_of_its_stage_and_waits_only_for_steps_before_it() -> None:
    all_steps = steps(Plan(families=FAMILIES[:2], size=64), Path("runs/demo"))
    names = [step.name for step in all_steps]
    assert len(set(names)) == len(names) and all(set(step.after) <= set(names) for step in all_steps)
    assert not any("shaders" in step.line for step in all_steps)
    assert all("model.resolution=64" in step.line for step in all_steps if step.stage == "train")
    [pretraining] = [step for step in all_steps if step.name == "pretrain"]
    assert pretraining.line.count("--on") == pretraining.line.count("--captions") == 2


@pytest.mark.parametrize(
    ("module", "how"), [("no_such_module", "ended with 1"), ("platform", "has left no ")]
)
def test_a_step_that_breaks_or_leaves_nothing_is_told_with_its_log(
    module: str, how: str, tmp_path: Path
) -> None:
    step = DemoStep("odd step", "what", (module,), tmp_path / "nothing")
    with (
        (tmp_path / "lock").open("w") as lock,
        pytest.raises(UserError, match=f"the step 'odd step' {how}.*odd-step.log has its output"),
    ):
        list(workers.do([step], Journal(tmp_path), tmp_path, lock.fileno()))
    assert not Journal(tmp_path).done(step)


def test_steps_wait_for_what_they_need(tmp_path: Path) -> None:
    all_steps = [
        DemoStep("last", "", ("platform",), tmp_path, ("first",)),
        DemoStep("first", "", ("platform",), tmp_path),
    ]
    with (tmp_path / "lock").open("w") as lock:
        events = list(workers.do(all_steps, Journal(tmp_path), tmp_path, lock.fileno()))
        assert [event.step.name for event in events if isinstance(event, workers.StepEnded)] == [
            "first",
            "last",
        ]
        assert list(workers.do(all_steps, Journal(tmp_path), tmp_path, lock.fileno())) == []


def test_workers_end_when_nobody_asks_for_more_events(tmp_path: Path) -> None:
    all_steps = [
        DemoStep("short", "", ("platform",), tmp_path),
        DemoStep("long", "", ("http.server", "0", "--bind", "127.0.0.1"), tmp_path),
    ]
    with (tmp_path / "lock").open("w") as lock:
        events = workers.do(all_steps, Journal(tmp_path), tmp_path, lock.fileno())
        assert next(event for event in events if isinstance(event, workers.StepEnded)).step.name == "short"
        family = [pid for pid, line in children(os.getpid()) if "evaluate.experiments.worker" in line]
        assert len(family) == 2
        events.close()
    assert not any(running(pid) for pid in family)


def test_times_are_summed_over_starts_and_survive_a_crash(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.note("pretrain", "c", 5.0)
    first.note("pretrain", "c", 10.0)
    with first.path.open("a") as file:
        file.write('{"start": 1, "ste')
    second = Journal(tmp_path)
    second.note("pretrain", "c", 3.0, cpu_seconds=2.5, code=0)
    assert Journal(tmp_path).seconds("pretrain") == 13.0 and Journal(tmp_path).starts == 2


def test_the_commands_at_scale_are_targets_of_the_makefile() -> None:
    targets = (ROOT / "Makefile").read_text()
    for _, block in at_scale(Plan()):
        for line in block.splitlines():
            _, target, *variables = shlex.split(line)
            assert f"\n{target}:" in targets
            assert all(f"$({name.partition('=')[0]}" in targets for name in variables), line
