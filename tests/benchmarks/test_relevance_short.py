"""The short form of the benchmark: an eighth of the tokens, chosen by the question, is enough."""

from __future__ import annotations

import json

import pytest
import relevance

ACCURACY = 0.5  # of a reader that was trained for a minute; chance is a tenth


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    folder = tmp_path_factory.mktemp("relevance")
    arguments = ["--short", "--jobs", "1", "--questions", "200"]
    places = ["--out", str(folder / "relevance.json"), "--cache", str(folder)]
    assert relevance.main([*arguments, *places]) == 0
    assert (folder / "relevance.png").stat().st_size > 5000
    read: dict[str, list[dict[str, object]]] = json.loads(
        (folder / "relevance.json").read_text(encoding="utf-8")
    )
    return read


def accuracy(report: dict[str, list[dict[str, object]]], arm: str, where: str = "before") -> float:
    """Of an arm at 1/8."""
    (row,) = [
        row
        for row in report["summary"]
        if (row["arm"], row["where"]) == (arm, where) and row["budget"] in (1 / 8, 1.0)
    ]
    value = row["accuracy"]
    assert isinstance(value, float)
    return value


def test_an_eighth_of_the_tokens_does_nearly_as_well_as_all(
    report: dict[str, list[dict[str, object]]],
) -> None:
    full = accuracy(report, "full", "after")
    assert full > ACCURACY
    assert accuracy(report, "ours") > full - 0.08


@pytest.mark.parametrize("arm", ["random", "uniform", "centre", "salience", "query_blind"])
def test_choosing_without_the_question_is_far_behind(
    report: dict[str, list[dict[str, object]]], arm: str
) -> None:
    assert accuracy(report, "ours") > accuracy(report, arm) + 0.25


def test_the_question_of_another_image_is_no_better_than_none(
    report: dict[str, list[dict[str, object]]],
) -> None:
    (check,) = [check for check in report["checks"] if check["budget"] == 1 / 8]
    shuffled, random = check["shuffled_query"], check["random"]
    assert isinstance(shuffled, float)
    assert isinstance(random, float)
    assert shuffled < random + 0.1


def test_every_arm_has_a_row_for_every_budget(
    report: dict[str, list[dict[str, object]]],
) -> None:
    arms = {row["arm"] for row in report["rows"]} - {"ours_shuffled"}
    assert len(arms) == 18
    for arm in arms - {"full"}:
        budgets = {row["budget"] for row in report["rows"] if row["arm"] == arm}
        assert budgets == set(relevance.BUDGETS)
