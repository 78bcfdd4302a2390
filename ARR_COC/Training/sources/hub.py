"""Visual questions from a Hugging Face data set, by name or from a local folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ARR_COC import images
from ARR_COC.images import BadInput
from ARR_COC.Training.examples import Example, Question
from ARR_COC.Training.sources.answers import one_answer, text
from ARR_COC.Training.sources.folder import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """Which data set, and which of its columns and splits mean what.

    `name` is owner/name, or a folder that Dataset.save_to_disk wrote or that holds Parquet files or
    images. `revision` pins a commit: without it the newest counts, and a resumed run may see other
    data. `answer` may be a column of several people's answers, as in VQAv2.
    """

    name: str
    config: str | None = None
    revision: str | None = None
    image: str = "image"
    question: str = "question"
    answer: str = "answer"
    train_split: str = "train"
    validation_split: str = "validation"
    cache: str | None = None


class Hub:
    """The rows of one split, one question each, in the data set's own order.

    Raises BadInput if the data set, the split or a column cannot be had, naming those there are.
    """

    def __init__(self, options: HubOptions, part: Part) -> None:
        split = options.train_split if part == "train" else options.validation_split
        self._where = f"{options.name} [{split}]"
        self._options = options
        rows = _load(options, split)
        for role, column in (
            ("image", options.image),
            ("question", options.question),
            ("answer", options.answer),
        ):
            if column not in rows.column_names:
                raise BadInput(
                    f"{self._where}: there is no column {column!r} for the {role}; "
                    f"there are {', '.join(rows.column_names)}"
                )
        if not len(rows):
            raise BadInput(f"{self._where}: has no rows")
        self._rows = _undecoded(rows, options)

    @property
    def size(self) -> int:
        """How many rows the split has."""
        return len(self._rows)

    def example(self, index: int) -> Example:
        """Return row number `index`; BadInput, naming the row, if it cannot be used."""
        if not 0 <= index < len(self._rows):
            raise IndexError(index)
        row, options = self._rows[index], self._options
        try:
            question = Question(
                text(row[options.question], options.question), one_answer(row[options.answer])
            )
            return Example(images.read(_picture(row[options.image])), (question,))
        except BadInput as error:
            raise BadInput(f"{self._where} row {index}: {error}") from error


def _load(options: HubOptions, split: str) -> Any:
    """Return the split's datasets.Dataset. Imported here: it takes a second, and few need it."""
    import datasets  # type: ignore[import-untyped]

    folder = Path(options.name)
    written = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if written:
            loaded = datasets.load_from_disk(options.name)
            return _split(loaded, split, options.name)
        return datasets.load_dataset(
            options.name,
            options.config,
            split=split,
            revision=options.revision,
            cache_dir=options.cache,
        )
    except BadInput:
        raise
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{options.name} [{split}]: cannot be loaded ({error}); check the name, the split and "
            "the network, or give a local folder"
        ) from error


def _split(loaded: Any, split: str, name: str) -> Any:
    """Return one split of what load_from_disk gave: a dictionary of splits, or only one."""
    if not isinstance(loaded, dict):
        loaded = {str(loaded.split or "train"): loaded}
    if split not in loaded:
        raise BadInput(f"{name}: there is no split {split!r}; there are {', '.join(loaded)}")
    return loaded[split]


def _undecoded(rows: Any, options: HubOptions) -> Any:
    """Return the three columns, images as the bytes of their files, so that all are read alike."""
    from datasets import Image

    kept = rows.select_columns(list({options.image, options.question, options.answer}))
    if isinstance(kept.features[options.image], Image):
        kept = kept.cast_column(options.image, Image(decode=False))
    return kept


def _picture(value: Any) -> images.Picture:
    """Return the image of a cell: a file's bytes or path."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, bytes | str):
        raise BadInput("its image column holds no image")
    return value
