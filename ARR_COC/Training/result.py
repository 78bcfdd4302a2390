"""What a run ends with."""

from __future__ import annotations

from dataclasses import dataclass

RESULT_FILE = "result.json"


@dataclass(frozen=True, slots=True)
class Result:
    """What result.json holds. Losses are means over answers; shares are in 0..1.

    loss is that of the last step; seconds are those of this process, not of what it went on from;
    checkpoint and resumed_from are relative to the run folder.
    """

    steps: int
    loss: float | None
    eval_loss: float
    accuracy: float
    chance: float
    best_constant: float
    query_blind: float
    train_examples: int
    eval_examples: int
    seconds: float
    checkpoint: str
    resumed_from: str | None
    seed: int
