"""The model that a run trains: built or loaded, and of its weights what a checkpoint must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from ARR_COC.images import BadInput
from ARR_COC.loading import ADAPTER, WEIGHTS, LoadError, opened
from ARR_COC.processing import Processor
from ARR_COC.realizing import SELECTOR, ArrCoc
from ARR_COC.selector import Selector, SelectorConfig
from ARR_COC.Training import tasks
from ARR_COC.Training.settings import Settings, SettingsError

_ADAPTED = r".*language_model\..*self_attn\.(q|k|v|o)_proj"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Subject:
    """Model and processor; `base` names where the reader's own weights are, if not in checkpoints.

    trained: the names of those of the reader's weights that reader steps train; None for all.
    """

    arr: ArrCoc
    processor: Processor
    base: dict[str, str | None] | None
    trained: frozenset[str] | None

    def write(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write into the folder what training changes, and what reading it back needs.

        weights: those of `arr`, where they are not in it but spread over processes.
        """
        qwen, selector = self.arr.qwen, _selector(self.arr)
        if weights is not None:
            selector = Selector(selector.config)
            selector.load_state_dict(_below(weights, "selector."))
        state = qwen.state_dict() if weights is None else _below(weights, "qwen.")
        qwen.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        selector.save_pretrained(folder / SELECTOR)
        if self.base is None:
            if qwen.config.tie_word_embeddings:
                state.pop("lm_head.weight", None)
            qwen.generation_config.save_pretrained(folder)
            _save(state, folder / WEIGHTS)
        elif self.trained is not None and self.trained:
            _save_adapter(qwen, state, folder / ADAPTER)
        for file in folder.rglob("*.safetensors"):  # written for the owner only
            file.chmod((folder / "config.json").stat().st_mode)

    def read(self, folder: Path) -> None:
        """Put back what `write` wrote. Raises ValueError in words if it does not fit."""
        qwen = self.arr.qwen
        try:
            _selector(self.arr).load_state_dict(
                Selector.from_pretrained(folder / SELECTOR).state_dict()
            )
            if self.base is None:
                found = qwen.load_state_dict(load_file(folder / WEIGHTS), strict=False)
                tied = {"lm_head.weight"} if qwen.config.tie_word_embeddings else set()
                if found.unexpected_keys or set(found.missing_keys) - tied:
                    raise ValueError(f"{WEIGHTS} holds other weights than this model has")
            elif self.trained:
                _read_adapter(qwen, folder / ADAPTER)
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"its weights do not fit this model ({error})") from error


def build(settings: Settings, precision: str) -> Subject:
    """Return model and processor of the settings; random weights come from torch's generator.

    precision: Accelerate's name; reader weights that are not trained are kept in it. Raises
    SettingsError.
    """
    base: dict[str, str | None] | None = None
    if settings.random_model:
        arr, processor = _random(settings)
    else:
        kept = torch.bfloat16 if settings.train != "full" and precision == "bf16" else torch.float32
        arr, processor, found = _loaded(settings, kept)
        base = None if settings.train == "full" else found
    embedding: Any = arr.qwen.get_input_embeddings()
    config = SelectorConfig(embedding.weight.shape[1], settings.selector_width, settings.balance)
    if arr.selector is None:
        arr.selector = Selector(config)
    elif _selector(arr).config != config:
        theirs = _selector(arr).config
        raise SettingsError(
            f"model={settings.model}: its selector has selector_width={theirs.width} and "
            f"balance={theirs.balance}: use the same values"
        )
    trained = None if settings.train == "full" else frozenset[str]()
    if settings.train == "lora":
        trained = _adapt(arr.qwen, settings)
    if settings.gradient_checkpointing:
        arr.qwen.activation_checkpointing_enable({"use_reentrant": False})
    return Subject(arr, processor, base, trained)


def _random(settings: Settings) -> tuple[ArrCoc, Processor]:
    shape = settings.model_shape()
    processor = Processor.tiny(
        tasks.words(),
        int(shape["text_config"].get("max_position_embeddings", 512)),
        min_pixels=settings.min_pixels,
        max_pixels=settings.max_pixels,
    )
    special = processor.special
    options: dict[str, Any] = {"attn_implementation": settings.attention}
    config = Qwen3VLConfig(
        text_config={**shape["text_config"], "vocab_size": len(processor.tokenizer)},
        vision_config=dict(shape["vision_config"]),
        image_token_id=special.image,
        video_token_id=special.video,
        vision_start_token_id=special.vision_start,
        vision_end_token_id=special.vision_end,
        **options,
    )
    qwen = Qwen3VLForConditionalGeneration(config)
    qwen.generation_config.eos_token_id = special.eos
    qwen.generation_config.pad_token_id = special.pad
    return ArrCoc(qwen), processor


def _loaded(
    settings: Settings, dtype: torch.dtype
) -> tuple[ArrCoc, Processor, dict[str, str | None]]:
    """Return model and processor, and the name by which the model's weights are found again."""
    name, revision = settings.model, settings.model_revision or None
    if "://" not in name and Path(name).exists():
        name = str(Path(name).resolve())
    try:
        arr, _ = opened(name, revision, dtype=dtype, attention=settings.attention)
        processor = Processor.from_pretrained(
            name,
            revision=revision,
            min_pixels=settings.min_pixels,
            max_pixels=settings.max_pixels,
        )
    except (LoadError, BadInput) as error:
        raise SettingsError(f"model={settings.model}: {error}") from error
    commit = getattr(arr.qwen.config, "_commit_hash", None)
    return arr, processor, {"name": name, "revision": commit or revision}


def _adapt(qwen: Qwen3VLForConditionalGeneration, settings: Settings) -> frozenset[str]:
    """Put LoRA adapters on the language model's attention; return the names of their weights."""
    from peft import LoraConfig, inject_adapter_in_model

    before = {name for name, _ in qwen.named_parameters()}
    alpha: Any = settings.lora_alpha  # peft divides it by the rank, whole or not
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=alpha,
        target_modules=_ADAPTED,
        base_model_name_or_path=settings.model,
    )
    inject_adapter_in_model(config, qwen)
    # The projections themselves get another name by this, but no gradient.
    adapters = {name for name, _ in qwen.named_parameters() if "lora_" in name} - before
    for name, weight in qwen.named_parameters():
        if name in adapters:
            weight.data = weight.data.float()
    return frozenset(adapters)


def _save_adapter(
    qwen: Qwen3VLForConditionalGeneration, state: Mapping[str, Tensor], folder: Path
) -> None:
    from peft import get_peft_model_state_dict

    model: Any = qwen
    model.peft_config["default"].save_pretrained(str(folder))
    weights = get_peft_model_state_dict(qwen, state_dict=dict(state))
    _save(
        {_PEFT_PREFIX + name: value for name, value in weights.items()}, folder / _ADAPTER_WEIGHTS
    )


def _read_adapter(qwen: Qwen3VLForConditionalGeneration, folder: Path) -> None:
    from peft import set_peft_model_state_dict

    saved = load_file(folder / _ADAPTER_WEIGHTS)
    weights = {name.removeprefix(_PEFT_PREFIX): value for name, value in saved.items()}
    found: Any = set_peft_model_state_dict(qwen, weights)
    if found.unexpected_keys:
        raise ValueError(f"{ADAPTER} holds other weights than this model has")


def _save(weights: Mapping[str, Tensor], file: Path) -> None:
    whole = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    save_file(whole, str(file), metadata={"format": "pt"})


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def _selector(arr: ArrCoc) -> Selector:
    assert isinstance(arr.selector, Selector)
    return arr.selector
