"""A trained ARR-COC by the name of its checkpoint: a folder, a run's folder, or an address."""

from __future__ import annotations

import json
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from transformers import Qwen3VLForConditionalGeneration
from transformers.utils.hub import cached_file

from ARR_COC.images import BadInput
from ARR_COC.processing import Processor
from ARR_COC.realizing import SELECTOR, TRANSFORMERS, ArrCoc, check_transformers
from ARR_COC.selector import Selector

STATE, BEST, WEIGHTS, PROGRESS, ADAPTER = (
    "state.json",
    "best.json",
    "model.safetensors",
    "progress.pt",
    "adapter",
)
CHECKPOINTS = "checkpoints"
FORMAT = "arr-coc 1"


class LoadError(Exception):
    """A checkpoint that cannot be loaded; the message says why, in words."""


def load(
    name: str | Path,
    device: torch.device | str = "cpu",
    *,
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
) -> tuple[ArrCoc, Processor]:
    """Return the model of a checkpoint, ready to answer, and its processor.

    name: a checkpoint's folder; a run's folder or one of checkpoints, of which the best is taken,
    else the newest complete one; or the address of any of these that fsspec knows, like gs://...,
    or the name of a repository of the hub. A Qwen3-VL of these is one without a selector. Raises
    LoadError.
    """
    arr, processor = opened(name, None, dtype=dtype, attention=attention)
    return arr.eval().to(device), processor


def opened(
    name: str | Path, revision: str | None, *, dtype: torch.dtype, attention: str
) -> tuple[ArrCoc, Processor]:
    """Return the model of a checkpoint, or of a Qwen3-VL (then without a selector), on the CPU.

    Raises LoadError.
    """
    try:
        check_transformers()
    except ImportError as error:
        raise LoadError(str(error)) from error
    options = {"dtype": dtype, "attn_implementation": attention}
    with _folder(str(name), revision) as folder:
        if folder is None:
            return ArrCoc(_qwen(name, revision, options)), _processor(name, revision)
        state = complete(folder)
        if state.get("transformers") != TRANSFORMERS:
            raise LoadError(
                f"{name}: was written with transformers {state.get('transformers')}, and only "
                f"{TRANSFORMERS} is read"
            )
        base = state["base"]
        if base is None:
            qwen = _qwen(folder, None, options)
        else:
            qwen = opened(base["name"], base["revision"], dtype=dtype, attention=attention)[0].qwen
        if (folder / ADAPTER).is_dir():
            qwen = _adapted(qwen, folder / ADAPTER)
        try:
            selector = Selector.from_pretrained(folder / SELECTOR)
        except ValueError as error:
            raise LoadError(str(error)) from error
        return ArrCoc(qwen, selector), _processor(folder, None)


def complete(folder: Path) -> dict[str, Any]:
    """Return what state.json says of a checkpoint; LoadError unless all it lists is there.

    Optimizer and random state are left out: an uploaded checkpoint goes without.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        listed = {name: size for name, size in state["files"].items() if name != PROGRESS}
        if state["format"] != FORMAT:
            raise LoadError(f"{folder}: its format is {state['format']}, and only {FORMAT} is read")
        for name, size in listed.items():
            if (found := (folder / name).stat().st_size) != size:
                raise LoadError(
                    f"{folder}: is half written: {name} has {found} of {size} bytes; "
                    "take another checkpoint"
                )
    except FileNotFoundError as error:
        missing = Path(error.filename or STATE).name
        raise LoadError(
            f"{folder}: is half written: {missing} is missing; take another checkpoint"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(f"{folder}: its {STATE} cannot be read ({error})") from error
    return dict(state)


@contextmanager
def _folder(name: str, revision: str | None) -> Iterator[Path | None]:
    """Give the folder of the one checkpoint that `name` means; None if it is a plain Qwen3-VL.

    What is elsewhere is downloaded into a temporary folder, without optimizer and random state.
    """
    if "://" not in name and not Path(name).exists():
        yield _of_hub(name, revision)
        return
    try:
        system, root = url_to_fs(name)
        chosen = _chosen(system, root.rstrip("/"))
        if chosen is None or "://" not in name:
            yield None if chosen is None else Path(chosen)
            return
        with tempfile.TemporaryDirectory(prefix="arr-coc-") as folder:
            _download(system, chosen, Path(folder))
            yield Path(folder)
    except (LoadError, BadInput):
        raise
    except (ImportError, OSError, ValueError) as error:
        raise LoadError(f"{name}: cannot be read ({error})") from error


def _chosen(system: Any, root: str) -> str | None:
    """Return the checkpoint that is meant by `root`; None for a Qwen3-VL without a selector."""
    if system.exists(f"{root}/{STATE}"):
        return root
    for folder in (f"{root}/{CHECKPOINTS}", root):
        if system.exists(f"{folder}/{BEST}"):
            best = json.loads(system.cat_file(f"{folder}/{BEST}"))["checkpoint"]
            if system.exists(f"{folder}/{best}/{STATE}"):
                return f"{folder}/{best}"
        written = sorted(system.glob(f"{folder}/step-*/{STATE}"))
        if written:
            return str(written[-1]).rsplit("/", 1)[0]
    if any(system.exists(f"{root}/{part}") for part in (SELECTOR, ADAPTER, PROGRESS)):
        raise LoadError(f"{root}: is half written: {STATE} is missing; take another checkpoint")
    if system.exists(f"{root}/config.json") and "://" not in root:
        return None
    raise LoadError(f"{root}: is no checkpoint of ARR-COC and no run with one")


def _download(system: Any, chosen: str, folder: Path) -> None:
    state = json.loads(system.cat_file(f"{chosen}/{STATE}"))
    for file in (*state["files"], STATE):
        if file != PROGRESS:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            system.get_file(f"{chosen}/{file}", str(folder / file))


def _of_hub(name: str, revision: str | None) -> Path | None:
    """Return a local copy of a checkpoint on the hub; None if what is there is a Qwen3-VL."""
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise LoadError(f"{name}: there is no such folder")
    try:
        found = cached_file(
            name, STATE, revision=revision, _raise_exceptions_for_missing_entries=False
        )
        if found is None:
            return None
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision))
    except (OSError, ValueError) as error:
        raise LoadError(
            f"{name}: there is no such folder, and the hub gives nothing of that name ({error})"
        ) from error


def _qwen(
    name: str | Path, revision: str | None, options: dict[str, Any]
) -> Qwen3VLForConditionalGeneration:
    try:
        return Qwen3VLForConditionalGeneration.from_pretrained(
            name, revision=revision or "main", **options
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise LoadError(f"{name}: cannot be loaded as a Qwen3-VL ({error})") from error


def _adapted(
    qwen: Qwen3VLForConditionalGeneration, adapter: Path
) -> Qwen3VLForConditionalGeneration:
    """Return the reader with the LoRA adapter's weights added to its own."""
    from peft import PeftModel

    try:
        with warnings.catch_warnings():  # peft asks transformers by a name that is deprecated
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            merged: Any = PeftModel.from_pretrained(qwen, str(adapter)).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise LoadError(f"{adapter}: does not fit the model that it adapts ({error})") from error
    whole: Qwen3VLForConditionalGeneration = merged
    return whole


def _processor(name: str | Path, revision: str | None) -> Processor:
    try:
        return Processor.from_pretrained(name, revision=revision)
    except BadInput as error:
        raise LoadError(str(error)) from error
