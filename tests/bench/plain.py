"""Plain twins of the kernels, from the same equations: the reference of tests and benchmarks."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from synth.families.visual_atoms import UNIT, Params, perlin_quantiles
from synth.seeds import Stream

Words = Callable[[int], np.ndarray]


def stream_words(key: int) -> Words:
    """The words that the kernel reads, a number of them at a time: uint64."""
    stream = Stream(key)
    return lambda count: np.array([stream.word() for _ in range(count)], np.uint64)


def numpy_words(key: int) -> Words:
    """Other words, as fast as NumPy gives them: what a benchmark should be compared with."""
    generator = np.random.default_rng(key)
    return lambda count: generator.integers(0, 2**64, count, np.uint64)


def visual_atom(params: Params, canvas: int, words: Words) -> np.ndarray:
    """Visual Atoms in NumPy, a Python loop drawing every line with Pillow: uint8 (canvas, canvas)."""
    count, quantiles = params.vertices, np.float32(params.noise) * perlin_quantiles()
    greys = [int(word) >> 56 for word in words(params.orbits)]
    theta = 2 * np.pi * np.arange(count) / count
    waves = np.sin(params.frequencies[0] * theta) / 2 + np.sin(params.frequencies[1] * theta) / 2
    cos, sin = np.cos(theta).astype(np.float32), np.sin(theta).astype(np.float32)
    x = (params.radius * params.stretch[0] * np.cos(theta) + params.centre[0]).astype(np.float32)
    y = (params.radius * params.stretch[1] * np.sin(theta) + params.centre[1]).astype(np.float32)
    steady, scale = (params.noise + params.spacing + waves).astype(np.float32), np.float32(canvas / UNIT)
    picture = Image.new("L", (canvas, canvas))
    draw = ImageDraw.Draw(picture)
    for grey in greys:
        bits = words(count)
        x += cos * (steady - quantiles[(bits >> np.uint64(52)).astype(int)])
        y += sin * (steady - quantiles[((bits >> np.uint64(40)) & np.uint64(4095)).astype(int)])
        columns, rows = (x * scale).astype(int).tolist(), (y * scale).astype(int).tolist()
        for v in range(count):
            draw.line((columns[v - 1], rows[v - 1], columns[v], rows[v]), fill=grey)
    return np.asarray(picture)


def plain_atom(params: Params, canvas: int) -> np.ndarray:
    """Visual Atoms in Python floats: a loop over orbits and vertices, and Pillow draws every line. Its
    noise (ready-made here) is other noise; uint8 (canvas, canvas)."""
    count, scale = params.vertices, canvas / UNIT
    generator = np.random.default_rng(params.noise_key)
    theta = [2 * math.pi * v / count for v in range(count)]
    first, second = params.frequencies
    x = [params.radius * params.stretch[0] * math.cos(t) + params.centre[0] for t in theta]
    y = [params.radius * params.stretch[1] * math.sin(t) + params.centre[1] for t in theta]
    picture = Image.new("L", (canvas, canvas))
    draw = ImageDraw.Draw(picture)
    for _ in range(params.orbits):
        noise = generator.choice(perlin_quantiles(), (2, count)).tolist()
        for v, t in enumerate(theta):
            wave = 0.5 * math.sin(first * t) + 0.5 * math.sin(second * t)
            x[v] += math.cos(t) * (params.noise * (1 - noise[0][v]) + params.spacing + wave)
            y[v] += math.sin(t) * (params.noise * (1 - noise[1][v]) + params.spacing + wave)
        grey = int(generator.integers(256))
        for v in range(count):
            draw.line((x[v - 1] * scale, y[v - 1] * scale, x[v] * scale, y[v] * scale), fill=grey)
    return np.asarray(picture)
