"""The stack's Dockerfiles as these tests read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

STACK = Path(__file__).resolve().parents[2] / "Stack"

DOCKERFILES = (
    "arr-pytorch-base/Dockerfile",
    "arr-pytorch-base/Dockerfile.cpu",
    "arr-ml-stack/Dockerfile",
    "arr-trainer/Dockerfile",
    "arr-vertex-launcher/Dockerfile",
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its keyword in capitals, its arguments on one line, the stage it is in."""

    keyword: str
    arguments: str
    stage: int


def instructions(dockerfile: str) -> list[Instruction]:
    """Return the instructions of STACK/dockerfile in order; what precedes FROM is stage 0."""
    lines = (STACK / dockerfile).read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found: list[Instruction] = []
    stage = 0
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            keyword, _, arguments = line.partition(" ")
            stage += keyword == "FROM"
            found.append(Instruction(keyword, arguments.strip(), stage))
    return found


def global_arguments(dockerfile: str) -> dict[str, str]:
    """Return the defaults of the ARGs before the first FROM."""
    pairs = (i.arguments.partition("=") for i in instructions(dockerfile) if i.stage == 0)
    return {name: default.strip('"') for name, _, default in pairs}
