"""The model card: what the model is, how good it was found to be, how to use it, and its limits."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ARR_COC.processing import Processor
from ARR_COC.realizing import TRANSFORMERS, ArrCoc
from ARR_COC.Training.examination import Examination, percent
from ARR_COC.Training.examples import Source


def card(
    arr: ArrCoc,
    processor: Processor,
    source: Source,
    examination: Examination,
    settings: Mapping[str, Any],
    files: Sequence[Path],
) -> str:
    """Return the card as Markdown; files: what else is in the report, relative to it."""
    sections = [
        _header(settings),
        _what(arr, processor, settings),
        _results(examination, settings, files),
        _use(arr, source, examination),
        _limits(arr, examination),
        _settings(settings),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _header(settings: Mapping[str, Any]) -> str:
    """Return the metadata that the hub reads; the base only where it is a name of the hub."""
    lines = ["---", "pipeline_tag: image-text-to-text", "tags: [arr-coc, visual-token-selection]"]
    base = str(settings.get("model", ""))
    if base.count("/") == 1 and not base.startswith(("/", ".")) and not Path(base).exists():
        lines.append(f"base_model: {base}")
    return "\n".join([*lines, "---"])


def _what(arr: ArrCoc, processor: Processor, settings: Mapping[str, Any]) -> str:
    text: Any = arr.qwen.config.text_config
    vision: Any = arr.qwen.config.vision_config
    base = Path(str(settings["model"])).name if settings.get("model") else "a Qwen3-VL"
    lines = [
        "# ARR-COC",
        "",
        "A Qwen3-VL that answers a question about an image from the few image tokens that the "
        "question needs. A small selector reads the pixels and the question and chooses blocks of "
        "32 x 32 pixels, one token each; it needs nothing of the vision tower.",
        "",
        f"- base: {base}, {_parameters(arr.qwen)} parameters; language model "
        f"{text.num_hidden_layers} layers x {text.hidden_size}, vision tower {vision.depth} layers "
        f"x {vision.hidden_size}",
        f"- images: {processor.min_pixels:,} to {processor.max_pixels:,} pixels; at most "
        f"{processor.context:,} tokens a prompt",
    ]
    selector: Any = arr.selector
    if selector is None:
        return "\n".join([*lines, "- no selector: this is the reader alone, which sees all tokens"])
    blind = ", blind to the question" if selector.config.blind else ""
    lines.append(
        f"- selector: {_parameters(selector)} parameters, balance {selector.config.balance}{blind}"
    )
    return "\n".join(lines)


def _results(examination: Examination, settings: Mapping[str, Any], files: Sequence[Path]) -> str:
    data = f" of {settings['data']}" if settings.get("data") else ""
    gestalt = f", {percent(examination.gestalt)} of the kept ones spread evenly"
    gestalt = gestalt if examination.gestalt else ""
    lines = [
        "## Results",
        "",
        f"{examination.questions:,} questions about {examination.images:,} images{data}; an answer "
        "counts only if it is right to the last token. Intervals are Wilson's, 95 %. Tokens were "
        f"dropped {examination.where} the vision tower{gestalt}.",
        "",
        "| kept | share | exact answers | interval | evidence kept |",
        "|---|---|---|---|---|",
    ]
    for budget in examination.budgets:
        low, high = examination.interval_at(budget)
        recall = examination.evidence_recall_at(budget)
        cells = [
            examination.tokens_at(budget),
            percent(examination.kept_share_at(budget)),
            percent(examination.accuracy_at(budget)),
            f"{percent(low)} to {percent(high)}",
            "not known" if recall is None else percent(recall),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    constant = f'Always answering "{examination.constant}", the most frequent answer, gives'
    lines += ["", f"{constant} {percent(examination.best_constant)}."]
    plots = [file for file in files if file.suffix == ".png" and file.parent == Path()]
    kept = [file for file in files if file.parent != Path()]
    lines += [f"\n![accuracy against the share of tokens kept]({file})" for file in plots]
    if not plots:
        lines.append("\nThe plot is left out: matplotlib was not installed.")
    lines += [f"\n![kept blocks and scores of an image]({file.as_posix()})" for file in kept]
    return "\n".join(lines)


def _use(arr: ArrCoc, source: Source, examination: Examination) -> str:
    asked = shlex.quote(source.example(0).questions[0].text)
    smallest = examination.budgets[-1]
    budget = f" --budget {smallest:g}" if arr.selector is not None and smallest < 1 else " --all"
    return "\n".join(
        [
            "## Use",
            "",
            "```sh",
            f"python -m ARR_COC {asked} image.png --checkpoint FOLDER{budget}",
            "python -m ARR_COC.Training.evaluate FOLDER",
            "```",
            "",
            "```python",
            "from ARR_COC.loading import load",
            "",
            'arr, processor = load("FOLDER", "cpu")',
            "```",
        ]
    )


def _limits(arr: ArrCoc, examination: Examination) -> str:
    lines = [
        "## Limits",
        "",
        "- The figures hold for questions and images like those examined, and for no others.",
        "- Intervals take questions as independent; several questions about one image are less so.",
        "- Still images, one a question; no videos, no conversation.",
        f"- Works with transformers {TRANSFORMERS} only.",
    ]
    if arr.selector is not None:
        lines.append(
            "- What the selector drops, the model cannot see: questions about the whole image "
            "(counting, comparing) suffer first."
        )
    low, _ = examination.interval_at(examination.budgets[-1])
    if low <= examination.best_constant:
        lines.append("- At the smallest budget it is not above always giving the same answer.")
    return "\n".join(lines)


def _settings(settings: Mapping[str, Any]) -> str:
    """Return the settings as a table; of a path only its last part is shown."""
    if not settings:
        return ""
    rows = [f"| {name} | {_shown(value)} |" for name, value in settings.items()]
    return "\n".join(["## Settings", "", "| setting | value |", "|---|---|", *rows])


def _shown(value: Any) -> str:
    text = str(value)
    return Path(text).name if text.startswith(("/", "~")) else text.replace("|", "\\|")


def _parameters(module: Any) -> str:
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{count / 1e6:,.2f} million" if count >= 1e5 else f"{count:,}"
