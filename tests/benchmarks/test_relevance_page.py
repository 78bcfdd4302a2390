"""The page of results: its numbers are those of the results file."""

from __future__ import annotations

import json
from typing import Any

import pytest
import relevance_page


def results() -> list[dict[str, Any]]:
    files = (relevance_page.RESULTS, relevance_page.SIGNALS)
    return [json.loads(file.read_text("utf-8")) for file in files]


def test_the_page_shows_the_results_that_are_kept() -> None:
    text = relevance_page.PAGE.read_text("utf-8")
    assert relevance_page.page(text, *results()) == text, "run benchmarks/relevance_page.py"


def test_a_page_without_a_marker_is_refused() -> None:
    with pytest.raises(ValueError, match="tables"):
        relevance_page.page("no marker", *results())
