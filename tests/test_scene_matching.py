"""Outlines of scenes' objects, match again in renders."""

import numpy as np
import pytest

from synth.families import scene_matching, scenes
from synth.families.scene_matching import LIMIT, VEIL, Evidence, Match, Outline, Start
from synth.families.scene_world import KINDS
from synth.families.scenes import Params, SceneObject
from synth.kernels import matching

BLUE, WHITE = (45, 85, 220), (245, 245, 245)
DETAILS = {"star": 6, "wave": 32 * 4 + 7, "fractal": 5}


def drawn(kind: str, size: int, filling: str = "flat") -> tuple[Match, np.ndarray]:
    """Returns an object of a kind, and its picture on white."""
    detail = DETAILS.get(kind, 0)
    thing = SceneObject(
        kind, "blue", BLUE, "small", 0.16, (0.46, 0.53), 0.02, filling, "", BLUE, 7, detail, ""
    )
    picture = scenes.render(Params((thing,), 0, "white", WHITE, "flat", 0), size)
    return Match(Outline(kind, detail), 0.46, 0.53, 0.16, 0.02, 0.0), picture.pixels.astype(np.float32)


def evidence(picture: np.ndarray) -> Evidence:
    """Returns what a picture of a blue object on white shows."""
    colours = np.array([BLUE, WHITE], np.float32)
    rests = ((picture - colours[:, None, None]) ** 2).sum(-1)
    ground = np.broadcast_to(colours[1], picture.shape).copy()
    return Evidence(picture, np.stack([colours[0]] * 2), ground, rests)


@pytest.mark.parametrize("kind", KINDS)
def test_outlines_are_found_again(kind: str) -> None:
    truth, picture = drawn(kind, 64)
    match = scene_matching.match(truth.outline, Start(0.463, 0.527, 0.157, 0.015), 5, evidence(picture))
    assert match.misfit < 0.12 * LIMIT * (picture != 245).all(-1).sum()
    assert np.hypot(match.x - truth.x, match.y - truth.y) < 0.01 and abs(match.radius - truth.radius) < 0.006
    covered = scene_matching.coverage(truth, 64)
    assert np.abs(255 * covered[..., None] * (np.array(BLUE) - WHITE) / 255 + WHITE - picture).max() < 1.5


@pytest.mark.parametrize("kind", ["arrow", "ring", "fractal"])
def test_boxes_are_those_of_the_coverage(kind: str) -> None:
    for turn in (-0.05, 0.0, 0.05):
        truth = replace_turn(drawn(kind, 64)[0], turn)
        left, top, right, bottom = scene_matching.box(truth.outline, turn)
        shown = scene_matching.coverage(truth, 128) > 0
        rows, columns = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        middle = np.array([truth.x, truth.y] * 2)
        assert np.abs(box - 128 * (middle + truth.radius * np.array([left, top, right, bottom]))).max() <= 1.6


def replace_turn(match: Match, turn: float) -> Match:
    return match._replace(turn=turn)


@pytest.mark.parametrize("kind", ["star", "fractal"])
def test_outlines_are_searched_as_by_their_twin(kind: str) -> None:
    truth, picture = drawn(kind, 24)
    seen = evidence(picture)
    seen.rests[:, :, :3] = -1
    seen.rests[0, 9:12] = np.minimum(seen.rests[0], seen.rests[1] + VEIL)[9:12]
    match = scene_matching.match(truth.outline, Start(0.48, 0.5, 0.15), 3, seen)
    twin = searched(truth.outline, Start(0.48, 0.5, 0.15), 3, seen)
    assert np.allclose(match[1:], twin[1:], rtol=1e-5)


def searched(outline: Outline, start: Start, rounds: int, seen: Evidence) -> Match:
    """The search by plain steps: each parameter up and down, each round by half as much."""
    best = misfit(Match(outline, *start, 0.0), seen)
    for number in range(rounds):
        for _ in range(2):
            before = best.misfit
            for name in ("x", "y", "radius", "turn"):
                for sign in (-1, 1):
                    step = 0.06 * best.radius if name == "radius" else 0.02
                    trial = best._replace(**{name: getattr(best, name) + sign * step / 2**number})
                    if not (0.095 <= trial.radius <= 0.31 and abs(trial.turn) <= 0.06):
                        continue
                    trial = misfit(trial, seen)
                    if trial.misfit < best.misfit:
                        best = trial
                        break
            if best.misfit > 0.95 * before:
                break
    return best


def misfit(match: Match, seen: Evidence) -> Match:
    """The misfit of whole arrays."""
    size = len(seen.picture)
    alpha = scene_matching.coverage(match, size)
    covered, bare = seen.rests
    rest = np.where(alpha > 0.5, covered, bare).astype(float)
    squares = []
    for end in (0.0, 0.5, 1.0):
        front = seen.ends[0] + end * (seen.ends[1] - seen.ends[0])
        mixed = alpha[..., None] * front + (1 - alpha[..., None]) * seen.ground
        squares.append(((seen.picture - mixed) ** 2).sum(-1))
    mixed_rest = np.minimum(np.min(squares, 0), LIMIT)
    mixed_rest = np.where(covered <= bare + 1.0001 * VEIL, np.minimum(mixed_rest, bare), mixed_rest)
    rest = np.where((alpha > 0.004) & (alpha < 0.996), mixed_rest, rest)
    return match._replace(misfit=float(np.minimum(rest, LIMIT)[bare >= 0].sum()))


def test_a_search_stays_within_the_sizes_of_scenes() -> None:
    _, picture = drawn("disc", 24)
    match = scene_matching.match(Outline("disc"), Start(0.46, 0.53, 0.096), 5, evidence(picture * 0 + 245))
    assert matching.LIMIT == LIMIT and match.radius >= 0.095
