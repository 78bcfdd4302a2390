"""Ask about an image: python -m ARR_COC "QUESTION" IMAGE --checkpoint FOLDER

Exit codes: 0 done, 2 for an image, question, checkpoint or option that cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ARR_COC.options import Parser, add_selection, checkpoint, ratio

if TYPE_CHECKING:
    from ARR_COC.asking import Reply

_MEANS = {
    "particularise": ("whole regions", "single blocks"),
    "explore": ("what the question asks for", "what stands out anyway"),
    "diversify": ("the best place", "several places apart"),
}
"""What each tension leans to at 0 and at 1."""


def main(arguments: Sequence[str]) -> int:
    """Carry out the command and return its exit code; torch is imported when all looks right."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if fault := _fault(options):
        return _fail(fault)
    from ARR_COC.images import BadInput, read
    from ARR_COC.loading import LoadError

    try:
        return _answer(options, read(options.image))
    except (BadInput, LoadError) as error:
        return _fail(str(error))


def _answer(options: argparse.Namespace, picture: Any) -> int:
    from ARR_COC.asking import ask, chosen_device, quiet
    from ARR_COC.attending import Budget
    from ARR_COC.loading import load

    quiet()
    arr, processor = load(options.checkpoint, chosen_device(options.device))
    budget = Budget(1.0 if options.all else options.budget, gestalt=options.gestalt)
    reply = ask(arr, processor, options.question, picture, budget, options.where)
    if options.heat:
        try:
            _draw(reply, options)
        except OSError as error:
            return _fail(f"--heat {options.heat}: cannot be written ({error.strerror or error})")
    tensions = _tensions(reply)
    if options.json:
        text = json.dumps(_as_dict(reply, tensions, options), indent=2, ensure_ascii=False)
    else:
        text = "\n".join(_lines(reply, tensions, options))
    print(text)  # noqa: T201
    return 0


def _lines(reply: Reply, tensions: Mapping[str, float], options: argparse.Namespace) -> list[str]:
    """Return what is printed for a person."""
    lines = [reply.answer or "(nothing: the model ended its answer at once)"]
    kept, blocks = len(reply.kept), reply.blocks
    if kept == blocks:
        lines.append(f"all {blocks} tokens kept")
    else:
        place = f"{options.where} the vision tower"
        lines.append(
            f"{kept} of {blocks} tokens kept ({100 * kept / blocks:.1f} %), chosen {place}"
        )
    for name, value in tensions.items():
        low, high = _MEANS[name]
        more, less = (high, low) if value > 0.5 else (low, high)
        lines.append(f"{name} {value:.2f}: {more} more than {less}")
    if options.heat:
        lines.append(f"wrote {options.heat}")
    return lines


def _as_dict(
    reply: Reply, tensions: Mapping[str, float], options: argparse.Namespace
) -> dict[str, Any]:
    return {
        "question": options.question,
        "image": str(options.image),
        "answer": reply.answer,
        "grid": list(reply.grid),
        "tokens": reply.blocks,
        "kept": list(reply.kept),
        "kept_share": len(reply.kept) / reply.blocks,
        "where": options.where,
        "tensions": dict(tensions),
        "heat": str(options.heat) if options.heat else None,
    }


def _tensions(reply: Reply) -> dict[str, float]:
    """Return the tensions by name; none without a selector, or if its balance is not learned."""
    from ARR_COC.balancing import TENSIONS

    if reply.relevance is None or reply.relevance.tensions is None:
        return {}
    return dict(zip(TENSIONS, map(float, reply.relevance.tensions), strict=True))


def _draw(reply: Reply, options: argparse.Namespace) -> None:
    from ARR_COC.picturing import sheet

    assert reply.relevance is not None
    scores = reply.relevance.scores.float().cpu().numpy().reshape(reply.grid)
    caption = [f"question: {options.question}", f"answer: {reply.answer}"]
    sheet(reply.pixels, reply.kept, scores, caption).save(options.heat, format="PNG")


def _fault(options: argparse.Namespace) -> str | None:
    """Return what is wrong with the arguments, as far as can be seen without torch."""
    if not options.question.strip():
        return "the question is empty: write at least one word"
    if not options.image.is_file():
        return f"{options.image}: there is no such image"
    if options.heat and not options.heat.parent.is_dir():
        return f"--heat {options.heat}: there is no folder {options.heat.parent}; make it first"
    return None


def _fail(message: str) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)  # noqa: T201
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m ARR_COC",
        description="Answer a question about an image from the few tokens that it needs.",
    )
    parser.add_argument("question", help="in quotes")
    parser.add_argument("image", type=Path, help="PNG, JPEG, WEBP, GIF, BMP or TIFF")
    parser.add_argument(
        "--checkpoint",
        type=checkpoint,
        required=True,
        metavar="FOLDER",
        help="a checkpoint or a run",
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--budget",
        type=ratio,
        default=0.125,
        metavar="SHARE",
        help="share of the image's tokens to keep (default: 0.125)",
    )
    amount.add_argument("--all", action="store_true", help="keep all tokens: the stock model")
    add_selection(parser)
    parser.add_argument(
        "--heat", type=Path, metavar="FILE.png", help="draw the kept blocks and the scores there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
