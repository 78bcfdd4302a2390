"""What an examination found, its intervals, and the words in which a person reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AtBudget:
    """What was found at one budget: counts over all questions.

    loss: -log of the probability of the whole answer and its end token, in nats, mean over answers.
    kept: blocks kept, of all questions together; evidence_kept of the blocks that hold evidence.
    """

    budget: float
    correct: int
    loss: float
    kept: int
    evidence_kept: int


@dataclass(frozen=True, slots=True)
class Examination:
    """How well questions were answered exactly, at each budget from the largest to the smallest.

    images and questions: how many were examined; blocks: those of all questions' images together;
    evidence: how many of them hold evidence, 0 where the source knows none. best_constant: the
    share of `constant`, the most frequent answer, which is what no reading at all can reach.
    """

    images: int
    questions: int
    blocks: int
    evidence: int
    constant: str
    best_constant: float
    where: str
    gestalt: float
    found: tuple[AtBudget, ...]

    @property
    def budgets(self) -> tuple[float, ...]:
        """Return the budgets that were examined, from the largest to the smallest."""
        return tuple(at.budget for at in self.found)

    def at(self, budget: float) -> AtBudget:
        """Return what was found at a budget. Raises KeyError, naming those there are."""
        for at in self.found:
            if math.isclose(at.budget, budget):
                return at
        known = ", ".join(f"{one:g}" for one in self.budgets)
        raise KeyError(f"budget {budget:g} was not examined; there are {known}")

    def accuracy_at(self, budget: float) -> float:
        """Return the share of questions answered exactly, 0..1. Raises KeyError like `at`."""
        return self.at(budget).correct / self.questions

    def interval_at(self, budget: float) -> tuple[float, float]:
        """Return the 95 % Wilson interval of accuracy_at."""
        return wilson(self.at(budget).correct, self.questions)

    def kept_share_at(self, budget: float) -> float:
        """Return the share of blocks that was really kept, 0..1."""
        return self.at(budget).kept / self.blocks

    def evidence_recall_at(self, budget: float) -> float | None:
        """Return the share of blocks with evidence that was kept, None where none is known."""
        return self.at(budget).evidence_kept / self.evidence if self.evidence else None

    def tokens_at(self, budget: float) -> str:
        """Return from how many image tokens a question was answered, such as "2 of 16 tokens"."""
        kept, blocks = self.at(budget).kept / self.questions, self.blocks / self.questions
        words = "all" if kept == blocks else f"{_mean(kept)} of"
        average = "" if kept.is_integer() and blocks.is_integer() else " on average"
        return f"{words} {_mean(blocks)} tokens{average}"

    def summary(self) -> list[str]:
        """Return the lines that a person reads: one a budget, then what no reading would reach."""
        asked = f"{_counted(self.questions, 'question')} about {_counted(self.images, 'image')}"
        return [
            f"{asked}, an answer counts only if it is right to the last token",
            *(self._line(budget) for budget in self.budgets),
            f'always answering the most frequent answer ("{self.constant}") gives '
            f"{percent(self.best_constant)}",
        ]

    def _line(self, budget: float) -> str:
        low, high = self.interval_at(budget)
        tokens = self.tokens_at(budget)
        if self.kept_share_at(budget) < 1:
            tokens += f" ({percent(self.kept_share_at(budget))} of the image)"
        recall = self.evidence_recall_at(budget)
        seen = "" if recall is None or recall == 1 else f"; {percent(recall)} of the evidence kept"
        chance = "" if low > self.best_constant else "; not above the most frequent answer"
        return (
            f"accuracy {percent(self.accuracy_at(budget))} with {tokens}, 95 % interval "
            f"{percent(low)} to {percent(high)}{seen}{chance}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON; shares in 0..1, a loss that is not finite as None."""
        return {
            "images": self.images,
            "questions": self.questions,
            "where": self.where,
            "gestalt": self.gestalt,
            "constant": self.constant,
            "best_constant": self.best_constant,
            "budgets": [
                {
                    "budget": at.budget,
                    "accuracy": self.accuracy_at(at.budget),
                    "interval": list(self.interval_at(at.budget)),
                    "correct": at.correct,
                    "loss": at.loss if math.isfinite(at.loss) else None,
                    "kept_share": self.kept_share_at(at.budget),
                    "tokens": self.tokens_at(at.budget),
                    "evidence_recall": self.evidence_recall_at(at.budget),
                }
                for at in self.found
            ],
        }


def wilson(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson score interval of a share, 95 % by default; it takes trials as independent.

    Wilson, Journal of the American Statistical Association 22 (1927).
    """
    share = correct / total
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    centre = share + z * z / (2 * total)
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def percent(share: float) -> str:
    """Return a share in words, one decimal: 0.125 is "12.5 %"."""
    return f"{100 * share:.1f} %"


def _mean(number: float) -> str:
    return f"{number:,.0f}" if number.is_integer() else f"{number:,.1f}"


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
