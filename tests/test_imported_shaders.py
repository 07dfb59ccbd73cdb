import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from synth import pipeline
from synth.errors import UserError
from synth.families import imported_shaders
from synth.glsl import gl, wrappers
from synth.pipeline import RenderRequest, recipe_of
from synth.recipe import redraw
from synth.sets.shards import ShardSet
from synth.verify import damages
from synth.vetting import shader_folders, vetting
from synth.vetting.programs import NAME, Programs
from tests.kit import make_small

WAVES = "vec3(0.5 + 0.5 * sin(9.0 * p.x + {t}), 0.5 + 0.4 * p.y, 0.5 + 0.5 * cos(7.0 * p.y - {t} * 2.0))"
TOY = (
    "void mainImage(out vec4 c, in vec2 at) {\n    vec2 p = at / iResolution.xy;\n    c = vec4("
    + WAVES.format(t="iTime")
    + ", 0.0);\n}\n"
)
BODY = (
    "vec2 p = FC.xy / r; int i; {out} = vec4("
    + WAVES.format(t="t")
    + " + vec3(float(i), snoise3D(vec3(p, t)) * 0.2, 0.0), 1.0);"
)
OUTPUTS = {"": "gl_FragColor", "300": "o", "mrt": "o0"}


def twigl(mode: str) -> str:
    """A good program of a TwiGL mode, as the mode asks for it."""
    name, _, manner = mode.partition(" ")
    if name == "geekest":
        return BODY.format(out=OUTPUTS[manner])
    names = {"geeker": ("r", "t"), "geek": ("r", "t"), "classic": ("resolution", "time")}[name]
    shown = {"": "gl_FragColor", "300": "shown", "mrt": "shown"}
    out = (OUTPUTS if name == "geeker" else shown)[manner]
    colour = f"{out} = vec4({WAVES.format(t=names[1])}, 1.0);"
    main = f"void main() {{ vec2 p = gl_FragCoord.xy / {names[0]}; {colour} }}\n"
    if name == "geeker":
        return main
    head = f"precision highp float;\nuniform vec2 {names[0]};\nuniform float {names[1]};\n"
    if not manner:
        return head + main
    outputs = "out vec4 shown;\n"
    if manner == "mrt":
        outputs = "layout(location = 0) out vec4 shown;\nlayout(location = 1) out vec4 second;\n"
    return "#version 300 es\n" + head + outputs + main


def page(code: str, number: int = 0, **changes: Any) -> str:
    """A program in the JSON of Shadertoy's pages."""
    info = {"id": f"pAge{number:02d}", "username": "somebody", "date": "1600000000", "name": "waves"}
    passes = [{"code": code, "inputs": [], "outputs": [], "type": "image"}]
    return json.dumps({"ver": "0.1", "info": info, "renderpass": passes, **changes})


def varied(code: str, number: int) -> str:
    """The same program with other numbers, so that it is no copy."""
    return code.replace("9.0", f"{9 + number}.25")


def name_of(mode: str) -> str:
    return hashlib.md5(mode.encode()).hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Shaders21k folder with programs of our own: a good one of every kind, and one with every fault."""
    root = tmp_path_factory.mktemp("copy")
    files: dict[str, str] = {}
    toys = {
        "page00": page(varied(TOY, 1)),
        "api001": json.dumps({"Shader": json.loads(page("// License: MIT\n" + varied(TOY, 2), 1))}),
        "common": page(
            "",
            2,
            renderpass=[
                {"code": "float k = 9.0;", "type": "common"},
                {"code": varied(TOY, 3).replace("12.25", "k"), "type": "image"},
            ],
        ),
        "syntax": page(TOY.replace("vec2 p =", "vec2 p"), 3),
        "loop00": page(TOY.replace("c = vec4(", "while (iTime > 0.0) p += 0.01 * sin(p.yx); c = vec4("), 4),
        "passes": page("", 5, renderpass=[{"code": TOY, "type": "image"}, {"code": TOY, "type": "buffer"}]),
        "needs0": page(TOY.replace("c = vec4(", "c = texture(iChannel0, p) + vec4("), 6),
        "copy00": page(varied(TOY, 1).replace("    ", "\t") + "// again\n", 7),
        "flat00": page("void mainImage(out vec4 c, in vec2 at) { c = vec4(0.3, 0.6, 0.9, 1.0); }", 8),
        "nojson": "{ not JSON",
        "cc0toy": page("// CC0\n" + varied(TOY, 4), 9),
    }
    for name, text in toys.items():
        files[f"shadertoy/{name[0]}/{name}.fragment"] = text
    for number, mode in enumerate(wrappers.MODES):
        manner = mode.partition(" ")[2]
        files[f"twigl/fragments/{name_of(mode)}.fragment"] = varied(twigl(mode), 20 + number)
        files[f"twigl/modes/{name_of(mode)}.fragment"] = (
            f"{mode.split()[0]}\n{manner != ''}\n{manner == 'mrt'}\nFalse\n"
        )
    files[f"twigl/fragments/{name_of('unknown')}.fragment"] = varied(twigl("geeker 300"), 50)
    for path, text in files.items():
        (root / "shader_codes" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "shader_codes" / path).write_text(text)
    listed = [f"shader_codes/{path}" for path in files if "/modes/" not in path]
    (root / "shader_codes" / "shaders_list").write_text(
        "\n".join([*listed, "shader_codes/shadertoy/g/gone00.fragment"]) + "\n"
    )
    return root


@pytest.fixture(scope="module")
def vetted(folder: Path) -> Programs:
    answer = vetting._Children._answer

    def impatient(children: vetting._Children, task: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Waits less for the endless program, which keeps every core busy."""
        return answer(children, task, 3.0 if "while (iTime" in json.dumps(task) else deadline)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vetting._Children, "_answer", impatient)
        return recipe_of(
            RenderRequest("shaders21k", 1, "-", settings=(f"programs={folder}",))
        ).config.programs


