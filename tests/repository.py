"""Real git repositories for the tests: small, in a temporary folder, made in a few milliseconds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from arr.stack import git, graph, inputs, stackfile
from arr.stack.git import Commit
from arr.stack.graph import Graph
from arr.stack.inputs import Inputs
from arr.stack.lock import Pin

TIME = 1_700_000_000
DIGEST = "sha256:" + "ab" * 32
STACK = "Stack/stack.toml"

# No setting of the machine or of the one who runs the tests may decide a test.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "A U Thor",
    "GIT_AUTHOR_EMAIL": "author@example.org",
    "GIT_COMMITTER_NAME": "A U Thor",
    "GIT_COMMITTER_EMAIL": "author@example.org",
    "GIT_AUTHOR_DATE": f"{TIME} +0000",
    "GIT_COMMITTER_DATE": f"{TIME} +0000",
    "LC_ALL": "C",
}


@dataclass(frozen=True)
class Link:
    """A symbolic link, as the content of a file."""

    to: str


@dataclass(frozen=True)
class Executable:
    """The content of a file with the executable bit."""

    content: str | bytes = "#!/bin/sh\n"


@dataclass(frozen=True)
class Submodule:
    """Another repository's commit, as the content of a path."""

    commit: str = "1" * 40


Content = str | bytes | Link | Executable | Submodule
Files = Mapping[str, Content]


@dataclass(frozen=True)
class Repository:
    root: Path

    def git(self, *args: str | bytes, stdin: bytes | None = None) -> bytes:
        return run_git(self.root, *args, stdin=stdin)

    def commit(self, files: Files, *, keep: bool = False) -> Commit:
        """Commit exactly these files (with `keep`, on top of those there are), in one git process.

        The work tree stays as it is: see `checkout`.
        """
        begun = (self.root / ".git/refs/heads/main").exists()
        self.git("fast-import", "--quiet", stdin=_stream(files, begun, keep))
        return git.commit_at(self.root)

    def checkout(self) -> None:
        """Make the work tree and the index what HEAD has."""
        self.git("reset", "--quiet", "--hard")

    def clone(self, to: Path, *options: str) -> Repository:
        """Clone; over file://, so that `--depth` counts."""
        run_git(self.root, "clone", "--quiet", *options, f"file://{self.root}", os.fspath(to))
        return Repository(to)


def make_repository(
    folder: Path, files: Files | None = None, *, checkout: bool = False
) -> Repository:
    """Make a repository on branch main, with one commit of `files` if there are any."""
    folder.mkdir(parents=True, exist_ok=True)
    run_git(folder, "init", "--quiet", "--template=", "--initial-branch=main")
    repository = Repository(folder)
    if files is not None:
        repository.commit(files)
    if checkout:
        repository.checkout()
    return repository


def run_git(folder: Path, *args: str | bytes, stdin: bytes | None = None) -> bytes:
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *args],
        cwd=folder, env=ENVIRON, input=stdin, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def stack_files(images: Mapping[str, Files], toml: str = "", base: str = "python:3.11") -> Files:
    """Return the files of a stack: per image those of its folder; `toml` is added to stack.toml.

    An image that has no table of its own in `toml` gets one with a folder.
    """
    lines = [f'[images.{i}]\nfolder = "Stack/{i}"' for i in images if f"[images.{i}]" not in toml]
    text = "\n".join([*lines, toml, f'[bases."{base}"]', ""])
    files = {
        f"Stack/{i}/{name}": content for i, own in images.items() for name, content in own.items()
    }
    return {STACK: text, **files}


def graph_of(commit: Commit, target: str = "local") -> Graph:
    return graph.build(stackfile.parse(commit.text(STACK)), commit, target)


def inputs_of(commit: Commit, target: str = "local", digest: str = DIGEST) -> dict[str, Inputs]:
    """Return the inputs of each image, with every base pinned to `digest`."""
    made = graph_of(commit, target)
    pins = {base: Pin(digest=digest) for node in made for base in node.bases}
    return inputs.of_graph(made, commit, pins)


def tags_of(commit: Commit, target: str = "local", digest: str = DIGEST) -> dict[str, str]:
    return {name: each.tag for name, each in inputs_of(commit, target, digest).items()}


def _stream(files: Files, begun: bool, keep: bool) -> bytes:
    who = f"committer A U Thor <author@example.org> {TIME} +0000"
    parts = [f"commit refs/heads/main\n{who}\ndata 1\n.\n".encode()]
    if begun:
        parts.append(b"from refs/heads/main^0\n")
    if not keep:
        parts.append(b"deleteall\n")
    for path, content in files.items():
        mode, data = _mode_and_data(content)
        parts.append(b"M %s " % mode)
        if isinstance(content, Submodule):
            parts.append(b"%s %s\n" % (data, _quoted(path)))
        else:
            parts.append(b"inline %s\ndata %d\n%s\n" % (_quoted(path), len(data), data))
    return b"".join(parts)


def _mode_and_data(content: Content) -> tuple[bytes, bytes]:
    match content:
        case Link(to):
            return b"120000", git.encode(to)
        case Submodule(commit):
            return b"160000", commit.encode()
        case Executable(inner):
            return b"100755", _bytes(inner)
        case _:
            return b"100644", _bytes(content)


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8")


def _quoted(path: str) -> bytes:
    raw = git.encode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + raw + b'"'
