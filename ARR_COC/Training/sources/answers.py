"""The one answer of a question for which a data set may hold several people's answers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ARR_COC.images import BadInput


def one_answer(given: Any) -> str:
    """Return the answer, or of several the one that most gave (of equally many the first).

    Takes a text, a list of texts, or as in VQAv2 a list of objects with an `answer` (or one object
    with a list of them). Raises BadInput for anything else and for no answer at all.
    """
    if isinstance(given, dict) and "answer" in given:
        given = given["answer"]
    if not isinstance(given, list):
        return text(given, "answer")
    each = [one["answer"] if isinstance(one, dict) and "answer" in one else one for one in given]
    if not each:
        raise BadInput("answer is an empty list: give at least one")
    return Counter(text(one, "answer") for one in each).most_common(1)[0][0]


def text(value: Any, key: str) -> str:
    """Return the text without blanks at its ends; raises BadInput if it is empty or not text."""
    if not isinstance(value, str):
        raise BadInput(f"{key} is {value!r}: it must be text, in quotes")
    if not value.strip():
        raise BadInput(f"{key} is empty")
    return value.strip()
