"""Equal inputs, equal tags; another input, other tags: over random stacks in real repositories."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from repository import (
    DIGEST,
    STACK,
    Executable,
    Files,
    Repository,
    inputs_of,
    make_repository,
    stack_files,
    tags_of,
)

from arr.errors import ArrError
from arr.stack import git, inputs
from arr.stack.inputs import Inputs

# A manifest's line, and which of the paths below it selects: the meaning said a second time.
LINES: dict[str, Callable[[str], bool]] = {
    "src/a.py": lambda p: p == "src/a.py",
    "  src/b b.py \t": lambda p: p == "src/b b.py",
    "src/new?line.txt": lambda p: p == "src/new\nline.txt",
    "src/\udcff\udcfe.bin": lambda p: p == "src/\udcff\udcfe.bin",
    "src/!bang": lambda p: p == "src/!bang",
    "src/#hash": lambda p: p == "src/#hash",
    "!top": lambda p: p == "!top",
    r"\#top": lambda p: p == "#top",
    r"\@top": lambda p: p == "@top",
    "src/deep": lambda p: p.startswith("src/deep/"),
    "./src//deep/": lambda p: p.startswith("src/deep/"),
    "src/*.py": lambda p: p in ("src/a.py", "src/b b.py"),
    "src/**/*.py": lambda p: p.startswith("src/") and p.endswith(".py"),
    "**/*.md": lambda p: p.endswith(".md"),
    r"other/\[x\].txt": lambda p: p == "other/[x].txt",
    r"other/st\*r": lambda p: p == "other/st*r",
    r"other/\\back": lambda p: p == r"other/\back",
    "other/end\\ ": lambda p: p == "other/end ",
    "other/line\u2028separator": lambda p: p == "other/line\u2028separator",
    "@local other/only-local": lambda p: p == "other/only-local",
}
PATHS = (
    "src/a.py", "src/b b.py", "src/new\nline.txt", "src/\udcff\udcfe.bin", "src/!bang", "src/#hash",
    "!top", "#top", "@top", "src/deep/x/y.py", "src/deep/z", "other/[x].txt", "other/star",
    "other/st*r", r"other/\back", "other/end ", "other/end", "other/line\u2028separator",
    "other/only-local", "other/ü.md", "read me.md",
)  # fmt: skip


@dataclass(frozen=True)
class Image:
    parent: int | None
    copies_from: int | None
    lines: tuple[str, ...]
    ignore: str | None = None
    argument: str = "1"
    platform: str = "linux/amd64"
    comment: str = ""


@dataclass(frozen=True)
class Model:
    """A stack with its files, and what a user would say each image depends on."""

    files: Files
    images: tuple[Image, ...]
    digest: str = DIGEST
    note: str = ""
    smoke: str = "true"

    def tree(self) -> Files:
        folders: dict[str, Files] = {}
        toml = [self.note]
        for number, image in enumerate(self.images):
            source = "python:3.11" if image.parent is None else f"i{image.parent}:latest"
            lines = [f"FROM {source}", "ARG LEVEL", image.comment]
            if image.copies_from is not None:
                lines.append(f"COPY --from=i{image.copies_from} /x /x")
            own: dict[str, str | bytes] = {
                "Dockerfile": "\n".join(lines),
                ".image-manifest": git.encode(
                    "# what decides it\n" + "\n".join(image.lines) + "\n"
                ),
            }
            if image.ignore is not None:
                own["Dockerfile.dockerignore"] = image.ignore
            folders[f"i{number}"] = own
            toml.append(
                f'[images.i{number}]\nfolder = "Stack/i{number}"\nplatform = "{image.platform}"\n'
                f'build_args = {{LEVEL = "{image.argument}"}}\nsmoke = ["{self.smoke}"]\n'
                f'resources = {{cpu = "{self.smoke}"}}'
            )
        return {**stack_files(folders, "\n".join(toml)), **self.files}

    def selecting(self, path: str) -> set[int]:
        """The images whose manifest selects `path`."""
        return {n for n, i in enumerate(self.images) if any(LINES[line](path) for line in i.lines)}

    def with_descendants(self, numbers: set[int]) -> set[str]:
        found = set(numbers)
        for number, image in enumerate(self.images):
            if {image.parent, image.copies_from} & found:
                found.add(number)
        return {f"i{number}" for number in found}


@st.composite
def models(draw: st.DrawFn) -> Model:
    paths = draw(st.lists(st.sampled_from(PATHS), min_size=3, unique=True))
    content = st.one_of(st.binary(max_size=8), st.builds(Executable, st.binary(max_size=8)))
    files = {path: draw(content) for path in paths}
    usable = sorted(line for line, selects in LINES.items() if any(map(selects, paths)))
    assume(usable)
    images = []
    for number in range(draw(st.integers(2, 5))):
        earlier = st.none() if number == 0 else st.none() | st.integers(0, number - 1)
        images.append(
            Image(
                draw(earlier),
                draw(earlier),
                tuple(draw(st.lists(st.sampled_from(usable), min_size=1, max_size=4, unique=True))),
                draw(st.none() | st.just("*.log\n")),
            )
        )
    return Model(files, tuple(images))


Changed = tuple[Model, set[int], str]
"""The model after one change, the images that it is an input of, and what was done."""


@st.composite
def changes(draw: st.DrawFn, model: Model) -> Changed:
    kind = draw(st.sampled_from([_content, _bit, _rename, _add, _remove, _image, _base, _nothing]))
    return kind(draw, model)


def _one_path(draw: st.DrawFn, model: Model) -> str:
    return draw(st.sampled_from(sorted(model.files)))


def _content(draw: st.DrawFn, model: Model) -> Changed:
    path = _one_path(draw, model)
    old = model.files[path]
    content = old.content if isinstance(old, Executable) else old
    new = b"!" if content != b"!" else b"?"
    kept = Executable(new) if isinstance(old, Executable) else new
    return (
        replace(model, files={**model.files, path: kept}),
        model.selecting(path),
        f"edit {path!r}",
    )


def _bit(draw: st.DrawFn, model: Model) -> Changed:
    path = _one_path(draw, model)
    old = model.files[path]
    new = old.content if isinstance(old, Executable) else Executable(cast("bytes", old))
    return (
        replace(model, files={**model.files, path: new}),
        model.selecting(path),
        f"chmod {path!r}",
    )


def _rename(draw: st.DrawFn, model: Model) -> Changed:
    path = _one_path(draw, model)
    to = draw(st.sampled_from(sorted(set(PATHS) - model.files.keys()) or [path]))
    assume(to != path)
    files = {(to if p == path else p): content for p, content in model.files.items()}
    changed = replace(model, files=files)
    _require_matching(changed)
    return changed, model.selecting(path) | model.selecting(to), f"mv {path!r} {to!r}"


def _add(draw: st.DrawFn, model: Model) -> Changed:
    free = sorted(set(PATHS) - model.files.keys())
    assume(free)
    path = draw(st.sampled_from(free))
    files = {**model.files, path: b"new"}
    return replace(model, files=files), model.selecting(path), f"add {path!r}"


def _remove(draw: st.DrawFn, model: Model) -> Changed:
    path = _one_path(draw, model)
    changed = replace(model, files={p: c for p, c in model.files.items() if p != path})
    _require_matching(changed)
    return changed, model.selecting(path), f"rm {path!r}"


def _image(draw: st.DrawFn, model: Model) -> Changed:
    number = draw(st.integers(0, len(model.images) - 1))
    change: Any = draw(
        st.sampled_from(
            [{"argument": "2"}, {"platform": "linux/arm64"}, {"ignore": "*.tmp"}, {"comment": "#"}]
        )
    )
    images = list(model.images)
    images[number] = replace(images[number], **change)
    return replace(model, images=tuple(images)), {number}, f"{change} of i{number}"


def _base(draw: st.DrawFn, model: Model) -> Changed:
    roots = {n for n, image in enumerate(model.images) if image.parent is None}
    return replace(model, digest="sha256:" + "cd" * 32), roots, "move the base"


def _nothing(draw: st.DrawFn, model: Model) -> Changed:
    change: Any = draw(
        st.sampled_from(
            [
                {"note": "# a comment"},
                {"smoke": "false"},
                {"files": {**model.files, "nobody/lists this.txt": b"x"}},
            ]
        )
    )
    return replace(model, **change), set(), f"{change}"


def _require_matching(model: Model) -> None:
    """A line that no longer matches anything is an error, told elsewhere."""
    lines = {line for image in model.images for line in image.lines}
    assume(all(any(map(LINES[line], model.files)) for line in lines))


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder an example: pytest's `tmp_path` would be one for all of them."""
    folder = Path(tempfile.mkdtemp(prefix="arr-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_change_of_one_input_changes_its_images_and_their_descendants_and_nothing_else(
    data: st.DataObject,
) -> None:
    model = data.draw(models())
    with temporary_folder() as folder:
        repository = make_repository(folder)
        before = tags_of(repository.commit(model.tree()), digest=model.digest)
        for _ in range(3):
            changed, owners, what = data.draw(changes(model))
            after = tags_of(repository.commit(changed.tree()), digest=changed.digest)
            differing = {name for name in before if before[name] != after[name]}
            assert differing == model.with_descendants(owners), what


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=models())
def test_the_tags_are_of_the_commit_whatever_the_checkout(model: Model) -> None:
    with temporary_folder() as folder:
        origin = make_repository(folder / "origin", {"old": "history"})
        expected = tags_of(origin.commit(model.tree()))
        assert expected == tags_of(git.commit_at(origin.clone(folder / "a clone").root))
        shallow = origin.clone(folder / "shallow", "--depth=1")
        assert (shallow.root / ".git/shallow").exists()
        assert expected == tags_of(git.commit_at(shallow.root))
        windows = origin.clone(folder / "crlf", "--config", "core.autocrlf=true")
        assert expected == tags_of(git.commit_at(windows.root))
        _disturb(windows.root, model)
        assert expected == tags_of(git.commit_at(windows.root))


