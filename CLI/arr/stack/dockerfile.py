"""Reading a Dockerfile: its instructions, its stages, and what they refer to.

By hand because the libraries that do it read `FROM` lines inside here-documents as parents, or
come for one platform only.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from arr.errors import DockerfileError

KEYWORDS = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL "
    "STOPSIGNAL USER VOLUME WORKDIR".split()
)
_DIRECTIVE = re.compile(r"#\s*(syntax|escape|check)\s*=\s*(.*)\Z", re.IGNORECASE)
# As docker splits a line: quotes keep blanks, and a here-document is a word of its own.
_WORD = re.compile(r"""(?:\\.|"(?:\\.|[^"\\])*"|'[^']*'|[^\s'"\\])+""")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)\Z")
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|\Z)")
# What may stand between two words: blanks, and the end of a continued line with comments after it.
_GAP = r"(?:[ \t]|[\\`][ \t\r]*\n(?:[ \t]*(?:#[^\n]*)?\r?\n)*)"
_WORD_END = r"(?=\s|\Z|[\\`]\s)"
# Predefined by docker; a stage may use them with no ARG of its own.
PREDEFINED = frozenset(
    f"{kind}{part}" for kind in ("TARGET", "BUILD") for part in ("PLATFORM", "OS", "ARCH")
) | {"TARGETVARIANT", "BUILDVARIANT"}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: lines `first` to `last` (from 1), its flags, the rest on one line."""

    keyword: str
    flags: tuple[tuple[str, str], ...]
    rest: str
    first: int
    last: int

    def flag(self, name: str) -> str | None:
        """The value of the last `--name=value`, or None."""
        return next((v for k, v in reversed(self.flags) if k == name), None)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: what it is FROM (variables resolved), its name if it has one, its instructions."""

    source: str
    name: str | None
    start: Instruction
    instructions: tuple[Instruction, ...]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    path: str
    text: str
    instructions: tuple[Instruction, ...]
    stages: tuple[Stage, ...]
    arguments: frozenset[str]
    """Every name that some ARG declares."""

    def external(self) -> list[tuple[Instruction, str]]:
        """Return (instruction, reference) for each image from outside this file, in order."""
        return [(instruction, reference) for instruction, _, reference in self.written()]

    def written(self) -> list[tuple[Instruction, str, str]]:
        """As `external`, with the reference as it is written between them, variables and all."""
        found: list[tuple[Instruction, str, str]] = []
        names: set[str] = {"scratch"}
        for number, stage in enumerate(self.stages):
            if stage.source.lower() not in names:
                found.append((stage.start, stage.start.rest.split()[0], stage.source))
            earlier = {str(n) for n in range(number)}
            for instruction in stage.instructions:
                for raw in _sources_from(instruction):
                    source = expand(raw, stage.variables) or raw
                    if source.lower() not in names | earlier:
                        found.append((instruction, raw, source))
            if stage.name:
                names.add(stage.name.lower())
        return found


def parse(path: str, text: str, build_args: Mapping[str, str]) -> Dockerfile:
    """Read a Dockerfile; `build_args` decide the variables in FROM as `--build-arg` would.

    Raises DockerfileError, with file and line, if it cannot be read, has no FROM, or a FROM names
    an ARG that nothing declares.
    """
    instructions = tuple(_instructions(path, text))
    if all(i.keyword != "FROM" for i in instructions):
        raise DockerfileError(f"{path} has no FROM", "Start the image with `FROM image`.")
    stages = tuple(_stages(path, instructions, build_args))
    declared = frozenset(
        name for i in instructions if i.keyword == "ARG" for name, _ in _pairs(_words(i.rest))
    )
    return Dockerfile(path, text, instructions, stages, declared)


def _instructions(path: str, text: str) -> Iterator[Instruction]:
    lines = text.removeprefix("\ufeff").split("\n")
    escape = _escape_character(lines)
    at = 0
    while at < len(lines):
        first = at
        if not lines[at].strip() or lines[at].lstrip().startswith("#"):
            at += 1
            continue
        logical, at = _logical_line(lines, at, escape)
        keyword, _, rest = logical.strip().partition(" ")
        keyword = keyword.partition("\t")[0] if "\t" in keyword else keyword
        rest = logical.strip()[len(keyword) :].strip()
        if keyword.upper() not in KEYWORDS:
            raise DockerfileError(
                f"{path}:{first + 1}: unknown instruction {keyword!r}",
                "Correct the line; `docker build` would refuse it too.",
            )
        inner = rest.split(maxsplit=1)[0] if rest and keyword.upper() == "ONBUILD" else keyword
        if inner.upper() in ("RUN", "COPY", "ADD"):
            at = _skip_heredocs(path, lines, first, at, rest)
        if not rest:
            raise DockerfileError(f"{path}:{first + 1}: {keyword} says nothing", "Complete it.")
        flags, rest = _flags(keyword.upper(), rest)
        yield Instruction(keyword.upper(), flags, rest, first + 1, at)


def _escape_character(lines: list[str]) -> str:
    """The parser directive `# escape=` counts only in the comment lines that open the file."""
    for line in lines:
        directive = _DIRECTIVE.match(line.strip())
        if directive is None:
            break
        if directive[1].lower() == "escape" and directive[2].strip() in ("`", "\\"):
            return directive[2].strip()
    return "\\"


def _logical_line(lines: list[str], at: int, escape: str) -> tuple[str, int]:
    """Join continued lines; comment lines and empty lines inside a continuation are dropped."""
    parts: list[str] = []
    while at < len(lines):
        line = lines[at]
        at += 1
        if parts and (not line.strip() or line.lstrip().startswith("#")):
            continue
        stripped = line.rstrip()
        # As in docker, the character twice is the character and no continuation.
        if stripped.endswith(escape) and not stripped.endswith(escape * 2):
            parts.append(stripped[:-1])
            continue
        parts.append(line)
        break
    return "".join(parts), at


def _skip_heredocs(path: str, lines: list[str], first: int, at: int, rest: str) -> int:
    heredocs = [match for word in _WORD.findall(rest) if (match := _HEREDOC.match(word))]
    for dash, word in ((match[1], re.sub(r"[\"'\\]", "", match[2])) for match in heredocs):
        while True:
            if at >= len(lines):
                raise DockerfileError(
                    f"{path}:{first + 1}: the here-document <<{word} has no end",
                    f"Close it with a line that says {word}.",
                )
            line = lines[at].lstrip("\t") if dash else lines[at]
            at += 1
            if line.rstrip("\r") == word:
                break
    return at


def _flags(keyword: str, rest: str) -> tuple[tuple[tuple[str, str], ...], str]:
    if keyword not in ("FROM", "RUN", "COPY", "ADD", "HEALTHCHECK"):
        return (), rest
    flags = []
    while match := _FLAG.match(rest):
        flags.append((match[1], match[2] or ""))
        rest = rest[match.end() :]
    return tuple(flags), rest


def _stages(
    path: str, instructions: tuple[Instruction, ...], build_args: Mapping[str, str]
) -> Iterator[Stage]:
    outer: dict[str, str] = {}
    starts = [n for n, i in enumerate(instructions) if i.keyword == "FROM"]
    for instruction in instructions[: starts[0]]:
        if instruction.keyword != "ARG":
            raise DockerfileError(
                f"{path}:{instruction.first}: {instruction.keyword} before the first FROM",
                "Only ARG may stand there.",
            )
        for argument, default in _pairs(_words(instruction.rest)):
            value = expand(default or "", outer) or ""
            outer[argument] = build_args.get(argument, value)
    for begin, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
        start, body = instructions[begin], instructions[begin + 1 : end]
        source, name = _from(path, start, outer)
        yield Stage(source, name, start, body, _variables(body, outer, build_args))


def _from(path: str, start: Instruction, outer: Mapping[str, str]) -> tuple[str, str | None]:
    words = start.rest.split()
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise DockerfileError(
            f"{path}:{start.first}: FROM {start.rest} cannot be read",
            "Write `FROM image` or `FROM image AS name`.",
        )
    source = expand(words[0], outer)
    if source is None:
        raise _unknown_variable(path, start, words[0], outer)
    if not source:
        raise DockerfileError(
            f"{path}:{start.first}: FROM {words[0]} is empty with the build arguments given",
            "Give the ARG a default, or set it under build_args in Stack/stack.toml.",
        )
    return source, words[2] if len(words) == 3 else None


def _unknown_variable(
    path: str, start: Instruction, word: str, outer: Mapping[str, str]
) -> DockerfileError:
    where = f"{path}:{start.first}: FROM {word}"
    used = re.findall(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)(?![A-Za-z0-9_]|:?[-+])", word)
    variable = next((name for name in used if name not in outer), None)
    if variable is None:
        return DockerfileError(
            f"{where} uses a form of variable that cannot be resolved here",
            "Use $NAME, ${NAME}, ${NAME:-default} or ${NAME:+other}.",
        )
    if variable in PREDEFINED:
        return DockerfileError(
            f"{where} uses {variable}, which only the builder knows",
            "Name the image without it: an image of the stack is for one platform.",
        )
    return DockerfileError(
        f"{where} uses {variable}, which no ARG declares before the first FROM",
        f"Add `ARG {variable}=...` at the top of the file.",
    )


def _variables(
    body: tuple[Instruction, ...], outer: Mapping[str, str], build_args: Mapping[str, str]
) -> dict[str, str]:
    known: dict[str, str] = {}
    for instruction in body:
        if instruction.keyword == "ARG":
            for name, default in _pairs(_words(instruction.rest)):
                value = outer.get(name) if default is None else expand(default, known)
                value = build_args.get(name, value)
                if value is not None:
                    known[name] = value
        elif instruction.keyword == "ENV":
            for name, value in _environment(instruction.rest):
                text = expand(value or "", known)
                if text is None:
                    known.pop(name, None)  # it depends on what the image it is FROM sets
                else:
                    known[name] = text
    return known


def _words(rest: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError:
        return rest.split()


def _pairs(words: list[str]) -> list[tuple[str, str | None]]:
    return [(name, value if eq else None) for name, eq, value in (w.partition("=") for w in words)]


def _environment(rest: str) -> list[tuple[str, str | None]]:
    words = _words(rest)
    if "=" not in words[0]:
        return [(words[0], " ".join(words[1:]))]  # the old form `ENV name value`
    return _pairs(words)


_VARIABLE = re.compile(
    r"\\\$|\$(?:([A-Za-z_][A-Za-z0-9_]*)"
    r"|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+])((?:[^{}]|\{[^{}]*\})*))?\}|\{[^}]*\})"
)


def expand(text: str, variables: Mapping[str, str]) -> str | None:
    """Return `text` with $NAME, ${NAME}, ${NAME:-default}, ${NAME:+other} put in.

    Returns None if it uses a variable that has no value here.
    """
    unknown = False

    def value(match: re.Match[str]) -> str:
        nonlocal unknown
        if match[0] == r"\$":
            return "$"
        name, operator, word = match[1] or match[2], match[3], match[4]
        if name is None:  # ${NAME#pattern} and the like
            unknown = True
            return ""
        has = name in variables and (variables[name] != "" or ":" not in (operator or ""))
        if operator and has == operator.endswith("+"):
            other = expand(word, variables)
            unknown = unknown or other is None
            return other or ""
        if operator:
            return variables[name] if has else ""
        unknown = unknown or name not in variables
        return variables.get(name, "")

    out = _VARIABLE.sub(value, text)
    return None if unknown else out


def _sources_from(instruction: Instruction) -> Iterator[str]:
    """The images that an instruction copies or mounts from."""
    if instruction.keyword == "COPY" and (source := instruction.flag("from")):
        yield source
    if instruction.keyword == "RUN":
        for name, value in instruction.flags:
            options = mount_options(value) if name == "mount" else {}
            if "from" in options:
                yield options["from"]


def mount_options(value: str) -> dict[str, str]:
    """Return the options of `RUN --mount=...`."""
    return {k: v for k, _, v in (part.partition("=") for part in value.split(","))}


def with_references(dockerfile: Dockerfile, exact: Mapping[str, str]) -> str:
    """Return the text with every outside reference that `exact` names replaced by its exact one.

    Nothing else of the text changes. Raises DockerfileError for one that is broken over two lines.
    """
    written: dict[Instruction, dict[str, str]] = {}
    for instruction, raw, reference in dockerfile.written():
        if reference in exact:
            written.setdefault(instruction, {})[raw] = exact[reference]
    lines = dockerfile.text.split("\n")
    for instruction, new in written.items():
        block = "\n".join(lines[instruction.first - 1 : instruction.last])
        text, done = _replaced(block, instruction.keyword, new)
        if left := sorted(new.keys() - done):
            raise DockerfileError(
                f"{dockerfile.path}:{instruction.first}: {left[0]} cannot be pinned as written",
                "Write the reference whole, on one line.",
            )
        lines[instruction.first - 1 : instruction.last] = text.split("\n")
    return "\n".join(lines)


def _replaced(block: str, keyword: str, new: Mapping[str, str]) -> tuple[str, set[str]]:
    """Replace references in the text of one instruction; return the text and those found in it."""
    done: set[str] = set()

    def replacement(match: re.Match[str]) -> str:
        done.add(match[2])
        return match[1] + new[match[2]]

    any_raw = "|".join(re.escape(raw) for raw in new)
    start = rf"\A\ufeff?\s*{keyword}(?:{_GAP}+--(?:[^\s\\`]|[\\`](?!\s))+)*"
    if keyword == "FROM":
        pattern = re.compile(rf"({start}{_GAP}+)({any_raw}){_WORD_END}", re.IGNORECASE)
        return pattern.sub(replacement, block), done
    flags = re.match(start, block, re.IGNORECASE)
    end = flags.end() if flags else 0  # what follows is a command or a here-document
    pattern = re.compile(rf"(?<=[-,=])(from=)({any_raw})(?:(?=,)|{_WORD_END})")
    return pattern.sub(replacement, block[:end]) + block[end:], done
