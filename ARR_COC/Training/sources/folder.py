"""A local folder of images with the questions in data.jsonl, one JSON object a line.

    {"image": "a.png", "question": "what colour is the door", "answer": "red"}

`answer` may be a list (the most frequent counts), `evidence` a list of [left, top, right, bottom]
in pixels, `split` "train" or "validation". Several lines may ask about one image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ARR_COC import images
from ARR_COC.images import BadInput
from ARR_COC.Training.examples import Box, Example, Question, evidence_blocks
from ARR_COC.Training.sources.answers import one_answer, text

Part = Literal["train", "validation"]
PARTS: tuple[Part, Part] = ("train", "validation")
DATA = "data.jsonl"
_NEEDED = ("image", "question", "answer")
_KEYS = (*_NEEDED, "evidence", "split")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOptions:
    """Where the folder is, and the share of its images for validation where it does not say."""

    path: str
    validation_share: float = 0.1


@dataclass(frozen=True, slots=True)
class _Line:
    """One line, checked: `where` names file and line for messages."""

    where: str
    image: str
    question: Question
    split: Part | None


class Folder:
    """The images of one part, in the order in which the files first name them.

    Where train.jsonl or validation.jsonl exists, they are the parts; otherwise data.jsonl is parted
    by its `split` keys, and without any by a hash of the image's name, which stays where it is when
    images are added. Raises BadInput, naming file and line, for anything that cannot be used;
    only an image's own content is not looked at before example() reads it.
    """

    def __init__(self, options: FolderOptions, part: Part) -> None:
        self._root = Path(options.path).resolve()
        if not self._root.is_dir():
            raise BadInput(f"{options.path}: there is no such folder")
        if not 0 <= options.validation_share < 1:
            raise BadInput(f"validation_share {options.validation_share}: give 0 up to below 1")
        found: dict[str, list[_Line]] = {}
        parts: dict[str, Part] = {}
        for line in _lines(self._root):
            belongs = line.split or _hashed(line.image, options.validation_share)
            if parts.setdefault(line.image, belongs) != belongs:
                raise BadInput(
                    f"{line.where}: {line.image} is in train and in validation; keep it in one"
                )
            found.setdefault(line.image, []).append(line)
        self._examples = [found[image] for image, its_part in parts.items() if its_part == part]
        if not self._examples:
            raise BadInput(
                f"{options.path}: no image for {part} among {len(found)}; add images, or change "
                "the split or validation_share"
            )

    @property
    def size(self) -> int:
        """How many images the part has."""
        return len(self._examples)

    def example(self, index: int) -> Example:
        """Return image number `index` and all its questions; BadInput if it cannot be read."""
        if not 0 <= index < len(self._examples):
            raise IndexError(index)
        lines = self._examples[index]
        where = lines[0].where
        try:
            image = images.read(self._root / lines[0].image)
            for line in lines:
                where = line.where
                evidence_blocks(line.question.evidence, (1, 1), image.shape[:2])
        except ValueError as error:
            raise BadInput(f"{where}: {error}") from error
        return Example(image, tuple(line.question for line in lines))


def _hashed(image: str, share: float) -> Part:
    digest = hashlib.sha256(image.encode()).digest()
    return "validation" if int.from_bytes(digest[:8]) < share * 2**64 else "train"


def _lines(root: Path) -> Iterator[_Line]:
    """Yield all lines of the folder, each checked."""
    parted = {part: root / f"{part}.jsonl" for part in PARTS if (root / f"{part}.jsonl").exists()}
    if parted and (root / DATA).exists():
        raise BadInput(f"{root}: has {DATA} and {next(iter(parted))}.jsonl; keep one of the two")
    if parted:
        for part, file in parted.items():
            yield from _read(root, file, part)
        return
    if not (root / DATA).exists():
        raise BadInput(f"{root}: has no {DATA}; write one with a line for each question")
    lines = list(_read(root, root / DATA, None))
    marked = [line for line in lines if line.split]
    if marked and len(marked) < len(lines):
        bare = next(line for line in lines if not line.split)
        raise BadInput(f"{bare.where}: has no split, but {marked[0].where} has; mark all or none")
    yield from lines


def _read(root: Path, file: Path, part: Part | None) -> Iterator[_Line]:
    """Yield the lines of one file; `part` where the file is one part."""
    known: dict[str, str] = {}
    number = 0
    try:
        with file.open(encoding="utf-8-sig") as opened:
            for number, written in enumerate(opened, 1):
                if written.strip():
                    yield _checked(root, written, f"{file.name} line {number}", part, known)
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file.name} after line {number}: is not UTF-8; save it as UTF-8"
        ) from error
    except OSError as error:
        raise BadInput(f"{file.name}: cannot be read ({error.strerror})") from error
    if not known:
        raise BadInput(f"{file.name}: is empty; write a line for each question")


def _checked(
    root: Path, written: str, where: str, part: Part | None, known: dict[str, str]
) -> _Line:
    """Return one line as it counts; `known` maps image names that were looked up already."""
    try:
        entry = json.loads(written)
    except ValueError as error:
        raise BadInput(f"{where}: is not JSON ({error})") from error
    try:
        _check_keys(entry, part)
        name = text(entry["image"], "image")
        if name not in known:
            known[name] = _inside(root, name)
        question = Question(
            text(entry["question"], "question"),
            one_answer(entry["answer"]),
            _boxes(entry.get("evidence", [])),
        )
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    return _Line(where, known[name], question, part or entry.get("split"))


def _check_keys(entry: Any, part: Part | None) -> None:
    if not isinstance(entry, dict):
        raise BadInput('must be an object like {"image": ..., "question": ..., "answer": ...}')
    missing = [key for key in _NEEDED if key not in entry]
    if missing:
        raise BadInput(f"has no {' and no '.join(missing)}")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise BadInput(f"unknown key {unknown[0]!r}; there are {', '.join(_KEYS)}")
    if "split" in entry and part:
        raise BadInput(f"split is for {DATA}: here the file's name says it; remove the key")
    if entry.get("split", "train") not in PARTS:
        raise BadInput(f"split is {entry['split']!r}: it must be train or validation")


def _inside(root: Path, name: str) -> str:
    """Return the image's name within the folder; raises BadInput if there is no such file in it."""
    file = (root / name).resolve()
    if not file.is_relative_to(root):
        raise BadInput(f"image {name} is outside the folder; put it inside")
    if not file.is_file():
        raise BadInput(f"there is no image {name}")
    return file.relative_to(root).as_posix()


def _boxes(given: Any) -> tuple[Box, ...]:
    fits = isinstance(given, list) and all(
        isinstance(box, list) and len(box) == 4 and all(type(side) is int for side in box)
        for box in given
    )
    if not fits:
        raise BadInput(f"evidence is {given!r}: give [[left, top, right, bottom], ...] in pixels")
    return tuple((left, top, right, bottom) for left, top, right, bottom in given)
