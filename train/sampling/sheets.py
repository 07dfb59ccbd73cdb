"""Sheets of attention maps and edits: the pictures of `train attention` and `train edit`.

Axes: R resolution.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from train.runs import Run
from train.sampling import draw, grid, learned, maps
from train.sampling.editing import Edited, Editor, Plan, changed
from train.sampling.given import Given

_COLUMNS = 8

Json = dict[str, object]


def attention(
    out: Path,
    run: Run,
    text: str,
    *,
    seed: int,
    options: Mapping[str, str],
    images_seen: int | None,
    learned_words: Sequence[str] = (),
    device: str,
) -> Json:
    """Writes a sheet with picture 0 of a text and the maps of its words. Returns the command's row.

    `learned_words` are folders of `invert`. Raises UserError if the run's model has no attention to words."""
    seen = maps.attention(
        run,
        text,
        seed=seed,
        options=options,
        images_seen=images_seen,
        learned_words=learned_words,
        device=device,
    )
    tiles = [(text, seen.pixels)]
    tiles += [(word.text, maps.shown(plane)) for word, plane in zip(seen.words, seen.maps, strict=True)]
    _save(out, tiles)
    return {"out": str(out), "words": len(seen.words)}


def edit(
    out: Path,
    run: Run,
    prompts: tuple[str, str],
    plan: Plan,
    *,
    seed: int,
    picture: str | None,
    options: Mapping[str, str],
    images_seen: int | None,
    learned_words: Sequence[str] = (),
    device: str,
) -> Json:
    """Writes a sheet with a picture, its edit, their difference, and the maps of changed words.

    The picture is picture 0 of the first prompt, or that of a file. `learned_words` are folders of `invert`.
    Returns the command's row. Raises UserError if the prompts do not align, or the picture does not fit."""
    # Edit.
    source, edit = prompts
    maps.require_attention(run, options)
    model = learned.added(run.load(run.checkpoint(images_seen), device), learned_words)
    editor = Editor(run, model, options, device)
    editor.aligned(source, edit, plan)
    if picture is None:
        edited = editor.edited([source], [edit], plan, noise=editor.noise([0], seed))
    else:
        whole = Given(picture).whole(editor.model.config.model.resolution, device)
        edited = editor.edited([source], [edit], plan, path=editor.inverted(whole[None], [source]))

    # Sheet.
    before, after = (draw.levels(pictures)[0] for pictures in (edited.source, edited.edit))
    difference = np.abs(before.astype(int) - after).astype(np.uint8)
    tiles = [(source, before), (edit, after), ("difference", difference)]
    _save(out, tiles + _changed_words(edited, plan, before.shape[0]))
    return {
        "out": str(out),
        "kind": edited.alignments[0].kind,
        "mean_difference": round(float(difference.mean()), 2),
    }


def _changed_words(edited: Edited, plan: Plan, side: int) -> list[tuple[str, np.ndarray]]:
    """Returns the maps of the words that an edit changes, in the source and in the edit."""
    pair, planes = edited.alignments[0], edited.maps.whole(side)
    tiles = []
    for words, numbers, tokens in zip((pair.source, pair.edit), changed(pair, plan), planes, strict=True):
        chosen = [words[number] for number in numbers]
        shown = map(maps.shown, maps.of_words(tokens, chosen))
        tiles += [(word.text, plane) for word, plane in zip(chosen, shown, strict=True)]
    return tiles


def _save(out: Path, tiles: list[tuple[str, np.ndarray]]) -> None:
    captions, pictures = zip(*tiles, strict=True)
    grid.save(out, grid.captioned(np.stack(pictures), captions, columns=_COLUMNS))
