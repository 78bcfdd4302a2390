"""The reader: sharing an image between its questions changes nothing but the cost."""

from __future__ import annotations

import torch

from ARR_COC.Training import batches, model, scenes, tokens
from ARR_COC.Training.settings import resolve


def test_the_reader_gives_what_the_stock_model_gives_with_one_image_a_question() -> None:
    torch.manual_seed(0)
    reader = model.build(resolve(None, {}, []).settings.model_shape()).eval()
    batch = batches.make(scenes.load("train"), 0, range(2), 3)
    images = batch.pixel_values.view(2, 36, -1).repeat_interleave(3, dim=0)
    with torch.no_grad():
        ours = reader(batch.pixel_values, batch.image_grid_thw, batch.prompt_ids).logits
        theirs = reader.qwen(
            input_ids=batch.prompt_ids,
            pixel_values=images.flatten(0, 1),
            image_grid_thw=batch.image_grid_thw.repeat_interleave(3, dim=0),
            mm_token_type_ids=(batch.prompt_ids == tokens.IDS[tokens.IMAGE]).int(),
        ).logits
    assert ours.shape == (6, batch.prompt_ids.shape[1], len(tokens.VOCABULARY))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_every_weight_gets_a_gradient() -> None:
    reader = model.build(resolve(None, {}, []).settings.model_shape())
    batch = batches.make(scenes.load("train"), 0, range(2), 3)
    input_ids, labels = batch.with_answers()
    reader(batch.pixel_values, batch.image_grid_thw, input_ids, labels).loss.backward()
    assert [name for name, weight in reader.named_parameters() if weight.grad is None] == []
