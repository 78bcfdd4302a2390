"""What is trained, and one optimizer step of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin

from ARR_COC.Training import checkpoint, model
from ARR_COC.Training.batches import Batch
from ARR_COC.Training.checkpoint import Checkpoint
from ARR_COC.Training.model import Reader
from ARR_COC.Training.settings import Settings


class Diverged(Exception):
    """The loss or its gradient is no longer a number; nothing of that step was kept."""


@dataclass(slots=True)
class Trainee:
    """What changes while training; `model` is the reader as Accelerate wraps it."""

    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def reader(self) -> Reader:
        """Return the reader itself."""
        unwrapped: Reader = self.accelerator.unwrap_model(self.model)
        return unwrapped

    def step(self, micro_batches: Sequence[Batch], rate: float, clip: float) -> float:
        """Take one optimizer step over all micro-batches of all processes; return its mean loss.

        The loss is normalised by the number of answers in the whole step, so k micro-batches of b
        give the gradient of one batch of k*b. Raises Diverged before any weight is changed.
        """
        accelerator = self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        count = torch.tensor(sum(len(b.answer_ids) for b in micro_batches), dtype=torch.float32)
        answers = accelerator.reduce(count.to(accelerator.device), "sum")
        # Accelerate divides by the accumulation steps, and processes average: undo both.
        scale = len(micro_batches) * accelerator.num_processes
        total = torch.zeros((), device=accelerator.device)
        for batch in micro_batches:
            with accelerator.accumulate(self.model):
                loss = self._loss(batch.to(accelerator.device), answers)
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

    def _loss(self, batch: Batch, answers: torch.Tensor) -> torch.Tensor:
        """Return the summed loss of this batch's answers / all answers of the step."""
        input_ids, labels = batch.with_answers()
        loss: torch.Tensor = self.model(
            batch.pixel_values, batch.image_grid_thw, input_ids, labels, answers
        ).loss
        return loss


def accelerator(settings: Settings) -> Accelerator:
    """Return the Accelerator of a run. Accelerate's environment does not override the settings."""
    return Accelerator(
        mixed_precision=precision(settings.mixed_precision),
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=settings.accumulate, sync_with_dataloader=False
        ),
    )


def prepare(settings: Settings, accelerator: Accelerator, resumed: Checkpoint | None) -> Trainee:
    """Return model and optimizer, new or as the checkpoint left them."""
    reader = model.build(settings.model_shape())
    if resumed:
        checkpoint.load_weights(resumed, reader)
    adam = torch.optim.AdamW(
        reader.parameters(),
        lr=settings.learning_rate,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,  # a sixth off the time of a step of a model this small
    )
    wrapped, optimizer = accelerator.prepare(reader, adam)
    if resumed:
        checkpoint.load_progress(resumed, optimizer)
    return Trainee(accelerator, wrapped, optimizer)


def precision(choice: str) -> str:
    """Return Accelerate's name of the precision: "auto" is bf16 on a GPU that has it, else "no"."""
    if choice != "auto":
        return choice
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate at step 0..steps-1: linear up, then cosine.

    A function of the step alone, so that a resumed run has no scheduler to put back, and a setting
    that was changed in between takes effect.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))
