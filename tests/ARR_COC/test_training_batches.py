"""Batches: labels on the answer only, and pixels as Qwen's own processor lays them out."""

from __future__ import annotations

import numpy as np
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ARR_COC.Training import batches, scenes, tokens


def test_only_the_answer_is_labelled_and_the_prompt_does_not_hold_it() -> None:
    digits = scenes.load("train")
    batch = batches.make(digits, 0, range(3), 4)
    input_ids, labels = batch.with_answers()
    expected = [
        tokens.IDS[str(digit)]
        for index in range(3)
        for _, digit in scenes.make(digits, 0, index, 4).questions()
    ]
    assert input_ids.shape == labels.shape == (12, batch.prompt_ids.shape[1] + 1)
    assert (labels[:, :-1] == batches.IGNORED).all()
    assert labels[:, -1].tolist() == input_ids[:, -1].tolist() == expected
    digit_ids = torch.tensor([tokens.IDS[digit] for digit in tokens.DIGITS])
    assert not torch.isin(batch.prompt_ids, digit_ids).any()


def test_each_prompt_asks_for_one_colour_and_has_a_place_for_every_image_token() -> None:
    words = [tokens.VOCABULARY[number] for number in tokens.prompt("cyan", batches.IMAGE_TOKENS)]
    assert words.count(tokens.IMAGE) == 9
    assert words[-6:] == ["which", "digit", "is", "framed", "in", "cyan"]


def test_patches_are_laid_out_as_by_the_processor_of_qwen() -> None:
    digits = scenes.load("train")
    pixels = np.stack([scenes.make(digits, 0, index, 1).pixels for index in range(2)])
    processor = Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, do_resize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    theirs = processor(images=list(pixels), return_tensors="pt")
    ours = batches.collate([scenes.make(digits, 0, index, 1) for index in range(2)])
    assert ours.image_grid_thw.tolist() == theirs["image_grid_thw"].tolist()
    torch.testing.assert_close(ours.pixel_values, theirs["pixel_values"], atol=1e-6, rtol=0)
