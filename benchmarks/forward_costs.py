"""One forward pass taken apart: what each stage of it takes, in seconds, in FLOPs and in memory."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing import get_context
from typing import Any, Protocol

import bench
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(bench.TOP))
from ARR_COC.attending import Budget, attend
from ARR_COC.encoding import encode, keep
from ARR_COC.prompt import shorten
from ARR_COC.realizing import ArrCoc, Where
from ARR_COC.texture import textures


class Asked(Protocol):
    """Images and questions about them, as ArrCoc takes them (its words are explained there)."""

    @property
    def input_ids(self) -> Tensor: ...
    @property
    def attention_mask(self) -> Tensor: ...
    @property
    def pixel_values(self) -> Tensor: ...
    @property
    def image_grid_thw(self) -> Tensor: ...
    @property
    def images(self) -> Tensor | None: ...
    @property
    def query_mask(self) -> Tensor: ...


@torch.no_grad()
def stages(
    arr: ArrCoc,
    batch: Asked,
    reading: Callable[[], float],
    kept: Sequence[Tensor] | None = None,
    budget: Budget | None = None,
    where: Where = "before",
) -> tuple[dict[str, float], int, int]:
    """Return what `reading`, a clock or a count, goes up by in each stage of one forward pass.

    Stages: select, tower, language, and tap: one DeepStack tap alone, which is also in the tower.
    Then the tokens that the tower gives and those of the language model's rows. Of the vocabulary
    only the last position's logits are computed. kept, budget and where as in ArrCoc.forward.
    """
    about = (batch.input_ids, batch.attention_mask, batch.image_grid_thw, batch.images)
    marks = [reading()]
    if kept is None and budget is not None:
        ids, pixels, grids = batch.input_ids, batch.pixel_values, batch.image_grid_thw
        kept = arr.select(ids, batch.query_mask, pixels, grids, batch.images, budget)
    marks.append(reading())
    before = kept if where == "before" else None
    seen = encode(arr.qwen, batch.pixel_values, batch.image_grid_thw, batch.images, before)
    marks.append(reading())
    shown = seen if kept is None or before is not None else keep(seen, kept)
    prompt = shorten(arr.qwen, *about, kept)
    arr.read(prompt, shown, use_cache=True, logits_to_keep=1)
    marks.append(reading())
    tokens = sum(len(run) for run in seen.main)
    tower = arr.qwen.model.visual
    patches = (tokens * tower.spatial_merge_unit, tower.config.hidden_size)
    for merger in tower.deepstack_merger_list[:1]:
        merger(torch.zeros(patches, dtype=tower.dtype, device=tower.device))
    marks.append(reading())
    names = ("select", "tower", "language", "tap")
    taken = [after - mark for mark, after in pairwise(marks)]
    return dict(zip(names, taken, strict=True)), tokens, prompt.input_ids.shape[1]


def flops(
    arr: ArrCoc,
    batch: Asked,
    kept: Sequence[Tensor] | None = None,
    where: Where = "before",
) -> int:
    """Return the FLOPs a row of the batch takes: vision tower and language model, forward only.

    Padding of the language model's rows is in it; selection is not, and of the vocabulary only one
    position's logits. An image that several rows show goes through the tower once if the tower sees
    all of it, else once for each.
    """
    with counting() as counter:
        taken, _, _ = stages(arr, batch, counter.get_total_flops, kept, None, where)
    return round((taken["tower"] + taken["language"]) / len(batch.input_ids))


def counting() -> FlopCounterMode:
    """Return a counter that knows the CPU's attention too, which torch's own leaves out."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={fused: _attention_flops})


def selector_parts(arr: ArrCoc, batch: Asked, budget: Budget) -> dict[str, float]:
    """Return the seconds of texture, scoring (the selector less its texture) and attend.

    batch: one image and one question.
    """
    _, height, width = batch.image_grid_thw[0].tolist()
    one = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        query = arr.qwen.get_input_embeddings()(batch.input_ids).float()
        marks = [time.process_time()]
        textures(batch.pixel_values, batch.image_grid_thw)
        marks.append(time.process_time())
        selector: Any = arr.selector
        args = (batch.pixel_values, batch.image_grid_thw, one, one, query, batch.query_mask)
        relevance = selector(*args)
        marks.append(time.process_time())
        attend(relevance[0].scores, (height // 2, width // 2), budget)
        marks.append(time.process_time())
    texture, selecting, attending = (b - a for a, b in pairwise(marks))
    return {"texture": texture, "scoring": max(selecting - texture, 0.0), "attend": attending}


def faster_dtype(width: int) -> tuple[torch.dtype, dict[str, float]]:
    """Return bfloat16 unless float32 is faster here, and the milliseconds of a layer of each."""
    times = {}
    for dtype in (torch.bfloat16, torch.float32):
        layer, given = nn.Linear(width, 4 * width, dtype=dtype), torch.rand(512, width).to(dtype)
        taken = []
        with torch.no_grad():
            for _ in range(4):
                start = time.process_time()
                layer(given)
                taken.append((time.process_time() - start) * 1000)
        times[str(dtype).removeprefix("torch.")] = min(taken)
    slower = times["bfloat16"] > times["float32"]
    return torch.float32 if slower else torch.bfloat16, times


def peak(first: Callable[[], object], work: Callable[[], object]) -> int:
    """Return the bytes by which `work` raises the peak of a forked process.

    A fork begins with what is held here as its peak, not with the peak that was here. `first` runs
    before, untold: something small that loads all that the work loads.
    """
    context = get_context("fork")
    result, sender = context.Pipe(duplex=False)

    def child() -> None:
        first()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        sender.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

    process = context.Process(target=child)
    process.start()
    sender.close()
    try:
        kibibytes: int = result.recv()
    except EOFError:
        raise RuntimeError("a process whose memory was measured ended early") from None
    finally:
        process.join()
    return kibibytes * 1024


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int],
                     *_: object, **__: object) -> int:  # fmt: skip
    """Return those of q k^T and of its product with v, causal or not; shapes [n, heads, L, d]."""
    return 2 * math.prod(query[:3]) * key[2] * (query[3] + value[3])
