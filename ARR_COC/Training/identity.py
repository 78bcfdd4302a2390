"""What a checkpoint and the run that goes on from it must share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ARR_COC.Training.checkpoint import Checkpoint
from ARR_COC.Training.settings import Settings, SettingsError

_SHARED = (
    "seed",
    "questions",
    "data",
    "data_image",
    "data_question",
    "data_answer",
    "data_split",
    "data_revision",
    "min_pixels",
    "max_pixels",
    "model_revision",
    "train",
    "lora_rank",
    "lora_alpha",
    "selector_width",
    "balance",
)


def identity(settings: Settings, processes: int) -> dict[str, Any]:
    """Return data and model of a run, as JSON gives them back."""
    values = settings.as_dict()
    return {
        **{key: values[key] for key in _SHARED},
        "images_per_step": settings.batch * settings.accumulate * processes,
        "model": settings.model_shape() if settings.random_model else settings.model,
        "reader_steps": settings.reader_steps,
    }


def refuse_another_run(
    resumed: Checkpoint, where: str, ours: Mapping[str, Any], settings: Settings
) -> None:
    """Raise SettingsError unless a run of this identity may go on from the checkpoint.

    A run may be made longer: the reader as long as it is the reader that learns.
    """
    for key, value in ours.items():
        theirs = resumed.identity.get(key)
        if key == "reader_steps" and resumed.phase == "reader" and resumed.step <= value:
            continue
        if theirs != value:
            raise SettingsError(
                f"{where} was made with {key} = {theirs}, "
                f"and this run says {value}: use the same value, or another ARR_RUN_DIR"
            )
