"""Evaluation: the interval, and what the figures are set beside."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ARR_COC.Training import batches, evaluate, scenes, tokens
from ARR_COC.Training.evaluate import Evaluation


class Oracle(torch.nn.Module):
    """Knows the answer to every prompt of the test scenes, and nothing else."""

    def __init__(self, scene_count: int) -> None:
        super().__init__()
        batch = batches.make(scenes.load("test"), 0, range(scene_count), 9)
        self.answers = batch.answer_ids
        self.given = 0

    def forward(self, _pixels: object, _grid: object, prompts: torch.Tensor) -> SimpleNamespace:
        assert (
            tokens.VOCABULARY[int(prompts[0, -1])] in tokens.COLOURS
        )  # nothing after the question
        logits = torch.zeros(*prompts.shape, len(tokens.VOCABULARY))
        wanted = self.answers[self.given : self.given + len(prompts)]
        self.given += len(prompts)
        logits[torch.arange(len(prompts)), -1, wanted] = 50.0
        return SimpleNamespace(logits=logits)


def test_a_reader_that_is_always_right_scores_all_points() -> None:
    found = evaluate.evaluate(Oracle(23), 23, torch.device("cpu"))  # type: ignore[arg-type]
    assert found.examples == 23 * 9
    assert found.accuracy == 1.0
    assert found.loss == pytest.approx(0.0, abs=1e-6)
    assert 0.1 <= found.best_constant < 0.25
    assert found.best_constant < found.query_blind < 0.4


def test_the_interval_is_wilsons() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81/263 and 0/20, method 3.
    assert evaluate.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert evaluate.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_the_summary_claims_no_more_than_the_interval_allows() -> None:
    good = Evaluation(examples=1000, correct=950, loss=0.1, best_constant=0.11, query_blind=0.28)
    assert "beats chance by 85.0 points" in good.summary()[0]
    assert "best constant answer 11.0%" in good.summary()[1]
    assert "does not beat chance" in replace(good, correct=110).summary()[0]
