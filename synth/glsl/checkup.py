"""A check of the renderer of shaders: its name, a test picture against known levels, and its time."""

import time
from typing import Any

import numpy as np

from synth.errors import UserError
from synth.glsl import gl

SIZE = 256

# A gradient with known levels plus 64 octaves of sines, multiplied by 0. The compiler does not know the 0.
_TEST = """#version 330
uniform float side, nothing;
uniform int rounds;
out vec4 colour;
void main() {
    vec2 q = gl_FragCoord.xy / side;
    float sum = 0.0;
    for (int i = 0; i < rounds; i++) sum += sin(float(i) * q.x + sum);
    colour = vec4(q, 0.5 + nothing * sum, 1.0);
}
"""


def examine(device: str) -> dict[str, Any]:
    """Returns the renderer, CPU and wall milliseconds of a test picture, and the folder of compiled shaders.
    Raises UserError if there is no renderer, or it draws wrongly."""
    # The test picture: red rises to the right, green rises to the top, blue is constant.
    gl.choose(device)
    values = {"side": float(SIZE), "nothing": 0.0, "rounds": 64}
    pixels = gl.draw(_TEST, values, SIZE, "the test picture")
    levels = np.round((np.arange(SIZE) + 0.5) / SIZE * 255)
    red, green = np.abs(pixels[..., 0] - levels), np.abs(pixels[..., 1] - levels[::-1, None])
    error = max(red.max(), green.max(), np.abs(pixels[..., 2] - 127.5).max())
    if error > 1:
        fault = f"{gl.renderer()} draws the test picture wrongly, by up to {error:.0f} levels"
        raise UserError(f"{fault}; update its driver or take another --device")

    # Its time, as the mean of ten.
    begun, cpu = time.perf_counter(), time.process_time()
    for _ in range(10):
        gl.draw(_TEST, values, SIZE, "the test picture")
    wall_ms, cpu_ms = 100 * (time.perf_counter() - begun), 100 * (time.process_time() - cpu)

    return {
        "device": device,
        "renderer": gl.renderer(),
        "picture_ms": round(wall_ms, 2),
        "picture_cpu_ms": round(cpu_ms, 2),
        "shader_cache": gl.cache_folder(),
    }
