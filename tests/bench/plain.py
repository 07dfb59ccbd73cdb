"""Plain twins of the kernels: written for reading, from the same equations, and used as reference by tests and benchmarks."""

import numpy as np
from PIL import Image, ImageDraw

from synth.seeds import Stream
from synth.visual_atoms import UNIT, Params, perlin_quantiles


def visual_atom(params: Params, canvas: int) -> np.ndarray:
    """Visual Atoms in NumPy, with the same stream of noise and Pillow drawing every line: uint8 (canvas, canvas)."""
    count, quantiles = params.vertices, perlin_quantiles()
    stream = Stream(params.noise_key)
    greys = [stream.word() >> 56 for _ in range(params.orbits)]
    theta = 2 * np.pi * np.arange(count) / count
    waves = np.sin(params.frequencies[0] * theta) / 2 + np.sin(params.frequencies[1] * theta) / 2
    cos, sin = np.cos(theta).astype(np.float32), np.sin(theta).astype(np.float32)
    x = (params.radius * params.stretch[0] * np.cos(theta) + params.centre[0]).astype(np.float32)
    y = (params.radius * params.stretch[1] * np.sin(theta) + params.centre[1]).astype(np.float32)
    steady = (params.noise + params.spacing + waves).astype(np.float32)
    picture = Image.new("L", (canvas, canvas))
    draw = ImageDraw.Draw(picture)
    for grey in greys:
        words = [stream.word() for _ in range(count)]
        noise_x = np.float32(params.noise) * quantiles[[w >> 52 for w in words]]
        noise_y = np.float32(params.noise) * quantiles[[(w >> 40) & 4095 for w in words]]
        x += cos * (steady - noise_x)
        y += sin * (steady - noise_y)
        corners = [(int(a), int(b)) for a, b in zip(x * np.float32(canvas / UNIT), y * np.float32(canvas / UNIT), strict=True)]
        for start, end in zip([corners[-1], *corners[:-1]], corners, strict=True):
            draw.line([start, end], fill=grey)
    return np.asarray(picture)
