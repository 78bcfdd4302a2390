"""The two dialects of patterns, each against the program that it has its meaning from."""

from __future__ import annotations

import re
import shutil
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from repository import Repository, make_repository

from arr.errors import DockerfileError
from arr.stack import git
from arr.stack.context import context_files, parse_ignore
from arr.stack.glob import literal_start, manifest_glob, starting_with
from arr.stack.manifest import Pattern

PATHS = [
    "a",
    "b",
    "ab",
    "abc",
    "a.py",
    "b.py",
    "a-b",
    "a_b",
    "a b",
    "A",
    "Z.md",
    "0",
    "10",
    "ab]",
    "[ab]",
    "[",
    "!a",
    "^",
    "-",
    "a*",
    "a?",
    "a\\b",
    "#a",
    ".a",
    ".b/.c",
    "é",
    "日本",
    "ü/a",
    "new\nline",
    "a\tb",
    "d/a",
    "d/b",
    "d/ab",
    "d/a.py",
    "d/.h",
    "d/d/a",
    "d/d/b.py",
    "d/d/d/a",
    "d/e/a",
    "d/e/f/b",
    "e/a/b",
    "e/ab/a",
    "e/a.b/c",
    "e/a-b",
    "f/a*b",
    "f/a b/c",
    "f/[x]",
    "f/[y]/z",
    "f/\\",
    "g\\/g",
    "src/pkg/mod.py",
    "src/pkg/sub/mod.py",
    "src/pkg/sub/data.bin",
    "src/main.py",
    "src/x/y/z/w.py",
    "README.md",
    "docs/index.md",
    "docs/a/b.md",
    "x.tar.gz",
    "x.tar/gz",
    "\udcff/a",
    "a\udcfe",
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = make_repository(tmp_path_factory.mktemp("globs"), dict.fromkeys(PATHS, ""))
    made.git("read-tree", "HEAD")
    return made


def git_selects(repository: Repository, pattern: str) -> set[str]:
    """What git's own pathspecs say: the pattern's paths, and those beneath the folders it names."""
    raw = repository.git(
        "ls-files", "-z", "--", b":(top,glob)" + git.encode(pattern),
        b":(top,glob)" + git.encode(pattern) + b"/**",
    )  # fmt: skip
    return {git.decode(path) for path in raw.split(b"\0") if path}


PIECES = st.sampled_from(
    ["*", "**", "/**/", "**/", "/**", "?", "a", "b", "d", ".", "-", "/", "[ab]", "[!a]", "[^b]",
     "[a-c]",
     "[]a]", "[!]]", "[[:alpha:]]", "[![:alnum:]]", "[[:punct:]]", "[[:space:]]", "[[:upper:]b]",
     "[a-]", "[c-a]", "[\\]]", "[[]", "[\\a-b]", "\\*", "\\?", "\\[", "\\\\", "\\a", "py", ".py",
     "src", "]", "é", "\n", "f/", "e/"]
)  # fmt: skip
PATTERNS = st.lists(PIECES, min_size=1, max_size=5).map("".join)


def _tidy(pattern: str) -> bool:
    """The manifest's reader cleans these out, or refuses them, before they are patterns."""
    return not re.search(r"^/|/$|//|(^|/)\.\.?(/|$)", pattern)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(pattern=PATTERNS.filter(_tidy))
@example("**")
@example("*")
@example("**/a")
@example("d/**")
@example("d/**/a")
@example("a**")
@example("***/a")
@example("src/**/*.py")
@example("é")
@example("[[:a]b]")
def test_a_manifest_pattern_selects_what_git_selects(repository: Repository, pattern: str) -> None:
    try:
        line = Pattern(pattern, 1, None, manifest_glob(pattern))
    except ValueError:
        return  # what cannot be a pattern is refused with its line, and told in another test
    ascii_paths = [p for p in PATHS if p.isascii() or pattern in p]
    selected = {path for path in ascii_paths if line.matches(path)}
    assert selected == git_selects(repository, pattern) & set(ascii_paths)


@pytest.mark.parametrize("path", PATHS)
def test_an_escaped_name_selects_that_file_alone(repository: Repository, path: str) -> None:
    pattern = re.sub(r"([*?\[\\])", r"\\\1", path)
    assert {p for p in PATHS if manifest_glob(pattern).match(p)} == {path}
    assert git_selects(repository, pattern) == {path}


def test_a_character_is_one_character_in_any_script() -> None:
    assert manifest_glob("?").match("é")
    assert manifest_glob("[é]").match("é")
    assert not manifest_glob("?").match("日本")


@pytest.mark.parametrize("pattern", ["[", "[a", "a\\", "[[:nothing:]]", "[!", "x[]"])
def test_a_broken_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        manifest_glob(pattern)


names = st.text(alphabet="ab/*\udcff\U0010ffff", max_size=4)


@given(st.lists(names, unique=True), names)
def test_starting_with_is_what_a_look_at_every_path_finds(paths: list[str], start: str) -> None:
    paths = sorted(paths)
    assert list(starting_with(start, paths)) == [p for p in paths if p.startswith(start)]


@given(PATTERNS.filter(_tidy), st.sampled_from(PATHS))
def test_every_match_starts_with_the_literal_start(pattern: str, path: str) -> None:
    try:
        matched = manifest_glob(pattern).match(path)
    except ValueError:
        return
    assert not matched or path.startswith(literal_start(pattern))


# Docker's ignore files. Each: the file, what it leaves out, what it lets through.
IGNORE: dict[str, tuple[str, str, str]] = {
    "a name is the top's": ("a.md", "a.md", "d/a.md x/a.md/y"),
    "one star stays in its folder": ("*.md", "a.md README.md", "d/a.md"),
    "two stars are any depth": ("**/*.md", "a.md d/a.md d/e/a.md", "a.mdx"),
    "two stars and a name": ("**/tmp", "tmp tmp/a d/tmp d/tmp/a/b", "tmpx d/xtmp"),
    "a folder takes what is beneath": ("d", "d/a d/e/f", "dd x/d"),
    "below a folder": ("d/**", "d/a d/e/f", "dx"),
    "in the middle": ("d/**/z", "d/z d/e/z d/e/f/z d/z/under", "z e/z"),
    "children of children": ("*/a*", "d/a d/ab/x", "a d/e/a"),
    "a question mark": ("temp?", "tempa tempb/x", "temp tempab d/tempa"),
    "a slash at either end is nothing": ("/d/\n/e", "d/a e/b", "x/d/a"),
    "dots are cleaned": ("./d/../e//f/.", "e/f e/f/g", "d e"),
    "blanks around": ("  d  \t\r", "d/a", "x"),
    "comments": ("# d\n#d\nd # e", "", "d # d"),
    "a comment only at the very start": (" #d", "#d", "d"),
    "a byte order mark": ("\ufeffd", "d/a", "x"),
    "Windows line ends": ("d\r\n*.md\r\n", "d/a a.md", "x"),
    "the last rule decides": ("*.md\n!README.md", "a.md", "README.md"),
    "the order counts": ("!README.md\n*.md", "a.md README.md", "x"),
    "in and out and in": (
        "*.md\n!README*.md\nREADME-secret.md",
        "a.md README-secret.md",
        "README.md",
    ),
    "out of a left-out folder": ("d\n!d/keep", "d/a d/keeper", "d/keep d/keep/x"),
    "all but": ("*\n!src\n!go.mod", "a d/b Dockerfile", "src/a src/d/b go.mod"),
    "all but, deep": ("**\n!src/**/*.py", "src/a.md a.py", "src/a.py src/d/e.py"),
    "a blank after the bang": ("*\n! src", "a", "src/a"),
    "a slash after the bang": ("*\n!/src/", "a", "src/a"),
    "a class": ("[a-c].txt", "a.txt c.txt", "d.txt ab.txt"),
    "a class turned round": ("[^a].txt", "b.txt", "a.txt"),
    "a bang in a class is a bang": ("[!a].txt", "!.txt a.txt", "b.txt"),
    "escaped": (r"\*.md" + "\n" + r"\!x", "*.md !x", "a.md x"),
    "two stars are an ending": ("**.md", "a.md d/a.md .md", "a.mdx"),
    "two stars inside a name": ("a**b", "ab ax/b", "axb"),
    "two stars at the end of a name": ("a**", "a ab ab/c a/b", "b"),
    "regular expressions play no part": ("a.b+(c)|$", "a.b+(c)|$", "axb a.bb"),
    "the top itself cannot be left out": (".\n/\n./", "", "a d/b"),
    "letting the top through changes nothing": ("d\n!.\n!/", "d/a", "x"),
    "no rule": ("\n\n  \n", "", "a d/b"),
}


@pytest.mark.parametrize(("text", "out", "through"), IGNORE.values(), ids=IGNORE.keys())
def test_an_ignore_file_means_what_docker_says(text: str, out: str, through: str) -> None:
    ignore = parse_ignore("Dockerfile.dockerignore", text)
    paths = [*out.split(), *through.split()]
    left = [path for path, ignored in zip(paths, ignore.ignored(paths), strict=True) if ignored]
    assert left == out.split()


@pytest.mark.parametrize(
    ("line", "word"), [("[", "no closing"), ("a\\", "backslash"), ("!", "nothing")]
)
def test_a_broken_ignore_file_names_the_line(line: str, word: str) -> None:
    with pytest.raises(DockerfileError, match=rf"x\.dockerignore:3: .*{word}") as caught:
        parse_ignore("x.dockerignore", f"# one\ntwo\n{line}\n")
    assert caught.value.hint


ENGINE_FILES = [
    "a.md",
    "README.md",
    "README-secret.md",
    "d/a.md",
    "d/e/a.md",
    "d/keep",
    "d/other",
    "src/a.py",
    "src/deep/b.py",
    "src/deep/c.txt",
    "tmp/x",
    "src/tmp/y",
    "tempa",
    "temp",
    "ab",
    "ax/b",
    "sp ace",
    ".hidden/x",
]
ENGINE_IGNORES = [
    "*.md\n!README*.md\nREADME-secret.md",
    "**/*.md",
    "*\n!src\nsrc/deep",
    "**/tmp\ntemp?",
    "d\n!d/keep",
    "/src/deep/\n.hidden",
    "**\n!src/deep/b.py",
    "sp*\n[a-c].md\n*/e",
    "",
]


@pytest.mark.skipif(not shutil.which("buildah"), reason="buildah is not installed")
def test_an_engine_sees_the_same_files(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "r", dict.fromkeys(ENGINE_FILES, "x"), checkout=True)
    commit = git.commit_at(repository.root)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    assert len(commit.tree) == len(ENGINE_FILES)
    shutil.rmtree(repository.root / ".git")
    for number, text in enumerate(ENGINE_IGNORES):
        ours = set(context_files(commit, ".", parse_ignore("i", text)))
        assert ours == _in_image(tmp_path, repository.root, text, number), text


def _in_image(scratch: Path, context: Path, ignore: str, number: int) -> set[str]:
    """Build `COPY . /` and return the files that are in its layer."""
    (scratch / "ignore").write_text(ignore)
    storage = ["--root", str(scratch / "root"), "--runroot", str(scratch / "run")]
    command = ["buildah", *storage, "--storage-driver", "vfs"]
    build = ["build", "--quiet", "--isolation", "chroot", "--ignorefile", str(scratch / "ignore")]
    subprocess.run(
        [
            *command,
            *build,
            "--tag",
            f"t{number}",
            "--file",
            str(scratch / "Dockerfile"),
            str(context),
        ],
        check=True,
        capture_output=True,
    )
    out = scratch / f"out{number}"
    push = ["push", "--quiet", f"t{number}", f"dir:{out}"]
    subprocess.run([*command, *push], check=True, capture_output=True)
    layers = (path for path in out.iterdir() if set(path.name) <= set(string.hexdigits))
    for layer in layers:
        listed = subprocess.run(["tar", "-tf", layer], capture_output=True, check=False, text=True)
        if listed.returncode == 0:
            return {name for name in listed.stdout.split("\n") if name and not name.endswith("/")}
    return set()