def _disturb(root: Path, model: Model) -> None:
    """Edit, touch, delete and add files; commit nothing."""
    for number, path in enumerate(sorted(model.files)):
        at = root / path
        if number % 3 == 0:
            os.utime(at, (1, 1))
        elif number % 3 == 1:
            at.write_bytes(b"edited, not committed")
        else:
            at.unlink()
    (root / "Stack/i0/Dockerfile").write_text("FROM elsewhere\n")
    (root / STACK).write_text("[images]\n")
    (root / "src").mkdir(exist_ok=True)
    (root / "src/untracked.py").write_text("")


def test_another_umask_gives_the_same_tags(tmp_path: Path) -> None:
    files = one_image({"a": "x", "tool": Executable()}, "a\ntool\n")
    origin = make_repository(tmp_path / "origin", files)
    expected = tags_of(git.commit_at(origin.root))
    before = os.umask(0o077)
    try:
        clone = origin.clone(tmp_path / "private")
    finally:
        os.umask(before)
    assert (clone.root / "a").stat().st_mode & 0o777 == 0o600
    clone.git("commit", "--quiet", "--allow-empty", "--message", "again")
    assert tags_of(git.commit_at(clone.root)) == expected


def one_image(files: Files, manifest: str, dockerfile: str = "FROM python:3.11\n") -> Files:
    return {
        **stack_files({"one": {"Dockerfile": dockerfile, ".image-manifest": manifest}}),
        **files,
    }


