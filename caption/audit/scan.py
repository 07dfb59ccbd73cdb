"""One pass over caption tables: counts over all rows, and the rows of the sample.

Axes: N rows, S rows of the sample, D dimensions of the embedding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from caption.audit import measures
from caption.audit.measures import Cosines, Spread
from caption.audit.wording import WordTally
from caption.table import ROWS_AT_ONCE, VECTORS, CaptionSet, vectors
from synth.errors import UserError

IMAGE, PSEUDO, TEXT = "image", "pseudo", "text"
PAIRS = ((IMAGE, PSEUDO), (IMAGE, TEXT), (PSEUDO, TEXT))

_UNIT = 0.01  # tolerance of a stored vector's length


@dataclass(frozen=True)
class Sampled:
    """The rows of the sample, in the order of the set."""

    keys: list[str]
    indices: np.ndarray  # int64 (S,)
    image: np.ndarray  # float32 (S, D)
    pseudo: np.ndarray  # float32 (S, D)
    text: np.ndarray  # float32 (rows with a caption, D), of their last captions; no rows if none are stored
    with_text: np.ndarray  # bool (S,)
    captions: list[list[str]]


def slices(tables: CaptionSet) -> Iterator[tuple[int, pa.Table]]:
    """Yields the number of the first row and the rows of each slice of all tables."""
    text_columns = ["text_embedding"] if tables.identity["text_embeddings"] else []
    columns = ["key", *VECTORS, "caption", *text_columns]
    for part in tables.parts:
        table = tables.read(part, columns)
        for start in range(0, table.num_rows, ROWS_AT_ONCE):
            yield part.first + start, table.slice(start, ROWS_AT_ONCE)


class Pass:
    """The running counts and the sample of one pass over the rows."""

    def __init__(self, tables: CaptionSet, chosen: np.ndarray) -> None:
        self.url, self.dimensions, self.chosen = tables.storage.url, tables.dimensions, chosen
        kinds = (IMAGE, PSEUDO, TEXT) if tables.identity["text_embeddings"] else (IMAGE, PSEUDO)
        self.moments = {kind: Spread(self.dimensions) for kind in kinds}
        self.cosines = {pair: Cosines() for pair in PAIRS if set(pair) <= set(kinds)}
        self.tally = WordTally()
        self._kept: list[tuple[Any, ...]] = []

    def add(self, first: int, rows: pa.Table) -> None:
        """Counts rows; `first` is the number of the first."""
        # Captions.
        lists = rows["caption"].combine_chunks()
        captions, counts = lists.to_pylist(), np.diff(lists.offsets.to_numpy())
        self.tally.add(c for row in captions for c in row)

        # Means and covariances.
        image, pseudo = (self._sound(rows, vectors(rows[name], self.dimensions)) for name in VECTORS)
        units = {IMAGE: image, PSEUDO: pseudo}
        if TEXT in self.moments:
            flat = pa.chunked_array([rows["text_embedding"].combine_chunks().flatten()])
            units[TEXT] = self._sound(rows, vectors(flat, self.dimensions))
        for kind, vectors_of_kind in units.items():
            if len(vectors_of_kind):
                self.moments[kind].add(vectors_of_kind)

        # Cosines. A row counts once for each of its texts.
        for (a, b), histogram in self.cosines.items():
            repeated = np.repeat(units[a], counts, axis=0) if b == TEXT else units[a]
            histogram.add(measures.cosines(repeated, units[b]))

        # Rows of the sample, each with the embedding of its last caption.
        start, stop = np.searchsorted(self.chosen, [first, first + rows.num_rows])
        here = self.chosen[start:stop] - first
        last = np.cumsum(counts)[here] - 1
        has = counts[here] > 0 if TEXT in units else np.zeros(len(here), bool)
        text = units[TEXT][last[has]] if TEXT in units else image[:0]
        keys, texts = rows["key"].take(here).to_pylist(), [captions[i] for i in here]
        self._kept.append((keys, here + first, image[here], pseudo[here], text, has, texts))

    def sampled(self) -> Sampled:
        """Returns the rows of the sample."""
        keys, indices, image, pseudo, text, with_text, captions = zip(*self._kept, strict=True)
        return Sampled(
            keys=[k for some in keys for k in some],
            indices=np.concatenate(indices),
            image=np.concatenate(image),
            pseudo=np.concatenate(pseudo),
            text=np.concatenate(text),
            with_text=np.concatenate(with_text),
            captions=[c for some in captions for c in some],
        )

    def _sound(self, rows: pa.Table, stored: np.ndarray) -> np.ndarray:
        """Returns float16 vectors as float32 of unit length.

        Raises UserError if one does not have unit length."""
        floats = stored.astype(np.float32)
        lengths = np.linalg.norm(floats, axis=1, keepdims=True)

        # Lengths of float16 vectors differ from 1 a little; damaged vectors differ more, or are NaN.
        if not (np.abs(lengths - 1) < _UNIT).all():
            span = f"{rows['key'][0]} to {rows['key'][-1]}"
            raise UserError(
                f"a vector in the rows {span} of {self.url} is not of unit length;"
                f" remove {self.url} and run `python -m caption captions` again"
            )
        return floats / lengths
