"""The manifest against the Dockerfile: what can get in unlisted, and what is listed for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository import STACK, Files, Link, Submodule, graph_of, make_repository, stack_files

from arr.errors import DockerfileError, ManifestError
from arr.stack.check import Findings, check, require_listed

FROM = "FROM python:3.11\n"
FILES: Files = {
    "a": "x", "b": "x", "c.md": "x", "d/one.py": "x", "d/two.py": "x", "d/e/three.py": "x",
    "sp ace": "x", "dd/x": "x",
}  # fmt: skip


def check_one(
    tmp_path: Path,
    dockerfile: str,
    manifest: str,
    files: Files | None = None,
    ignore: str | None = None,
) -> Findings:
    own: Files = {"Dockerfile": FROM + dockerfile, ".image-manifest": manifest}
    if ignore is not None:
        own = {**own, "Dockerfile.dockerignore": ignore}
    tree = {**stack_files({"one": own}), **(FILES if files is None else files)}
    commit = make_repository(tmp_path).commit(tree)
    made = graph_of(commit)
    return check(made.node("one"), made, commit)


D = {"d/one.py", "d/two.py", "d/e/three.py"}
EVERYTHING = set(FILES) | {STACK}
TAKES: dict[str, tuple[str, set[str]]] = {
    "a file": ("COPY a /x", {"a"}),
    "two files": ("COPY a b /x/", {"a", "b"}),
    "a folder": ("COPY d /d", D),
    "a folder with a slash": ("COPY ./d/ /d/", D),
    "an absolute source is the context's": ("COPY /a /x", {"a"}),
    "above the context is the context's": ("COPY ../../a /x", {"a"}),
    "everything": ("COPY . /", EVERYTHING),
    "everything, again": ("ADD ./ /", EVERYTHING),
    "a star": ("COPY d/*.py /d/", {"d/one.py", "d/two.py"}),
    "a star takes folders whole": ("COPY d* /d/", D | {"dd/x"}),
    "a question mark": ("COPY ? /", D | {"a", "b"}),
    "JSON, with a blank": ('COPY ["sp ace", "a", "/x/"]', {"sp ace", "a"}),
    "ADD": ("ADD a /x", {"a"}),
    "ADD of an address": ("ADD https://example.org/a.tar /x\nADD git@github.com:a/b.git /y", set()),
    "flags": ("COPY --chown=1:1 --link --chmod=644 a /x", {"a"}),
    "lower case": ("copy a /x", {"a"}),
    "continued": ("COPY \\\n  a \\\n# b\n  /x", {"a"}),
    "in quotes": ("COPY \"a\" 'b' /x/", {"a", "b"}),
    "a variable": ("ARG F=a\nCOPY $F /x", {"a"}),
    "a variable in a word": ("ENV E=ne P=d\nCOPY ${P}/o${E}.py /x", {"d/one.py"}),
    "a default": ("COPY ${F:-a} /x", {"a"}),
    "a variable of the base could be anything": ("COPY $HOME /x", EVERYTHING),
    "one made from the base's could be, too": ("ENV P=$HOME/d\nCOPY ${P} /x", EVERYTHING),
    "from another image": ("COPY --from=python:3.11 /a /b", set()),
    "a here-document": ("COPY <<E /x\nCOPY a /b\nE", set()),
    "a here-document and a file": ("COPY <<E b /x/\na\nE", {"b"}),
    "a bind mount": ("RUN --mount=type=bind,source=d/e,target=/x ls /x", {"d/e/three.py"}),
    "a bind mount by its short name": ("RUN --mount=src=a,target=/x ls", {"a"}),
    "a bind mount of everything": ("RUN --mount=target=/x ls", EVERYTHING),
    "a bind mount by variable": (
        "ARG D=d/e\nRUN --mount=type=bind,source=$D,target=/x ls",
        {"d/e/three.py"},
    ),
    "a bind mount from an image": ("RUN --mount=from=python:3.11,source=/a,target=/x ls", set()),
    "other mounts": ("RUN --mount=type=cache,target=/c --mount=type=secret,id=a ls", set()),
    "other instructions": ("LABEL a=b\nWORKDIR /a\nRUN cp a b", set()),
    "a later stage": ("FROM python:3.11 AS x\nCOPY a /x\nFROM x\nCOPY --from=x b /\n", {"a"}),
}


@pytest.mark.parametrize(("dockerfile", "taken"), TAKES.values(), ids=TAKES.keys())
def test_what_an_instruction_takes_is_used_and_must_be_listed(
    tmp_path: Path, dockerfile: str, taken: set[str]
) -> None:
    everything = "\n".join([*FILES, STACK, ""])
    all_listed = check_one(tmp_path / "listed", dockerfile, everything)
    assert all_listed.unlisted == ()
    assert set(all_listed.unused) == EVERYTHING - taken
    none_listed = check_one(tmp_path / "unlisted", dockerfile, "Stack/one/Dockerfile\n")
    assert {u.path for u in none_listed.unlisted} == taken
    assert none_listed.unused == ()


def test_an_unlisted_file_is_named_with_its_line(tmp_path: Path) -> None:
    found = check_one(
        tmp_path, "RUN x\nCOPY a /a\n\nCOPY d \\\n  /d\nCOPY d/one.py /\n", "a\nd/two.py\n"
    )
    assert {(u.path, u.line) for u in found.unlisted} == {("d/one.py", 5), ("d/e/three.py", 5)}
    with pytest.raises(ManifestError) as caught:
        require_listed([found])
    assert caught.value.message == (
        "2 files can get into an image but would not change its tag:\n"
        "  d/e/three.py  (brought in by Stack/one/Dockerfile:5, not in Stack/one/.image-manifest)\n"
        "  d/one.py  (brought in by Stack/one/Dockerfile:5, not in Stack/one/.image-manifest)"
    )
    assert "Dockerfile.dockerignore" in caught.value.hint


def test_many_unlisted_files_are_counted(tmp_path: Path) -> None:
    many = {f"m/{number:02}\n": "" for number in range(13)}
    found = check_one(tmp_path, "COPY m /m\n", "Stack/one/Dockerfile\n", many)
    with pytest.raises(ManifestError) as caught:
        require_listed([found])
    lines = caught.value.message.split("\n")
    assert lines[0].startswith("13 files can get into an image")
    assert lines[1].startswith(r"  m/00\n  (brought in by")
    assert (len(lines), lines[-1]) == (12, "  and 3 more of one")


def test_what_is_all_listed_is_let_through(tmp_path: Path) -> None:
    require_listed([check_one(tmp_path, "COPY d /d\n", "d/**/*.py\n")])


def test_the_files_that_say_what_an_image_is_need_no_line(tmp_path: Path) -> None:
    found = check_one(tmp_path, "COPY Stack/one /x\n", "a\n", ignore="*.log\n")
    assert found.unlisted == ()
    assert found.unused == ("a",)
    again = check_one(
        tmp_path / "2",
        "",
        "Stack/one/Dockerfile\nStack/one/.image-manifest\nStack/one/Dockerfile.dockerignore\n",
        ignore="x\n",
    )
    assert again.unused == ()


def test_ignored_files_are_not_brought_in(tmp_path: Path) -> None:
    found = check_one(tmp_path, "COPY . /\n", "d/one.py\na\n", ignore="*\n!d/one.py\n")
    assert found.unlisted == ()
    assert found.unused == ("a",)


def test_the_context_is_the_image_s_own_folder_when_it_says_so(tmp_path: Path) -> None:
    toml = '[images.one]\nfolder = "Stack/one"\ncontext = "./d/"\n'
    own = {"Dockerfile": FROM + "COPY one.py /\nCOPY e /e\n", ".image-manifest": "d/one.py\na\n"}
    commit = make_repository(tmp_path).commit({**stack_files({"one": own}, toml), **FILES})
    made = graph_of(commit)
    found = check(made.node("one"), made, commit)
    assert [u.path for u in found.unlisted] == ["d/e/three.py"]
    assert found.unused == ("a",)


NO_SOURCE = {
    "a file that is not there": ("COPY nowhere /x", None, "COPY nowhere"),
    "a pattern": ("RUN x\nADD *.rs /x", None, "ADD *.rs"),
    "a file that is ignored": ("COPY a /x", "a\n", "COPY a"),
    "one of two": ("COPY a nowhere /x/", None, "COPY nowhere"),
    "an untracked one": ("COPY nowhere/deep/ /x", None, "COPY nowhere/deep"),
}


@pytest.mark.parametrize(("dockerfile", "ignore", "what"), NO_SOURCE.values(), ids=NO_SOURCE.keys())
def test_a_source_that_matches_nothing_is_an_error(
    tmp_path: Path, dockerfile: str, ignore: str | None, what: str
) -> None:
    line = dockerfile.count("\n") + 2
    with pytest.raises(DockerfileError) as caught:
        check_one(tmp_path, dockerfile, "b\n", ignore=ignore)
    assert caught.value.message == (
        f"Stack/one/Dockerfile:{line}: {what}: no committed file of the build context matches"
    )
    assert ("Dockerfile.dockerignore" in caught.value.hint) == (ignore is not None)


LINKS: Files = {
    "real/x": "1",
    "real/deep/y": "2",
    "link": Link("real"),
    "in/up": Link("../real/deep"),
    "in/file": Link("../real/x"),
    "round": Link("round2"),
    "round2": Link("round"),
    "top": Link("."),
}


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("link", {"link", "real/x", "real/deep/y"}),
        ("link/x", {"link", "real/x"}),
        ("in/up/y", {"in/up", "real/deep/y"}),
        ("in/file", {"in/file", "real/x"}),
        ("in/f*", {"in/file", "real/x"}),
        ("in", {"in/up", "in/file"}),
        ("round", {"round", "round2"}),
    ],
)
def test_what_a_link_leads_to_is_taken_when_the_source_is_the_link(
    tmp_path: Path, source: str, taken: set[str]
) -> None:
    found = check_one(tmp_path, f"COPY {source} /x\n", "Stack/one/Dockerfile\n", LINKS)
    assert {u.path for u in found.unlisted} == taken


def test_a_submodule_is_never_in_a_context(tmp_path: Path) -> None:
    files: Files = {"lib/a": "x", "lib/sub": Submodule()}
    assert check_one(tmp_path, "COPY lib /lib\n", "lib/a\n", files).unlisted == ()


def test_the_dockerfile_of_a_parent_may_be_listed(tmp_path: Path) -> None:
    images: dict[str, Files] = {
        "base": {"Dockerfile": FROM, ".image-manifest": "a\n"},
        "ml": {"Dockerfile": "FROM base:latest\n", ".image-manifest": "a\n"},
        "other": {"Dockerfile": FROM, ".image-manifest": "a\n"},
        "one": {
            "Dockerfile": "FROM ml:latest\nCOPY a /a\n",
            ".image-manifest": "a\n"
            + "".join(f"Stack/{each}/Dockerfile\n" for each in ("ml", "base", "other")),
        },
    }
    commit = make_repository(tmp_path).commit({**stack_files(images), "a": ""})
    made = graph_of(commit)
    found = check(made.node("one"), made, commit)
    assert (found.unlisted, found.unused) == ((), ("Stack/other/Dockerfile",))