def test_a_replaced_object_of_one_clone_does_not_change_its_tags(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, one_image({"a": "x"}, "a\n"))
    real = git.commit_at(tmp_path)
    expected = tags_of(real)
    other = repository.commit(one_image({"a": "y"}, "a\n"))
    repository.git("replace", real.id, other.id)
    repository.git("update-ref", "refs/heads/main", real.id)
    assert tags_of(git.commit_at(tmp_path)) == expected


def test_the_build_context_folder_is_an_input(tmp_path: Path) -> None:
    files = one_image({"a": "x", "sub/a": "y"}, "a\nsub/a\n", "FROM python:3.11\nCOPY a /a\n")
    moved = {**files, STACK: str(files[STACK]).replace("[bases", 'context = "sub"\n[bases', 1)}
    repository = make_repository(tmp_path)
    whole, part = (inputs_of(repository.commit(each))["one"] for each in (files, moved))
    assert whole.tag != part.tag
    assert (whole.context, part.context) == (".", "sub")


def test_a_target_line_counts_for_its_target_only(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    manifest = "a\n@gcp b\n"
    before = repository.commit(one_image({"a": "1", "b": "1"}, manifest))
    after = repository.commit(one_image({"a": "1", "b": "2"}, manifest))
    assert tags_of(before, "local") == tags_of(after, "local")
    assert tags_of(before, "gcp") != tags_of(after, "gcp")


def test_a_build_argument_of_another_target_changes_nothing_here(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)

    def tags(gcp: str, target: str) -> dict[str, str]:
        toml = (
            f'[images.one]\nfolder = "Stack/one"\nbuild_args.A = {{local = "1", gcp = "{gcp}"}}\n'
        )
        own = {"Dockerfile": "FROM python:3.11\nARG A\n", ".image-manifest": "a\n"}
        return tags_of(repository.commit({**stack_files({"one": own}, toml), "a": ""}), target)

    assert tags("1", "local") == tags("2", "local")
    assert tags("1", "gcp") != tags("2", "gcp")


texts = st.text(max_size=6)
kept = st.builds(
    Inputs,
    dockerfile=texts,
    ignore=st.none() | texts,
    platform=texts,
    build_args=st.dictionaries(texts, texts, max_size=3),
    files=st.dictionaries(texts, st.tuples(texts, texts), max_size=3),
    parents=st.dictionaries(texts, texts, max_size=2),
    bases=st.dictionaries(texts, texts, max_size=2),
    context=texts,
)


@settings(max_examples=100, deadline=None)
@given(kept)
def test_inputs_survive_being_kept_in_a_registry(each: Inputs) -> None:
    again = inputs.parse(each.text)
    assert again == each
    assert again.fingerprint == each.fingerprint
    assert each.tag == each.fingerprint[-7:]


@settings(max_examples=100, deadline=None)
@given(kept, kept)
def test_inputs_are_equal_if_and_only_if_their_fingerprints_are(a: Inputs, b: Inputs) -> None:
    assert (a == b) == (a.fingerprint == b.fingerprint)


def test_a_path_that_is_not_utf8_survives_being_kept() -> None:
    each = Inputs("d", None, "p", {}, {"src/\udcff": ("100644", "b")}, {}, {})
    assert each.text.isascii()
    assert inputs.parse(each.text) == each


def _kept_with(**changes: object) -> bytes:
    import json

    facts = json.loads(Inputs("d", None, "p", {}, {"a": ("100644", "b")}, {}, {}).text)
    return json.dumps({**facts, **changes}, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\xff", b"null", b"[]", b'"text"', b"{}", b'{"arr-inputs":1}',
        _kept_with(files=[["a"]]), _kept_with(files={"a": 1}), _kept_with(parents=["x"]),
        _kept_with(build_args=None), _kept_with(more=1), b" " + _kept_with(),
    ],
)  # fmt: skip
def test_what_arr_did_not_write_is_refused(text: bytes) -> None:
    with pytest.raises(ArrError, match="cannot be read"):
        inputs.parse(text)


def test_inputs_of_a_later_version_say_so() -> None:
    with pytest.raises(ArrError, match="version 2; this arr reads 1"):
        inputs.parse(_kept_with(**{"arr-inputs": 2}))


def test_repositories_do_not_see_the_git_of_a_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository: Repository = make_repository(tmp_path / "mine", one_image({"a": "x"}, "a\n"))
    make_repository(tmp_path / "other", {"b": "y"})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "nowhere"))
    assert git.find_root(repository.root) == repository.root
    assert "a" in git.commit_at(repository.root).tree