def accepted(programs: Programs) -> dict[str, dict[str, Any]]:
    return {program["name"]: program for program in programs.content["programs"]}


def reasons(programs: Programs) -> dict[str, str]:
    return {one["name"]: one["reason"] for one in programs.content["left_out"]}


def test_a_good_program_of_every_format_and_mode_is_taken(vetted: Programs) -> None:
    names = {"pAge00", "pAge01", "pAge02", "pAge09", name_of("unknown"), *map(name_of, wrappers.MODES)}
    assert set(accepted(vetted)) == names
    for mode in wrappers.MODES:
        assert accepted(vetted)[name_of(mode)]["wrapper"] == f"twigl {mode}"
    assert accepted(vetted)[name_of("unknown")]["wrapper"] in ("twigl geeker 300", "twigl geeker mrt")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pAge03", "does not compile: 0:"),
        ("pAge04", "endless"),
        ("pAge05", "has several passes: image, buffer"),
        ("pAge06", "reads a texture (iChannel0)"),
        ("pAge07", "is a copy of pAge00"),
        ("pAge08", "flat"),
        ("nojson", "is not Shadertoy's JSON"),
        ("gone00", "cannot be read: No such file or directory"),
    ],
)
def test_every_other_program_is_left_out_with_its_reason(vetted: Programs, name: str, reason: str) -> None:
    assert reasons(vetted)[name].startswith(reason)


def test_licences_come_from_comments_and_from_shadertoys_default(vetted: Programs) -> None:
    licences = {name: program["licence"] for name, program in accepted(vetted).items()}
    assert licences["pAge01"] == "mit" and licences["pAge09"] == "cc0"
    assert licences["pAge00"] == "cc-by-nc-sa-3.0"
    assert licences[name_of("geek")] == "unknown" and accepted(vetted)["pAge00"]["author"] == "somebody"


def test_licences_filter(folder: Path) -> None:
    candidates = shader_folders.allowed(shader_folders.read(str(folder)), "cc0, MIT")
    assert [program.name for program in candidates if not program.fault] == ["pAge01", "pAge09"]


def test_a_licence_table_goes_before_comments(tmp_path: Path) -> None:
    (tmp_path / "pAge01.json").write_text(page("// CC0\n" + TOY, 1))
    (tmp_path / "licenses.csv").write_text("pAge01,CC-BY-4.0\n")
    assert [one.licence for one in shader_folders.read(str(tmp_path))] == ["cc-by-4.0"]


@pytest.mark.slow
def test_bare_programs_are_wrapped(tmp_path: Path) -> None:
    (tmp_path / "a.frag").write_text(varied(TOY, 60))
    (tmp_path / "b.frag").write_text(
        twigl("classic").replace("time", "u_time").replace("resolution", "u_resolution")
    )
    (tmp_path / "c.glsl").write_text(twigl("classic 300"))
    programs = recipe_of(
        RenderRequest("shaders21k", 1, "-", settings=(f"programs={tmp_path}",))
    ).config.programs
    wrappers = {name: p["wrapper"] for name, p in accepted(programs).items()}
    assert wrappers == {"a": "shadertoy", "b": "bare", "c": "bare"}


