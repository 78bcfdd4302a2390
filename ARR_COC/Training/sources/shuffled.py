"""A finite source without end: every epoch all its examples, each epoch in another order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ARR_COC.Training.examples import Example, Source


class Shuffled:
    """Endless stream over a finite source; a pure function of (source, seed, index).

    Raises ValueError for a source that is empty or without end itself.
    """

    size: None = None

    def __init__(self, source: Source, seed: int) -> None:
        if not source.size:
            raise ValueError("only a source with a known number of examples can be shuffled")
        self._source = source
        self._seed = seed
        self._count = source.size

    def example(self, index: int) -> Example:
        """Return example number `index` of the stream; index // count is its epoch."""
        if index < 0:
            raise IndexError(index)
        epoch, place = divmod(index, self._count)
        return self._source.example(int(_order(self._count, self._seed, epoch)[place]))


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
