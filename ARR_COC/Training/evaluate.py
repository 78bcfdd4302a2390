"""How well a reader answers questions about digits it has never seen, and what that is worth."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch.nn import functional

from ARR_COC.Training import batches, scenes
from ARR_COC.Training.model import Reader

QUESTIONS = scenes.CELLS  # every frame of a scene is asked for
CHANCE = 1 / 10
_SCENES_AT_ONCE = 20
_STREAM_SEED = 0  # fixed: runs with different seeds are examined on the same scenes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Exact-match accuracy and mean loss of the answers, beside what needs no reading at all.

    best_constant: always the most frequent answer. query_blind: the most frequent digit of the
    scene, told from the true digits: the most that a reader can reach on average if it sees
    everything and ignores the question. All are shares in 0..1.
    """

    examples: int
    correct: int
    loss: float
    best_constant: float
    query_blind: float

    @property
    def accuracy(self) -> float:
        """Return the share of questions answered correctly."""
        return self.correct / self.examples

    def summary(self) -> list[str]:
        """Return the lines that end a run."""
        low, high = wilson(self.correct, self.examples)
        gain = 100 * (self.accuracy - CHANCE)
        verdict = f"beats chance by {gain:.1f} points" if low > CHANCE else "does not beat chance"
        return [
            f"accuracy {self.accuracy:.1%} on {self.examples} questions about unseen digits "
            f"(95 % interval {low:.1%} to {high:.1%}); chance {CHANCE:.1%}: {verdict}",
            f"without reading: best constant answer {self.best_constant:.1%}, "
            f"most frequent digit of each scene {self.query_blind:.1%}",
        ]


@torch.no_grad()
def evaluate(reader: Reader, scene_count: int, device: torch.device) -> Evaluation:
    """Examine the reader on the first `scene_count` test scenes.

    The prompt ends before the answer; the answer is the argmax over the whole vocabulary.
    """
    digits = scenes.load("test")
    correct, loss, blind = 0, 0.0, 0
    answers: Counter[int] = Counter()
    reader.eval()
    for first in range(0, scene_count, _SCENES_AT_ONCE):
        indices = range(first, min(first + _SCENES_AT_ONCE, scene_count))
        made = [scenes.make(digits, _STREAM_SEED, index, QUESTIONS) for index in indices]
        batch = batches.collate(made).to(device)
        logits = reader(batch.pixel_values, batch.image_grid_thw, batch.prompt_ids).logits[:, -1]
        correct += int((logits.argmax(-1) == batch.answer_ids).sum())
        loss += float(functional.cross_entropy(logits.float(), batch.answer_ids, reduction="sum"))
        for scene in made:
            counts = Counter(scene.digits.tolist())
            blind += max(counts.values())
            answers.update(counts)
    reader.train()
    examples = scene_count * QUESTIONS
    return Evaluation(
        examples=examples,
        correct=correct,
        loss=loss / examples,
        best_constant=max(answers.values()) / examples,
        query_blind=blind / examples,
    )


def wilson(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson score interval of a share, 95 % by default; it takes trials as independent.

    Wilson, Journal of the American Statistical Association 22 (1927).
    """
    share = correct / total
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    centre = share + z * z / (2 * total)
    scale = 1 + z * z / total
    return (centre - spread) / scale, (centre + spread) / scale
