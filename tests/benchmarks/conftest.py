"""What the benchmarks' modules need before they are imported."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("default")  # what other packages deprecate while being imported
    import torch
    import transformers  # noqa: F401

torch.set_num_threads(1)  # more threads make models this small slower
