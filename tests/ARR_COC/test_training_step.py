"""One optimizer step: accumulation is the big batch, and a step that diverges changes nothing."""

from __future__ import annotations

import pytest
import torch

from ARR_COC.Training import batches, model, scenes, trainee
from ARR_COC.Training.batches import Batch
from ARR_COC.Training.settings import resolve
from ARR_COC.Training.trainee import Diverged, Trainee


def by_plain_descent(accumulate: int) -> Trainee:
    """Return a trainee whose weights move by exactly minus the gradient."""
    settings = resolve(None, {}, [f"accumulate={accumulate}", "mixed_precision=no"]).settings
    accelerator = trainee.accelerator(settings)
    torch.manual_seed(0)
    reader = model.build(settings.model_shape())
    descent = torch.optim.SGD(reader.parameters(), lr=1.0)
    wrapped, optimizer = accelerator.prepare(reader, descent)
    return Trainee(accelerator, wrapped, optimizer)


def moved(micro_batches: list[Batch]) -> tuple[float, list[torch.Tensor]]:
    """Return the loss of one step and the change of each weight."""
    subject = by_plain_descent(len(micro_batches))
    before = [weight.detach().clone() for weight in subject.model.parameters()]
    loss = subject.step(micro_batches, rate=1.0, clip=1e9)
    after = [weight.detach() for weight in subject.model.parameters()]
    return loss, [new - old for new, old in zip(after, before, strict=True)]


@pytest.mark.parametrize("parts", [(2, 2, 2), (1, 5)])
def test_accumulated_micro_batches_are_one_big_batch(parts: tuple[int, ...]) -> None:
    digits = scenes.load("train")
    ends = [sum(parts[: number + 1]) for number in range(len(parts))]
    pieces = [
        batches.make(digits, 0, range(end - part, end), 4)
        for part, end in zip(parts, ends, strict=True)
    ]
    loss, change = moved(pieces)
    whole_loss, whole_change = moved([batches.make(digits, 0, range(6), 4)])
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    assert max(float(part.abs().max()) for part in whole_change) > 1e-3
    for ours, theirs in zip(change, whole_change, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-3)


def test_a_step_that_diverges_leaves_the_weights_as_they_were() -> None:
    subject = by_plain_descent(1)
    good = batches.make(scenes.load("train"), 0, range(2), 2)
    bad = Batch(
        good.pixel_values * float("nan"), *[good.image_grid_thw, good.prompt_ids, good.answer_ids]
    )
    before = [weight.detach().clone() for weight in subject.model.parameters()]
    with pytest.raises(Diverged, match="nan"):
        subject.step([bad], rate=1.0, clip=1.0)
    assert all(
        (old == new).all() for old, new in zip(before, subject.model.parameters(), strict=True)
    )


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    rates = [trainee.schedule(step, steps=100, warmup=0.1) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.0)
    assert trainee.schedule(5, steps=1, warmup=0.0) == 0.0
