"""The table is checked whole: whatever is wrong with it is said with its class and key."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small_stack import TOP

from arr.cli.render.faults import page_table
from arr.jobs.fault_table import load

IMAGE = TOP / "Stack/arr-vertex-launcher"
sys.path.insert(0, str(IMAGE))

import faults  # noqa: E402
from faults_table import plain_part  # noqa: E402

GOOD = (IMAGE / "faults.toml").read_text("utf-8")


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[quota", "is not TOML"),
        ("", "words"),
        (GOOD + "\n[surprise]\nmeaning = 'x'\n", "surprise: is not a class"),
        (GOOD.replace("[oom", "[oomph"), "oomph"),
        (changed("[stockout]\n", "[stockout]\nseverity = 3\n"), "[stockout] severity: unknown key"),
        (changed("exit_code = 12\n", ""), "[preempted] exit_code: is missing"),
        (changed("exit_code = 12", "exit_code = 11"), "[preempted] exit_code: is that of stockout"),
        (changed("exit_code = 12", "exit_code = 99"), "[preempted] exit_code: must be from 10"),
        (changed("retry = true", 'retry = "yes"'), "[stockout] retry: must be of type bool"),
        (changed("block_seconds = 600", "block_seconds = 0"), "[stockout] block_seconds"),
        (changed('block = "nothing"', 'block = "moon"'), "[image_pull] block: must be one of"),
        (changed("http = [429]", 'http = ["429"]'), "[quota] http: must be a list of numbers"),
        (changed("http = [429]", "http = [429, 403]"), "[permission] http: 403 belongs to quota"),
        (changed("'failed to pull image'", "'failed to (pull image'"), "[image_pull] announces: "),
        (changed("'failed to pull image'", "'failed to .* image'"), "say how far"),
        (changed("'failed to pull image'", "'Failed to pull'"), "must be in lower case"),
        (changed("'failed to pull image'", "'zzz'"), "has none of `words`"),
        (changed("'failed to pull image'", "3"), "[image_pull] announces: must be a list of texts"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(faults.TableError) as refused:
        faults.Table.load(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(faults.TableError, match="cannot be read"):
        faults.Table.load(tmp_path / "none.toml")
    (tmp_path / "raw.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(faults.TableError, match="cannot be read"):
        faults.Table.load(tmp_path / "raw.toml")


def test_every_class_says_what_to_do() -> None:
    kinds = faults.Table.load(IMAGE / "faults.toml").kinds
    assert set(kinds) == set(faults.CLASSES)
    assert len({kind.exit_code for kind in kinds.values()}) == len(kinds)
    for kind in kinds.values():
        assert kind.links, kind.name
        assert kind.advice.endswith("."), kind.name


@pytest.mark.parametrize(
    ("expression", "plain"),
    [
        ("quota exceeded", "quota exceeded"),
        (r"\bquota\b", "quota"),
        ("quotas? exceeded", " exceeded"),
        ("(no|more) capacity", " capacity"),
        ("a|b", ""),
        (r"api [\w.]{1,9} denied", " denied"),
        (r"x\x27yz", "yz"),
        ("exit{0,2}ed", "exi"),
    ],
)
def test_the_plain_part_is_in_every_match(expression: str, plain: str) -> None:
    assert plain_part(expression) == plain


def test_the_page_shows_the_table() -> None:
    page = (TOP / "docs/faults.md").read_text("utf-8")
    tables = page_table(load(TOP))
    assert tables in page, f"docs/faults.md should have:\n\n{tables}"
