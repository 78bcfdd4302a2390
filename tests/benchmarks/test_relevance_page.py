"""The page of results: its numbers are those of the results file."""

from __future__ import annotations

import json

import pytest
import relevance_page


def test_the_page_shows_the_results_that_are_kept() -> None:
    text = relevance_page.PAGE.read_text("utf-8")
    report = json.loads(relevance_page.RESULTS.read_text("utf-8"))
    assert relevance_page.page(text, report) == text, "run benchmarks/relevance_page.py"


def test_a_page_without_a_marker_is_refused() -> None:
    report = json.loads(relevance_page.RESULTS.read_text("utf-8"))
    with pytest.raises(ValueError, match="tables"):
        relevance_page.page("no marker", report)
