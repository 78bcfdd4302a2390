"""Tokenizers: one made for tiny models, and what has to be known of one to lay out a prompt."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

from ARR_COC.images import BadInput

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
VISION_START, IMAGE, VIDEO, VISION_END = "<vision_start>", "<image>", "<video>", "<vision_end>"
SPECIAL = (PAD, EOS, UNKNOWN, VISION_START, IMAGE, VIDEO, VISION_END)
CHARACTERS = string.digits + string.ascii_letters + string.punctuation
_MARK = "\ue000"  # private use: stands for the question while the template is taken apart
_NAMES = ("vision_start", "image", "video", "vision_end")
_QWEN = ("<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>")
INSIDE = "##"
"""Marks a piece that goes on with the word before it, as in BERT's WordPiece: 42 is 4 and ##2."""


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Token ids that a Qwen3-VL configuration and its generation need."""

    vision_start: int
    image: int
    video: int
    vision_end: int
    pad: int
    eos: int


def build(
    words: Iterable[str], context: int, characters: str = CHARACTERS
) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose vocabulary is SPECIAL, the characters, and `words` in their order.

    For tiny models, which the 150,000 entries of a real model's tokenizer would dwarf.
    Greedy longest match from the left within what blanks separate; case is kept, decoding gives the
    text back (runs of blanks as one), a character outside `characters` is UNKNOWN. `context` is the
    most tokens the model takes. Raises ValueError for a word that could not be one token.
    """
    wanted = list(dict.fromkeys(words))
    for word in wanted:
        known = bool(word) and set(word) <= set(characters)
        if not known or (len(word) > 1 and any(one.isdigit() for one in word)):
            raise ValueError(f"vocabulary word {word!r}: use letters and punctuation, no digits")
    pieces = [*SPECIAL, *characters, *(INSIDE + one for one in characters), *wanted]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(
        WordPiece(
            vocabulary,
            unk_token=UNKNOWN,
            continuing_subword_prefix=INSIDE,
            max_input_chars_per_word=1000,
        )
    )
    tokenizer.normalizer = normalizers.NFC()
    strange = Regex(f"[^{re.escape(characters)}\\s]")  # would make its whole word UNKNOWN
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(strange, "isolated")]
    )
    tokenizer.decoder = decoders.WordPiece(INSIDE, cleanup=False)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        extra_special_tokens={
            "vision_start_token": VISION_START,
            "image_token": IMAGE,
            "video_token": VIDEO,
            "vision_end_token": VISION_END,
        },
        clean_up_tokenization_spaces=False,
        model_max_length=context,
        padding_side="right",
    )


def template(tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """Return what stands before and after the question, with one image token before it."""
    if tokenizer.chat_template is None:
        image = [getattr(tokenizer, f"{name}_token", "") for name in ("vision_start", "image")]
        return "".join(image) + str(getattr(tokenizer, "vision_end_token", "")), ""
    content: Any = [{"type": "image"}, {"type": "text", "text": _MARK}]
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    before, _, after = str(rendered).partition(_MARK)
    return before, after


def special_ids(tokenizer: PreTrainedTokenizerFast, config: dict[str, Any]) -> SpecialIds:
    """Return the ids from a model's configuration, else from the tokenizer, else by Qwen's names.

    Raises BadInput if the tokenizer has no image token or no end token.
    """
    ids: dict[str, Any] = {}
    for name, qwen in zip(_NAMES, _QWEN, strict=True):
        found = config.get(f"{name}_token_id", getattr(tokenizer, f"{name}_token_id", None))
        ids[name] = found if found is not None else tokenizer.get_vocab().get(qwen)
    eos: Any = tokenizer.eos_token_id
    pad: Any = tokenizer.pad_token_id
    missing = [name for name, number in {**ids, "eos": eos}.items() if number is None]
    if missing:
        raise BadInput(
            f"the tokenizer has no token for {', '.join(missing)}: use the one of a Qwen3-VL"
        )
    return SpecialIds(**ids, eos=int(eos), pad=int(eos if pad is None else pad))
