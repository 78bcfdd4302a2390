"""Real handwritten digits from scikit-learn's load_digits, in two parts without a common one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

Part = Literal["train", "test"]

TEST_SHARE = 0.2
_SPLIT_SEED = 20  # fixed: the test digits are the same for every seed of a run


@dataclass(frozen=True, slots=True)
class Digits:
    """One part of load_digits: images [n, 8, 8] in 0..1, labels [n], ids [n] in the whole."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]


@cache
def load(part: Part) -> Digits:
    """Return the digits of one part. The parts share no digit instance; each class is split 80/20.

    The writers are not told apart in the data set, so a writer may be in both parts.
    """
    data = load_digits()
    rng = np.random.default_rng(_SPLIT_SEED)
    chosen: list[npt.NDArray[np.int64]] = []
    for label in range(10):
        ids = rng.permutation(np.flatnonzero(data.target == label))
        cut = round(len(ids) * TEST_SHARE)
        chosen.append(ids[:cut] if part == "test" else ids[cut:])
    kept = np.sort(np.concatenate(chosen))
    images = (data.images[kept] / 16.0).astype(np.float32)
    return Digits(images, data.target[kept].astype(np.int64), kept.astype(np.int64))
