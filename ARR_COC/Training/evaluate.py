"""How well questions are answered from few blocks: python -m ARR_COC.Training.evaluate CHECKPOINT

Exit codes: 0 done, 2 for a checkpoint, data or an option that cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ARR_COC.asking import answering, chosen_device, quiet
from ARR_COC.attending import Budget
from ARR_COC.images import BadInput
from ARR_COC.options import Parser, add_selection, checkpoint, ratio, whole
from ARR_COC.processing import Processor
from ARR_COC.realizing import ArrCoc, Where
from ARR_COC.Training import tasks
from ARR_COC.Training.collate import IGNORED, Batch
from ARR_COC.Training.data import open_data
from ARR_COC.Training.examination import AtBudget, Examination, wilson
from ARR_COC.Training.examples import Source
from ARR_COC.Training.portions import portions

__all__ = ["Examination", "examine", "main", "wilson"]


def examine(
    arr: ArrCoc,
    processor: Processor,
    source: Source,
    examples: int,
    budgets: Sequence[float],
    device: torch.device | str,
    where: Where = "before",
    gestalt: float = 0.0,
) -> Examination:
    """Answer all questions of the first `examples` images (fewer if there are) at each budget.

    An answer is right if, given the question and the right answer so far, the most probable token
    of the whole vocabulary is the right one at every position and the end token after the last.
    That is the exact match of greedy decoding: the first token at which greedy decoding could
    differ still follows on what is right, so it writes the answer if and only if none differs.

    Budget 1 is the stock model, which sees all blocks; a model without a selector is examined at
    1 only. The model is on `device` already, and comes back in the mode in which it was given.
    Raises ValueError for budgets or a gestalt share that cannot be, and for no examples; BadInput
    for an example that cannot be used.
    """
    asked = {Budget(float(ratio), gestalt=gestalt).ratio for ratio in budgets}
    if not asked:
        raise ValueError("give at least one budget, 1 for example")
    if arr.selector is None:
        asked = {1.0}
    count = examples if source.size is None else min(examples, source.size)
    if count < 1:
        raise ValueError(f"an examination needs at least one example, not {examples}")
    order = sorted(asked, reverse=True)
    found = {ratio: AtBudget(ratio, 0, 0.0, 0, 0) for ratio in order}
    answers: Counter[str] = Counter()
    blocks = evidence = 0
    with answering(arr):
        for batch in portions(source, count, processor):
            sizes = _block_counts(batch)
            answers.update(batch.answers)
            blocks += int(sizes.sum())
            evidence += sum(map(len, batch.evidence))
            shown = batch.to(device)
            for ratio in order:
                budget = Budget(ratio, gestalt=gestalt)
                found[ratio] = _added(found[ratio], arr, shown, sizes, budget, where)
    questions = answers.total()
    constant, most = answers.most_common(1)[0]
    return Examination(
        images=count,
        questions=questions,
        blocks=blocks,
        evidence=evidence,
        constant=constant,
        best_constant=most / questions,
        where=where,
        gestalt=gestalt,
        found=tuple(replace(found[ratio], loss=found[ratio].loss / questions) for ratio in order),
    )


def _added(
    before: AtBudget, arr: ArrCoc, batch: Batch, sizes: Tensor, budget: Budget, where: Where
) -> AtBudget:
    """Return what was found before and in this batch; loss is still a sum. sizes: [rows]."""
    kept = None
    if budget.ratio < 1:
        kept = arr.select(
            batch.input_ids,
            batch.query_mask,
            batch.pixel_values,
            batch.image_grid_thw,
            batch.images,
            budget,
        )
    left = sizes if kept is None else torch.tensor([len(blocks) for blocks in kept])
    logits = arr(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        images=batch.images,
        kept=kept,
        where=where,
        logits_to_keep=_before_answers(batch, sizes - left),
    ).logits
    rows, columns = (batch.labels != IGNORED).nonzero(as_tuple=True)
    wanted = batch.labels[rows, columns]
    losses = functional.cross_entropy(logits.float(), wanted, reduction="none")
    wrong = torch.zeros(len(sizes), device=rows.device)
    wrong.index_add_(0, rows, (logits.argmax(-1) != wanted).float())
    seen = batch.evidence
    if kept is not None:
        seen = tuple(
            places[torch.isin(places, blocks.cpu())]
            for places, blocks in zip(batch.evidence, kept, strict=True)
        )
    return AtBudget(
        budget.ratio,
        before.correct + int((wrong == 0).sum()),
        before.loss + float(losses.double().sum()),
        before.kept + int(left.sum()),
        before.evidence_kept + sum(map(len, seen)),
    )


def _before_answers(batch: Batch, dropped: Tensor) -> Tensor:
    """Return bool [rows, L'], True where a token of the answer is told, in the shortened rows.

    Only there are logits made: a whole row of them over a real vocabulary would not fit in memory.
    dropped [rows]: how many image tokens each row has lost; rows are packed to the left.
    """
    ends = batch.attention_mask.sum(1) - dropped.to(batch.attention_mask.device)
    lengths = (batch.labels != IGNORED).sum(1)
    place = torch.arange(int(ends.max()), device=ends.device)
    first = (ends - lengths - 1)[:, None]
    return (place >= first) & (place < (ends - 1)[:, None])


def _block_counts(batch: Batch) -> Tensor:
    """Return the number of blocks of each row's image, [rows]; a block is 2 x 2 patches."""
    return (batch.image_grid_thw.prod(-1) // 4)[batch.images]


def main(arguments: Sequence[str]) -> int:
    """Carry out the command and return its exit code."""
    from ARR_COC.loading import LoadError

    options = _parser().parse_args(arguments)
    try:
        return _carry_out(options)
    except (BadInput, LoadError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2


def _carry_out(options: argparse.Namespace) -> int:
    from ARR_COC.loading import load
    from ARR_COC.Training import report

    if options.out is not None:
        _make(options.out)
    quiet()
    device = chosen_device(options.device)
    source = open_data(options.data, options.option)
    arr, processor = load(options.checkpoint, device)
    budgets = sorted({1.0, *options.budget}, reverse=True)
    found = examine(
        arr, processor, source, options.examples, budgets, device, options.where, options.gestalt
    )
    print(json.dumps(found.as_dict(), indent=2) if options.json else "\n".join(found.summary()))
    if options.out is not None:
        settings = {"checkpoint": Path(options.checkpoint).name, "data": options.data}
        for file in report.write(options.out, arr, processor, source, found, settings, []):
            print(f"wrote {file}", file=sys.stderr)
    return 0


def _make(folder: Path) -> None:
    """Make the folder of the report before the work that goes into it is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"--out {folder}: cannot be written ({error.strerror}); name another folder"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m ARR_COC.Training.evaluate",
        description="Examine a checkpoint: exact answers from all image tokens and from few.",
    )
    parser.add_argument(
        "checkpoint", type=checkpoint, help="a checkpoint's folder, a run's folder, or an address"
    )
    parser.add_argument(
        "--data",
        default="frames",
        metavar="NAME|FOLDER|hub:NAME",
        help=f"a task ({', '.join(tasks.NAMES)}), a folder, or hub:NAME (default: frames)",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of a folder or data set, such as answer=multiple_choice_answer",
    )
    parser.add_argument("--examples", type=whole, default=200, help="images (default: 200)")
    parser.add_argument(
        "--budget",
        type=ratio,
        nargs="+",
        default=[0.5, 0.25, 0.125],
        metavar="SHARE",
        help="shares of the tokens to keep (default: 0.5 0.25 0.125); all of them is always shown",
    )
    add_selection(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write a report there")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
