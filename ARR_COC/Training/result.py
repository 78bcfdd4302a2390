"""What a run ends with."""

from __future__ import annotations

from dataclasses import dataclass

RESULT_FILE = "result.json"


@dataclass(frozen=True, slots=True)
class Result:
    """What result.json holds. Losses are means over answer tokens; shares are in 0..1.

    loss is that of the last step that trained the reader; eval_loss and accuracy are those at
    `budget`, which is 1 where no selector was trained; accuracies has the accuracy by budget.
    chance, best_constant and query_blind are null where the data do not tell them. seconds are
    those of this process, not of what it went on from. checkpoint is the last one, best the one
    that did best in examinations; both, and resumed_from, are relative to the run's folder or
    whole addresses.
    """

    steps: int
    loss: float | None
    eval_loss: float
    accuracy: float
    budget: float
    accuracies: dict[str, float]
    chance: float | None
    best_constant: float | None
    query_blind: float | None
    train_examples: int
    eval_examples: int
    seconds: float
    checkpoint: str
    best: str
    resumed_from: str | None
    seed: int