@pytest.mark.slow
def test_shards_of_a_folder_are_made_grown_and_verified(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("p/page00", "a/api001", "c/cc0toy"):
        text = (folder / "shader_codes" / "shadertoy" / f"{name}.fragment").read_text()
        (few / f"{Path(name).name}.json").write_text(text)
    out, request = tmp_path / "set", {"dataset": "shaders21k", "settings": (f"programs={few}",), "size": 64}
    make_small(out, samples=7, shard_size=4, **request)
    vetted = (out / NAME).read_bytes()
    monkeypatch.setattr(vetting, "sources", None)  # what lies at the target is used again
    make_small(out, samples=9, shard_size=4, **request)
    shard_set = ShardSet(str(out))
    samples = [sample for shard in shard_set.shards for sample in shard_set.read(shard)]
    assert [s.metadata["params"]["program"] for s in samples] == ["pAge01", "pAge09", "pAge00"] * 3
    assert [s.metadata["params"]["licence"] for s in samples[:3]] == ["mit", "cc0", "cc-by-nc-sa-3.0"]
    assert (redraw(samples[4].metadata) == samples[4].pixels).all()
    assert not any(sentence for _, sentence in damages(shard_set, 4))
    assert (out / NAME).read_bytes() == vetted
    assert shard_set.manifest["identity"]["config"]["programs"] == Programs.of(vetted).sha256
    assert "not for commercial use" in (out / "README.md").read_text().split("\n---\n\n")[1].splitlines()[0]


def test_a_command_vets_a_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def sources(candidates: list[Any], inputs: dict[str, Any], slowest: float) -> Programs:
        calls.append(inputs["sources"])
        entry = {"name": "a", "wrapper": "bare", "licence": "cc0", "author": "me", "source": ""}
        terms = {**inputs, "law": vetting.LAW}
        return Programs.from_content({"asked": terms, "renderer": "", "programs": [entry], "attempts": {}})

    monkeypatch.setattr(vetting, "sources", sources)
    request = RenderRequest("shaders21k", 1, str(tmp_path / "set"), settings=(f"programs={tmp_path}",))
    for number in (1, 2):
        (tmp_path / "a.frag").write_text(varied(TOY, 70 + number))
        pipeline.require_place(request)
        pipeline.require_place(request)
        assert len(set(calls)) == len(calls) == number


@pytest.mark.parametrize(
    ("renderpass", "fault"),
    [
        ('[{"code": null}]', "is not Shadertoy's JSON"),
        ('[{"code": "", "type": null}, {"code": ""}]', "has several passes: None, image"),
        ('[{"code": "// \\ud800"}]', None),
    ],
)
def test_strange_json_of_shadertoy_is_read_or_left_out(
    tmp_path: Path, renderpass: str, fault: str | None
) -> None:
    (tmp_path / "a.json").write_text(f'{{"renderpass": {renderpass}}}')
    assert [program.fault for program in shader_folders.read(str(tmp_path))] == [fault]


def test_a_damaged_licence_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.frag").write_text(TOY)
    (tmp_path / "licences.csv").write_text('a,"cc0\n' + "b,mit\n" * 30_000)
    with pytest.raises(UserError, match=r"licences\.csv is no table: field larger than .*name,licence"):
        shader_folders.read(str(tmp_path))


def test_a_program_that_compiles_elsewhere_alone_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*_: object) -> None:
        raise gl.ProgramError("GLSL:\n0:6(1): error: syntax error")

    monkeypatch.setattr(gl, "draw", draw)
    monkeypatch.setattr(gl, "renderer", lambda: "another renderer")
    params = {"program": "toy", "wrapper": "bare", "licence": "", "author": "", "source": "", "time": 1.0}
    sample = {"family": "imported_shaders", "law": imported_shaders.LAW, "size": 64}
    sentence = "shader program toy does not compile with another renderer: 0:6.* error: syntax error; draw it"
    with pytest.raises(UserError, match=sentence):
        redraw({**sample, "params": {**params, "redraws": 0}})


def interpreter(path: Path, script: str) -> str:
    """A program that is run in place of Python."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_start_of_a_child_takes_no_time_of_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = 'sleep 0.4; while read line; do echo \'{"fault": null, "renderer": "none"}\'; done'
    monkeypatch.setattr(vetting.sys, "executable", interpreter(tmp_path / "python", answers))
    with vetting._Children("software") as children:
        assert [answer["fault"] for answer in children.run([{"do": "sources"}], 0.35)] == [None]
        assert children.renderer() == "none"


def test_children_that_do_not_start_end_the_vetting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vetting.sys, "executable", interpreter(tmp_path / "python", "exit 1"))
    with pytest.raises(UserError, match="a process that tries programs does not start here"):
        vetting.structures(1, 1)


def test_a_damaged_programs_file_of_the_target_is_named() -> None:
    with pytest.raises(UserError, match=r"^the target's programs\.json is damaged"):
        Programs.of(b"{}")


def test_a_folder_is_asked_for() -> None:
    with pytest.raises(UserError, match="give a copy: --set programs=DIR"):
        recipe_of(RenderRequest("shaders21k", 1, "-"))


@pytest.mark.parametrize(
    ("code", "zeroed"),
    [
        ("int i;", "int i=0;"),
        ("for(float i,g=sin(1.,e),s;i++<9.;){}", "for(float i=0.,g=sin(1.,e),s=0.;i++<9.;){}"),
        ("vec3 p,q=vec3(1,2,3);", "vec3 p=vec3(0),q=vec3(1,2,3);"),
        ("uniform float t;", "uniform float t;"),
        ("float f(float a,float b){return a;}", "float f(float a,float b){return a;}"),
    ],
)
def test_golfed_variables_start_at_zero(code: str, zeroed: str) -> None:
    assert wrappers._zeroed(code) == zeroed
