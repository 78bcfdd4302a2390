"""The smallest stack there is, and what a command that ran in this process said."""

from __future__ import annotations

from dataclasses import dataclass

from repository import Files, stack_files

SCRATCH: Files = stack_files(
    {
        "one": {
            "Dockerfile": "FROM scratch\nCOPY Stack/one/a /a\n",
            ".image-manifest": "Stack/one/a\n",
            "a": "a\n",
        }
    }
)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str
