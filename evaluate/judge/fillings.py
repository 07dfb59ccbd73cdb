"""Fillings of objects, by statistics of the pixels that they cover wholly.

Stripes and dots have two colour words. The wave that explains the pixels best gives their direction,
frequency and phase. A gradient is a plane, maybe with one kink, as its law darkens and lightens at different
rates. What varies otherwise is a texture.

Axes: P pixels, T directions, F frequencies.
"""

import numpy as np

from evaluate.judge.tones import PALETTE, View

_LEAST = 12  # pixels
_MIXED = 60.0  # levels of a pixel from both colours of a pattern: another object
_TURNS = 2 * np.pi * np.arange(32) / 64  # T
_FREQUENCIES = np.arange(1.8, 3.25, 0.1)  # F, waves in a radius
_TRIED = 6  # waves
_STRIPE, _DOT = 0.36, 0.105  # width of a stripe, and squared radius of a dot, in wavelengths
_FLAT = 1.0  # level, of the spread of a flat colour
_PLANE = 0.9  # share of the variance that a gradient's plane explains
_KINKS = (0.3, 0.5, 0.7, 0.85)  # quantiles

Place = tuple[float, float, float]  # centre and radius


def pattern(view: View, place: Place, words: tuple[int, int], inside: np.ndarray) -> tuple[str, float]:
    """Returns stripes or dots of two colour words, and their correlation with the pixels of a mask (S, S)."""
    first, second = words
    inside = inside & (np.minimum(view.far[..., first], view.far[..., second]) < _MIXED)
    if inside.sum() < _LEAST:
        return "", 0.0

    # Share of the second colour, and the strongest waves.
    way = PALETTE[second] - PALETTE[first]
    share = np.clip((view.picture[inside] - PALETTE[first]) @ way / (way @ way), 0.0, 1.0)
    share = share - share.mean()
    x, y, radius = place
    across, down = (view.columns[inside] - x) / radius, (view.rows[inside] - y) / radius
    along = np.cos(_TURNS)[:, None] * across + np.sin(_TURNS)[:, None] * down  # (T, P)
    waves = (share * np.exp(-2j * np.pi * _FREQUENCIES[:, None, None] * along)).sum(-1)  # (F, T)

    # Each wave as stripes, and as dots with its wave across.
    best = ("stripes", -1.0)
    for number in np.argsort(-np.abs(waves), axis=None)[:_TRIED]:
        f, t = divmod(int(number), len(_TURNS))
        u = (t + len(_TURNS) // 2) % len(_TURNS)
        one, other = (_FREQUENCIES[f] * along[k] + np.angle(waves[f, k]) / (2 * np.pi) for k in (t, u))
        p, q = (one + 0.5) % 1.0 - 0.5, (other + 0.5) % 1.0 - 0.5
        options = (("stripes", np.abs(p) < _STRIPE / 2), ("dots", p * p + q * q < _DOT))
        for name, drawn in options:
            likeness = _correlation(drawn.astype(float), share)
            if likeness > best[1]:
                best = (name, likeness)
    return best


def tone(view: View, place: Place, inside: np.ndarray) -> str:
    """Returns the filling of one colour word, or an empty string if the mask (S, S) has too few pixels."""
    if inside.sum() < _LEAST:
        return ""
    level = view.picture[inside].mean(1)
    variance = float(level.var())
    if variance < _FLAT**2:
        return "flat"

    # The plane of a gradient, with a kink.
    x, y, radius = place
    across, down = (view.columns[inside] - x) / radius, (view.rows[inside] - y) / radius
    plane = np.stack([np.ones_like(across), across, down], 1)
    slope = np.linalg.lstsq(plane, level, rcond=None)[0]
    along, rests = plane[:, 1:] @ slope[1:], [float((level - plane @ slope).var())]
    for quantile in _KINKS:
        kinked = np.column_stack([plane, np.maximum(along - np.quantile(along, quantile), 0.0)])
        fitted = kinked @ np.linalg.lstsq(kinked, level, rcond=None)[0]
        rests.append(float((level - fitted).var()))
    return "gradient" if 1 - min(rests) / variance > _PLANE else "texture"


def _correlation(drawn: np.ndarray, share: np.ndarray) -> float:
    drawn = drawn - drawn.mean()
    return float((drawn @ share) / np.sqrt(max(1e-9, float((drawn @ drawn) * (share @ share)))))
