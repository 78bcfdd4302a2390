"""One optimizer step: accumulation is the big batch, and a step that diverges changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_runs import forget_accelerate

from ARR_COC.attending import Budget
from ARR_COC.processing import Processor
from ARR_COC.Training import subject, tasks, trainee
from ARR_COC.Training.collate import Batch, collate
from ARR_COC.Training.feed import micro_batches
from ARR_COC.Training.lesson import Lesson, Phase, shows_parts
from ARR_COC.Training.settings import resolve
from ARR_COC.Training.trainee import Diverged, Micro, Trainee

PHASES: tuple[Phase, ...] = ("reader", "selector")


def by_plain_descent(phase: Phase, accumulate: int, signal: str = "attention") -> Trainee:
    """Return a trainee whose weights move by exactly minus the gradient."""
    settings = resolve(None, {}, [f"accumulate={accumulate}", "mixed_precision=no"]).settings
    forget_accelerate()
    accelerator = trainee.accelerator(settings)
    torch.manual_seed(0)
    arr = subject.build(settings, "no").arr
    lesson = Lesson(arr, phase, budget=Budget(0.25), where="before", signal=signal)
    descent = torch.optim.SGD(lesson.learning(), lr=1.0)
    wrapped, optimizer = accelerator.prepare(lesson, descent)
    return Trainee(accelerator, lesson, wrapped, optimizer)


def batch(first: int, last: int) -> Batch:
    source = tasks.source("frames", "train", 0, 4)
    processor = Processor.tiny(tasks.words(), 512)
    return collate([source.example(index) for index in range(first, last)], processor)


def moved(phase: Phase, pieces: list[Batch]) -> tuple[float, list[torch.Tensor]]:
    """Return the loss of one step and the change of each weight that learns."""
    trained = by_plain_descent(phase, len(pieces))
    before = [weight.detach().clone() for weight in trained.lesson.learning()]
    micros = [Micro(number, piece) for number, piece in enumerate(pieces)]
    loss = trained.step(micros, rate=1.0, clip=1e9)
    after = [weight.detach() for weight in trained.lesson.learning()]
    return loss, [new - old for new, old in zip(after, before, strict=True)]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("parts", [(2, 2, 2), (1, 5)])
def test_accumulated_micro_batches_are_one_big_batch(phase: Phase, parts: tuple[int, ...]) -> None:
    ends = [sum(parts[: number + 1]) for number in range(len(parts))]
    pieces = [batch(end - part, end) for part, end in zip(parts, ends, strict=True)]
    loss, change = moved(phase, pieces)
    whole_loss, whole_change = moved(phase, [batch(0, 6)])
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    assert max(float(part.abs().max()) for part in whole_change) > 1e-4
    for ours, theirs in zip(change, whole_change, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize("phase", PHASES)
def test_a_step_that_diverges_leaves_the_weights_as_they_were(phase: Phase) -> None:
    trained = by_plain_descent(phase, 1)
    good = batch(0, 2)
    bad = replace(good, pixel_values=good.pixel_values * float("nan"))
    before = [weight.detach().clone() for weight in trained.model.parameters()]
    with pytest.raises(Diverged, match="nan"):
        trained.step([Micro(0, bad)], rate=1.0, clip=1.0)
    pairs = zip(before, trained.model.parameters(), strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)


def test_each_phase_gives_a_gradient_to_all_its_weights_and_to_no_others() -> None:
    for phase in PHASES:
        trained = by_plain_descent(phase, 1)
        parts = torch.tensor(1.0)
        trained.model(batch(0, 1), parts, (0,)).backward()
        with_gradient = {
            name for name, weight in trained.lesson.named_parameters() if weight.grad is not None
        }
        inside = {"reader": "arr.qwen.", "selector": "arr.selector."}[phase]
        named = dict(trained.lesson.named_parameters())
        assert with_gradient == {name for name in named if name.startswith(inside)}


@pytest.mark.parametrize("signal", ["attention", "log_gate", "straight_through", "policy"])
def test_what_is_drawn_depends_on_the_numbers_given_and_on_nothing_else(signal: str) -> None:
    trained = by_plain_descent("selector", 1, signal)
    one = batch(0, 2)
    parts, losses = torch.tensor(8.0), []
    for draw in ((1, 2, 0), (1, 2, 0), (1, 3, 0)):
        torch.rand(7)  # the global generator is somewhere else each time
        losses.append(trained.model(one, parts, draw).item())
    assert losses[0] == losses[1]
    assert (losses[0] != losses[2]) == (signal == "policy")


def test_the_reader_is_shown_parts_on_every_second_step_after_the_first_third() -> None:
    assert [step for step in range(12) if shows_parts(step, 12)] == [5, 7, 9, 11]
    trained = by_plain_descent("reader", 1)
    parts = torch.tensor(8.0)
    whole = trained.model(batch(0, 2), parts, (0, 0, 0)).item()
    shown = [trained.model(batch(0, 2), parts, (0, 0, n), True).item() for n in (0, 0, 1)]
    assert shown[0] == shown[1] != shown[2]
    assert whole not in shown


def test_processes_share_out_the_micro_batches_of_a_step() -> None:
    alone = list(micro_batches(5, accumulate=6, process=0, processes=1))
    shared = [list(micro_batches(5, accumulate=2, process=p, processes=3)) for p in range(3)]
    assert alone == sorted(number for part in shared for number in part) == list(range(30, 36))


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_the_learning_rate_rises_then_falls_to_nothing(shape: str) -> None:
    rates = [trainee.schedule(step, steps=100, warmup=0.1, shape=shape) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert trainee.schedule(5, steps=1, warmup=0.0, shape=shape) == 0.0
