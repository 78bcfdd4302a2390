"""Questions as token ids: the tiny vocabulary, and the chat template of a real Qwen3-VL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig

from ARR_COC import vocabulary
from ARR_COC.processing import BadInput, Processor

WORDS = ("which", "digit", "is", "framed", "in", "red")
QUESTION = "which digit is framed in red"
CHAT = """{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}
{%- for part in message.content %}{%- if part.type == 'image' %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else %}{{- part.text }}{%- endif %}
{%- endfor %}{{- '<|im_end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""
QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


@pytest.fixture
def tiny() -> Processor:
    return Processor.tiny(WORDS, context=64)


def chat_tokenizer(template: str | None = CHAT) -> PreTrainedTokenizerFast:
    """Return a small byte-level BPE with Qwen3-VL's special tokens and form of prompt."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(QWEN_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([QUESTION, "what does the sign say", "user assistant"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template,
        model_max_length=4096,
    )


@pytest.fixture
def qwen_folder(tmp_path: Path) -> Path:
    """A folder laid out as a published Qwen3-VL, without its weights."""
    tokenizer = chat_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in QWEN_TOKENS}
    Qwen3VLConfig(
        text_config={"vocab_size": len(tokenizer), "max_position_embeddings": 200},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    ).save_pretrained(tmp_path)
    size = {"shortest_edge": 65536, "longest_edge": 16777216}
    cut = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": size, **cut}))
    return tmp_path


def words(processor: Processor, ids: list[int]) -> list[str]:
    return list(processor.tokenizer.convert_ids_to_tokens(ids))


def test_a_tiny_prompt_is_the_image_then_a_token_for_each_known_word(tiny: Processor) -> None:
    assert words(tiny, tiny.prompt(QUESTION, 3)) == [
        "<vision_start>",
        *["<image>"] * 3,
        "<vision_end>",
        *QUESTION.split(),
    ]


def test_an_unknown_word_becomes_its_characters_and_every_digit_is_one_token(
    tiny: Processor,
) -> None:
    assert words(tiny, tiny.prompt("Row 407?", 1)[3:]) == [
        "R", "##o", "##w", "4", "##0", "##7", "##?",
    ]  # fmt: skip
    assert tiny.prompt("Red", 1) != tiny.prompt("red", 1)


def test_the_longest_known_piece_counts_first() -> None:
    processor = Processor.tiny(["in", "inner"], context=64)
    assert words(processor, processor.prompt("inners", 1)[3:]) == ["inner", "##s"]


@given(st.lists(st.text(vocabulary.CHARACTERS, min_size=1), min_size=1))
def test_an_answer_comes_back_as_it_was(parts: list[str]) -> None:
    text = " ".join(parts)
    ids = ROUND_TRIP.answer(text)
    assert ROUND_TRIP.decode(ids) == text
    assert ids[-1] == ROUND_TRIP.special.eos


ROUND_TRIP = Processor.tiny(WORDS, context=10_000)


def test_a_character_outside_the_vocabulary_does_not_hide_its_word(tiny: Processor) -> None:
    assert words(tiny, tiny.prompt("caf\u00e9 red", 1)[3:]) == ["c", "##a", "##f", "<unk>", "red"]


def test_decoding_stops_at_the_end_token(tiny: Processor) -> None:
    said = [*tiny.answer("17"), *tiny.answer("red"), tiny.special.pad]
    assert tiny.decode(torch.tensor(said)) == "17"


@pytest.mark.parametrize("word", ["a1", "", "two words", "\u00e9"])
def test_a_vocabulary_refuses_what_could_never_be_one_token(word: str) -> None:
    with pytest.raises(ValueError, match="vocabulary word"):
        vocabulary.build([word], 64)


def test_the_query_is_the_questions_own_words(tiny: Processor) -> None:
    positions = tiny.query("  which digit? ", 4)
    prompt = tiny.prompt("  which digit? ", 4)
    assert words(tiny, [prompt[n] for n in positions]) == ["which", "digit", "##?"]


def test_a_saved_processor_comes_back_the_same(tiny: Processor, tmp_path: Path) -> None:
    processor = Processor.tiny(WORDS, context=50, min_pixels=4096, max_pixels=65536)
    processor.save_pretrained(tmp_path)
    loaded = Processor.from_pretrained(tmp_path)
    assert loaded.special == processor.special
    assert (loaded.min_pixels, loaded.max_pixels, loaded.context) == (4096, 65536, 50)
    assert loaded.prompt(QUESTION + " 42!", 3) == processor.prompt(QUESTION + " 42!", 3)
    assert loaded.decode(processor.answer("A-7 (red)")) == "A-7 (red)"
    assert Processor.from_pretrained(tmp_path, max_pixels=5000).max_pixels == 5000


def test_a_chat_prompt_is_what_the_template_gives(qwen_folder: Path) -> None:
    processor = Processor.from_pretrained(qwen_folder)
    content = [{"type": "image"}, {"type": "text", "text": "what does the sign say?"}]
    whole = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, return_dict=False
    )
    place = whole.index(processor.special.image)
    expected = whole[:place] + [processor.special.image] * 5 + whole[place + 1 :]
    assert processor.prompt("what does the sign say?", 5) == expected
    asked = [expected[n] for n in processor.query("what does the sign say?", 5)]
    assert processor.tokenizer.decode(asked) == "what does the sign say?"


def test_a_question_that_the_template_holds_too_is_found_at_its_own_place(
    qwen_folder: Path,
) -> None:
    processor = Processor.from_pretrained(qwen_folder)
    prompt = processor.prompt("user", 2)
    asked = processor.query("user", 2)
    assert processor.tokenizer.decode(prompt[asked.start : asked.stop]) == "user"
    assert prompt[asked.start - 1] == processor.special.vision_end


def test_a_real_model_keeps_its_limits_and_ids(qwen_folder: Path, tmp_path: Path) -> None:
    processor = Processor.from_pretrained(qwen_folder)
    assert (processor.min_pixels, processor.max_pixels) == (65536, 16777216)
    assert processor.context == 200  # of the model, where the tokenizer would take more
    names = words(processor, [processor.special.image, processor.special.eos])
    assert names == ["<|image_pad|>", "<|im_end|>"]
    processor.save_pretrained(tmp_path / "copy")  # without the model's configuration
    copy = Processor.from_pretrained(tmp_path / "copy")
    assert copy.special == processor.special
    assert copy.prompt("say", 3) == processor.prompt("say", 3)


def test_what_is_not_a_qwen_is_refused(qwen_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot load a tokenizer"):
        Processor.from_pretrained(tmp_path / "absent")
    with pytest.raises(BadInput, match="places no image"):
        Processor(chat_tokenizer("{{ messages[0].content[1].text }}"))
    file = qwen_folder / "preprocessor_config.json"
    file.write_text(file.read_text().replace('"patch_size": 16', '"patch_size": 14'))
    with pytest.raises(BadInput, match="not cut as by Qwen3-VL"):
        Processor.from_pretrained(qwen_folder)


@pytest.mark.parametrize(
    ("question", "words_of_the_error"),
    [
        ("", "question is empty"),
        (" \n", "question is empty"),
        (7, "must be text"),
        (None, "must be text"),
        ("is <image> red", "holds <image>"),
        ("red " * 60, "the model takes 64"),
    ],
)
def test_a_question_that_cannot_be_asked(
    tiny: Processor, question: str, words_of_the_error: str
) -> None:
    with pytest.raises(BadInput, match=words_of_the_error):
        tiny.prompt(question, 9)


@pytest.mark.parametrize("answer", ["", "  ", 7, None, ["7"], "<eos>"])
def test_an_answer_that_cannot_be_learned(tiny: Processor, answer: str) -> None:
    with pytest.raises(BadInput, match="the answer"):
        tiny.answer(answer)


def test_the_context_is_filled_to_the_last_token(tiny: Processor) -> None:
    assert len(tiny.prompt("red", 61)) == 64
    with pytest.raises(BadInput, match="65 tokens, 62 of them for the image"):
        tiny.prompt("red", 62)


def test_limits_that_no_image_could_meet_are_refused() -> None:
    with pytest.raises(ValueError, match="min_pixels"):
        Processor.tiny(WORDS, 64, min_pixels=5000, max_pixels=4000)
    with pytest.raises(ValueError, match="min_pixels"):
        Processor.tiny(WORDS, 64, min_pixels=0)
