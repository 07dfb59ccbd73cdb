import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synth.errors import UserError
from synth.glsl import gl
from tests.kit import ROOT, run_synth

HEAD = "#version 330\nuniform float side, x;\nuniform int n;\nuniform vec3 v;\nout vec4 colour;\n"
PLACE = HEAD + "void main() { colour = vec4(gl_FragCoord.xy / side, x, 0.5); }\n"
LOOP = "for (int i = 0; i < n; i++) s = sin(s + gl_FragCoord.x * 1e-3);"
BUSY = f"{HEAD}void main() {{ float s = x; {LOOP} colour = vec4(s); }}\n"


def place(size: int = 16, x: float = 0.4) -> np.ndarray:
    return gl.draw(PLACE, {"side": float(size), "x": x, "absent": 1.0}, size, "place")


@pytest.mark.parametrize("size", [1, 16, 37])
def test_pixels_are_where_the_program_puts_them(size: int) -> None:
    levels = np.round((np.arange(size) + 0.5) / size * 255)
    pixels = place(size)
    assert pixels.shape == (size, size, 3) and pixels.dtype == np.uint8 and pixels.flags["C_CONTIGUOUS"]
    assert np.abs(pixels[..., 0] - levels).max() <= 1
    assert np.abs(pixels[..., 1] - levels[::-1, None]).max() <= 1
    assert (pixels[..., 2] == 102).all()


def test_pictures_do_not_share_their_pixels() -> None:
    first = place(x=0.0)
    second = place(x=1.0)
    assert (first[..., 2] == 0).all() and (second[..., 2] == 255).all()


def test_uniforms_of_every_kind_are_bound() -> None:
    source = HEAD + "void main() { colour = vec4(v * float(n) + x, side); }\n"
    pixels = gl.draw(source, {"v": (0.1, 0.2, 0.3), "n": 2, "x": 0.2, "side": 0.0}, 2, "uniforms")
    assert (pixels == (102, 153, 204)).all()


def test_a_program_that_does_not_compile_says_where() -> None:
    with pytest.raises(gl.ProgramError, match=r"0:6\(.*syntax error"):
        gl.draw(HEAD + "void main() { colour = vec4(1.0 }\n", {}, 4, "wrong")


def test_programs_beyond_the_limit_are_released_and_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "ALIVE", 3)
    sources = [PLACE.replace("0.5)", f"{k}.5)") for k in range(6)]
    drawn = [gl.draw(s, {"side": 8.0, "x": k / 5}, 8, "many") for k, s in enumerate(sources)]
    assert len(gl._screen()._programs) == 3
    assert [round(float(d[0, 0, 2]) / 51) for d in drawn] == [0, 1, 2, 3, 4, 5]
    assert (gl.draw(sources[0], {"side": 8.0, "x": 0.0}, 8, "many") == drawn[0]).all()


@pytest.mark.slow
def test_a_program_that_does_not_end_stops_the_run_with_its_name() -> None:
    script = "from synth.glsl import gl\nfrom synth.errors import UserError\ngl.DEADLINE = 0.5\n"
    script += f"try: gl.draw({BUSY!r}, {{'n': 60000, 'x': 1.0}}, 1024, 'structure 7')\n"
    script += "except UserError as error: print(error)\n"
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=240)
    sentence = "shader program structure 7 drew nothing within 0 s; leave it out and vet the others again"
    assert run.stdout == f"{sentence}\n"


@pytest.mark.parametrize("device", ["cpu", "gpu:", "gpu:x", ""])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(UserError, match="known are software, gpu and gpu:NUMBER"):
        gl.choose(device)


def test_a_process_draws_with_one_device() -> None:
    place()
    gl.choose("software")
    with pytest.raises(UserError, match="draws with software already"):
        gl.choose("gpu")


@pytest.mark.slow
def test_compiled_shaders_lie_in_one_folder(tmp_path: Path) -> None:
    run = run_synth("doctor", MESA_SHADER_CACHE_DIR=str(tmp_path / "cache"))
    assert run.returncode == 0 and json.loads(run.stdout)["shader_cache"] == str(tmp_path / "cache")
    assert any((tmp_path / "cache").rglob("*"))


@pytest.mark.slow
def test_doctor_says_what_draws_and_how_quickly() -> None:
    row = json.loads(run_synth("doctor").stdout)
    assert row["renderer"] == gl.renderer() and 0 < row["picture_cpu_ms"] < 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "options", "sentence"),
    [
        (
            {"GLCONTEXT_LINUX_LIBEGL": "/nowhere/libEGL.so"},
            [],
            "install Mesa's EGL (Debian, Ubuntu: apt-get install libegl1 libgl1",
        ),
        ({}, ["--device", "gpu:99"], "--device gpu:99"),
        ({}, ["--device", "tpu"], "unknown device 'tpu'; known are software, gpu and gpu:NUMBER"),
    ],
)
def test_doctor_without_a_renderer_says_so_in_a_sentence(
    environment: dict[str, str], options: list[str], sentence: str
) -> None:
    run = run_synth("doctor", *options, **environment)
    assert run.returncode == 2 and run.stdout == "" and len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("error: ") and sentence in run.stderr


@pytest.mark.slow
def test_another_renderer_agrees_within_the_stated_tolerance(tmp_path: Path) -> None:
    script = "import sys, numpy as np\nfrom synth.datasets import sample_params\nfrom synth.glsl import gl\n"
    script += "from synth.pipeline import RenderRequest, recipe_of\nfrom synth.families.shaders import draw\n"
    script += "law = recipe_of(RenderRequest('shaders', 1, '-'))\n"
    script += "sample = [sample_params(law.dataset, law.config, seed=0, index=5 * i) for i in range(50)]\n"
    script += "np.savez(sys.argv[1], renderer=gl.renderer(), pixels=[draw(params, 48) for params in sample])"
    drawn = []
    for name, driver in (("one", "llvmpipe"), ("other", "softpipe")):
        file, environment = tmp_path / f"{name}.npz", {**os.environ, "GALLIUM_DRIVER": driver}
        subprocess.run([sys.executable, "-c", script, str(file)], cwd=ROOT, env=environment, check=True)
        drawn.append(np.load(file))
    one, other = drawn
    assert str(one["renderer"]) != str(other["renderer"])
    apart = np.abs(one["pixels"].astype(float) - other["pixels"]).mean(axis=(1, 2, 3))
    assert apart.max() < gl.TOLERANCE
