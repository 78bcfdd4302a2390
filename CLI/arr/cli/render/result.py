"""How a run ended, for a person."""

from __future__ import annotations

import click

from arr.cli.render.text import duration
from arr.events import RunFinished

_COLOURS = {"succeeded": "green", "cancelled": "yellow"}


def finished(event: RunFinished) -> str:
    """Return the run's end: its result, the fault if it failed, where things are."""
    head = f"run {event.run}: {event.status} after {duration(event.seconds)}"
    lines = ["", click.style(head, fg=_COLOURS.get(event.status, "red"), bold=True)]
    if event.result is not None:
        lines += _result(event.result)
    elif event.status == "succeeded":
        lines.append("  it wrote no result.json, so its outcome is not known here")
    if event.fault:
        lines.append(f"  fault       {event.fault}".replace("\n", "\n              "))
    if event.status != "succeeded":
        lines.append(f"  exit code   {event.exit_code}")
    lines.append(f"  checkpoint  {_checkpoint(event)}")
    lines.append(f"  logs        {event.log}")
    return "\n".join(lines)


def _result(result: dict[str, object]) -> list[str]:
    lines = []
    if "steps" in result:
        lines.append(f"  steps       {result['steps']}")
    if "loss" in result:
        loss = _number(result["loss"])
        if "eval_loss" in result:
            loss += f" (on unseen data {_number(result['eval_loss'])})"
        lines.append(f"  loss        {loss}")
    accuracy = result.get("accuracy")
    if isinstance(accuracy, int | float):
        lines.append(f"  accuracy    {accuracy:.1%}{_compared(result)}")
    return lines


def _compared(result: dict[str, object]) -> str:
    """Return what the accuracy stands beside: all visual tokens, and what needs no image at all."""
    text = ""
    budget, accuracies = result.get("budget"), result.get("accuracies")
    if isinstance(budget, int | float) and budget < 1 and isinstance(accuracies, dict):
        text = f" with {budget:.3g} of each image"
        whole = accuracies.get("1")
        if isinstance(whole, int | float):
            text += f", {whole:.1%} with all of it"
    for key, words in (("chance", "chance"), ("best_constant", "best constant answer")):
        value = result.get(key)
        if isinstance(value, int | float):
            return f"{text} ({words} {value:.1%})"
    return text


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else str(value)


def _checkpoint(event: RunFinished) -> str:
    name = (event.result or {}).get("checkpoint")
    if not isinstance(name, str) or not name:
        return f"see {event.folder}"
    # The run saw its folder under another path than this machine.
    return f"{event.folder}/{name.removeprefix('/run/arr/')}"
