"""Images and questions as the tensors and token ids of Qwen3-VL, for tiny models and real ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ARR_COC import images, vocabulary
from ARR_COC.images import BadInput, Picture, Pixels
from ARR_COC.vocabulary import SpecialIds

__all__ = ["BadInput", "Processor", "SpecialIds"]

MIN_PIXELS, MAX_PIXELS = 32 * 32, 512 * 512
_REMEMBERED = 100_000  # texts; about 0.5 KB each
_Ids = TypeVar("_Ids")


@dataclass(frozen=True, slots=True)
class Asked:
    """A tokenised prompt round its image: ids before and after the run of image tokens.

    after[start:stop] are the question's own words.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    start: int
    stop: int


class Processor:
    """Turns pictures into patch rows and questions into token ids, and ids back into text.

    `tokenizer` is a tiny one of vocabulary.build or that of a Qwen3-VL with its chat template;
    images are brought between min_pixels and max_pixels; `context` is the most tokens of a row.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        *,
        min_pixels: int = MIN_PIXELS,
        max_pixels: int = MAX_PIXELS,
        context: int | None = None,
        special: SpecialIds | None = None,
    ) -> None:
        block = images.BLOCK**2
        if not block <= min_pixels <= max_pixels:
            raise ValueError(
                f"min_pixels {min_pixels} and max_pixels {max_pixels}: "
                f"need {block} <= min_pixels <= max_pixels"
            )
        self.tokenizer = tokenizer
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        self.context = context or tokenizer.model_max_length
        self.special = special or vocabulary.special_ids(tokenizer, {})
        self._before, self._after = vocabulary.template(tokenizer)
        opening = tokenizer.backend_tokenizer.encode(self._before, add_special_tokens=False)
        if opening.ids.count(self.special.image) != 1:
            raise BadInput("the chat template places no image: use the tokenizer of a Qwen3-VL")
        self._reserved = [
            token.content for token in tokenizer.added_tokens_decoder.values() if token.special
        ]
        self._asked: dict[str, Asked] = {}
        self._answers: dict[str, tuple[int, ...]] = {}

    @classmethod
    def tiny(
        cls,
        words: Iterable[str],
        context: int,
        *,
        min_pixels: int = MIN_PIXELS,
        max_pixels: int = MAX_PIXELS,
    ) -> Processor:
        """Return a processor with a vocabulary of its own: `words` are one token each."""
        tokenizer = vocabulary.build(words, context)
        return cls(tokenizer, min_pixels=min_pixels, max_pixels=max_pixels)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
    ) -> Processor:
        """Load from a folder or a hub name; limits given here replace the saved ones.

        Raises BadInput if nothing of that name can be had, or it is not that of a Qwen3-VL.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
            config, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
            pictures, _ = Qwen2VLImageProcessorPil.get_image_processor_dict(name, revision=revision)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{name}: cannot load a tokenizer and image limits from there ({error}); "
                "give a folder with tokenizer.json and preprocessor_config.json, or a hub name"
            ) from error
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise BadInput(f"{name}: its tokenizer has no tokenizer.json: use one that has")
        cut = pictures.get("patch_size"), pictures.get("merge_size"), pictures.get("image_mean")
        if cut != (images.PATCH, images.MERGE, [0.5, 0.5, 0.5]):
            raise BadInput(f"{name}: its images are not cut as by Qwen3-VL (16 px, merged 2 x 2)")
        size = pictures["size"]
        longest = config.get("text_config", {}).get("max_position_embeddings")
        return cls(
            tokenizer,
            min_pixels=min_pixels or size["shortest_edge"],
            max_pixels=max_pixels or size["longest_edge"],
            context=min(longest or tokenizer.model_max_length, tokenizer.model_max_length),
            special=vocabulary.special_ids(tokenizer, config),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and preprocessor_config.json."""
        self.tokenizer.save_pretrained(folder)
        Qwen2VLImageProcessorPil(
            patch_size=images.PATCH,
            merge_size=images.MERGE,
            temporal_patch_size=images.TEMPORAL,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
            size={"shortest_edge": self.min_pixels, "longest_edge": self.max_pixels},
        ).save_pretrained(folder)

    def pixels(self, picture: Picture) -> Pixels:
        """Return the picture as RGB [H, W, 3] in whole blocks within the limits, else BadInput."""
        return images.fit(images.read(picture), self.min_pixels, self.max_pixels)

    def image(self, picture: Picture) -> tuple[torch.Tensor, tuple[int, int]]:
        """Return patch rows [P, 1536] in -1..1 and the image's height and width in patches."""
        pixels = self.pixels(picture)
        grid = pixels.shape[0] // images.PATCH, pixels.shape[1] // images.PATCH
        return images.patches(pixels[None]), grid

    def prompt(self, question: str, blocks: int) -> list[int]:
        """Return the ids of an image of `blocks` tokens and the question; the answer follows.

        Raises BadInput for a question that is not text, empty, or too long for the context.
        """
        asked = self.asked(question)
        length = len(asked.before) + blocks + len(asked.after)
        self.check_length(length, blocks)
        return [*asked.before, *[self.special.image] * blocks, *asked.after]

    def query(self, question: str, blocks: int) -> range:
        """Return the positions of the question's own words in prompt(question, blocks)."""
        asked = self.asked(question)
        shift = len(asked.before) + blocks
        return range(shift + asked.start, shift + asked.stop)

    def answer(self, text: str) -> tuple[int, ...]:
        """Return the ids of an answer and the end token; BadInput if it is empty or not text."""
        known = self._answers.get(text) if isinstance(text, str) else None
        if known is None:
            plain = self._plain(text, "answer")
            encoded = self.tokenizer.backend_tokenizer.encode(plain, add_special_tokens=False)
            known = (*encoded.ids, self.special.eos)
            _remember(self._answers, text, known)
        return known

    def decode(self, ids: Sequence[int] | torch.Tensor) -> str:
        """Return the text of the ids up to the first end token, without special tokens."""
        numbers = [int(number) for number in ids]
        if self.special.eos in numbers:
            numbers = numbers[: numbers.index(self.special.eos)]
        return str(self.tokenizer.decode(numbers, skip_special_tokens=True)).strip()

    def check_length(self, length: int, blocks: int) -> None:
        """Raise BadInput if a row of `length` tokens, `blocks` of them the image, is too long."""
        if length > self.context:
            raise BadInput(
                f"the prompt has {length:,} tokens, {blocks:,} of them for the image, and the "
                f"model takes {self.context:,}: shorten the text, or lower max_pixels"
            )

    def asked(self, question: str) -> Asked:
        """Return the tokenised prompt round its image; remembered, as training asks again."""
        known = self._asked.get(question) if isinstance(question, str) else None
        if known is not None:
            return known
        text = self._plain(question, "question")
        whole = self._before + text + self._after
        encoded = self.tokenizer.backend_tokenizer.encode(whole, add_special_tokens=False)
        first, last = len(self._before), len(self._before) + len(text)
        own = [
            n for n, (left, right) in enumerate(encoded.offsets) if left < last and right > first
        ]
        image = encoded.ids.index(self.special.image)
        asked = Asked(
            before=tuple(encoded.ids[:image]),
            after=tuple(encoded.ids[image + 1 :]),
            start=own[0] - image - 1,
            stop=own[-1] - image,
        )
        _remember(self._asked, question, asked)
        return asked

    def _plain(self, text: object, role: str) -> str:
        """Return the text without blanks at its ends; raises BadInput if it cannot be used."""
        if not isinstance(text, str):
            raise BadInput(f"the {role} is {text!r}: it must be text, in quotes")
        stripped = text.strip()
        if not stripped:
            raise BadInput(f"the {role} is empty: write at least one word")
        for token in self._reserved:
            if token in stripped:
                raise BadInput(f"the {role} holds {token}, a sign that steers the model: remove it")
        return stripped


def _remember(known: dict[str, _Ids], text: str, ids: _Ids) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[text] = ids
