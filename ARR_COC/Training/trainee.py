"""What is trained in a phase, and one optimizer step of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import GradientAccumulationPlugin  # type: ignore[import-untyped]
from torch.distributed.tensor import DTensor

from ARR_COC.attending import Budget
from ARR_COC.Training.collate import Batch
from ARR_COC.Training.lesson import Lesson, Phase
from ARR_COC.Training.settings import Settings
from ARR_COC.Training.subject import Subject


class Diverged(Exception):
    """The loss or its gradient is no longer a number; nothing of that step was kept."""


@dataclass(frozen=True, slots=True)
class Micro:
    """A micro-batch, and its number in its step over all processes."""

    number: int
    batch: Batch


@dataclass(slots=True)
class Trainee:
    """What changes in a phase; `model` is the lesson as Accelerate wraps it."""

    accelerator: Accelerator
    lesson: Lesson
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def step(
        self,
        micro_batches: Sequence[Micro],
        rate: float,
        clip: float,
        draw: tuple[int, ...] = (0,),
        partial: bool = False,
    ) -> float:
        """Take one optimizer step over all micro-batches of all processes; return its mean loss.

        The loss is normalised by the number of its parts in the whole step, so k micro-batches of b
        give the gradient of one batch of k*b. draw: what the step's randomness comes from, beside
        the number of the micro-batch. Raises Diverged before any weight is changed.
        """
        accelerator = self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        count = float(sum(self.lesson.parts(micro.batch) for micro in micro_batches))
        parts = accelerator.reduce(torch.tensor(count, device=accelerator.device), "sum")
        # Accelerate divides by the accumulation steps, and processes average: undo both.
        scale = len(micro_batches) * accelerator.num_processes
        total = torch.zeros((), device=accelerator.device)
        for micro in micro_batches:
            with accelerator.accumulate(self.model):
                batch = micro.batch.to(accelerator.device)
                loss = self.model(batch, parts, (*draw, micro.number), partial)
                accelerator.backward(loss * scale)
                total += loss.detach()
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(self.model.parameters(), clip)
                    mean = float(accelerator.reduce(total, "sum"))
                    if not (math.isfinite(mean) and math.isfinite(float(norm))):
                        raise Diverged(f"loss {mean:g}, gradient norm {float(norm):g}")
                self.optimizer.step()
                self.optimizer.zero_grad()
        return mean

    @property
    def sharded(self) -> bool:
        """Return whether the weights are spread over the processes."""
        return any(isinstance(weight, DTensor) for weight in self.model.parameters())

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Return all weights of the model, on the CPU of the main process, if they are sharded.

        All processes must call it.
        """
        if not self.sharded:
            return None
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            get_model_state_dict,
        )

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        gathered: dict[str, Any] = get_model_state_dict(self.model, options=options)
        return {name.removeprefix("arr."): value for name, value in gathered.items()}

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimizer's state, whole also where it is sharded; all must call it."""
        if not self.sharded:
            return self.optimizer.state_dict()
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            get_optimizer_state_dict,
        )

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        whole: dict[str, Any] = get_optimizer_state_dict(
            self.model, _inner(self.optimizer), options=options
        )
        return whole

    def load_optimizer_state(self, saved: dict[str, Any]) -> None:
        """Put the moments back; rate, betas and weight decay stay: they are settings."""
        if not self.sharded:
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({**saved, "param_groups": groups})
            return
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            set_optimizer_state_dict,
        )

        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(self.model, _inner(self.optimizer), saved, options=options)


def accelerator(settings: Settings) -> Accelerator:
    """Return the Accelerator of a run. Accelerate's environment does not override the settings."""
    return Accelerator(
        mixed_precision=precision(settings.mixed_precision),
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=settings.accumulate, sync_with_dataloader=False
        ),
    )


def prepare(
    settings: Settings, accelerator: Accelerator, subject: Subject, phase: Phase
) -> Trainee:
    """Return the trainee of a phase, with an optimizer that has seen nothing yet."""
    accelerator.free_memory()
    lesson = Lesson(
        subject.arr,
        phase,
        budget=Budget(settings.budget, gestalt=settings.gestalt),
        where="after" if settings.where == "after" else "before",
        signal=settings.signal,
        trained=subject.trained,
    )
    adam = torch.optim.AdamW(
        lesson.learning(),
        lr=settings.learning_rate,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,  # a sixth off the time of a step of a model this small
    )
    lesson.train()
    wrapped, optimizer = accelerator.prepare(lesson, adam)
    return Trainee(accelerator, lesson, wrapped, optimizer)


def precision(choice: str) -> str:
    """Return Accelerate's name of the precision: "auto" is bf16 on a GPU that has it, else "no"."""
    if choice != "auto":
        return choice
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


def schedule(step: int, steps: int, warmup: float, shape: str = "cosine") -> float:
    """Return the share of the peak learning rate at step 0..steps-1 of a phase: up, then to zero.

    shape: "cosine" or "linear". A function of the step alone, so that a resumed run has no
    scheduler to put back, and a setting that was changed in between takes effect.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    passed = min(1.0, (step - rising) / max(1, steps - rising))
    return 1 - passed if shape == "linear" else 0.5 * (1 + math.cos(math.pi * passed))


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
