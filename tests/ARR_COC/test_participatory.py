"""The coupling of blocks and question."""

from __future__ import annotations

import torch

from ARR_COC.participatory import Participation
from ARR_COC.texture import CHANNELS, texture


def images(count: int, rows: int = 2, columns: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 32 * rows, 32 * columns, generator=torch.Generator().manual_seed(1))


def coupling(part: Participation, seen: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(query.shape[:2], dtype=torch.bool)
    found: torch.Tensor = part(part.glimpses(seen, texture(seen)), query, mask)
    return found


def test_each_word_scores_where_its_best_glimpse_is() -> None:
    """The formula for one word, not spread: a log sigmoid(max_p q . v_p / sqrt(width))."""
    torch.manual_seed(0)
    part = Participation(6, width=4)
    seen, query = images(1), torch.randn(1, 1, 6)
    glimpses = part.glimpses(seen, texture(seen))
    word = torch.nn.functional.layer_norm(query[0, 0], (6,))
    match = torch.einsum("d,dyx->yx", part.meaning(word), glimpses[0]) / 2
    weight = torch.nn.functional.softplus(part.weight(word))
    expected = weight * torch.nn.functional.logsigmoid(match.view(2, 4, 3, 4).amax((1, 3)))
    assert torch.allclose(coupling(part, seen, query)[0], expected, atol=1e-5)


def test_a_word_that_is_missing_is_not_made_up_for_by_another() -> None:
    """Two blocks: one holds both words, the other the first one four times as clearly."""
    part = Participation(2, width=2)
    with torch.no_grad():
        part.meaning.weight.copy_(torch.eye(2))
        part.meaning.bias.zero_()
        part.weight.weight.zero_()
    glimpses = torch.zeros(1, 2, 4, 8)
    glimpses[0, 0, 0, 0], glimpses[0, 1, 0, 1] = 6.0, 6.0
    glimpses[0, 0, 0, 4], glimpses[0, 1, :, 4:] = 24.0, -6.0
    words = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
    found = part(glimpses, words, torch.ones(1, 2, dtype=torch.bool))[0, 0]
    assert found[0] > found[1]


def test_words_add_up_and_the_ones_that_are_masked_do_not_count() -> None:
    torch.manual_seed(0)
    part = Participation(6)
    seen, query = images(1), torch.randn(1, 3, 6)
    glimpses = part.glimpses(seen, texture(seen))
    alone = [part(glimpses, query[:, n : n + 1], torch.ones(1, 1).bool()) for n in range(2)]
    both = part(glimpses, query, torch.tensor([[True, True, False]]))
    assert torch.allclose(both, alone[0] + alone[1], atol=1e-5)


def test_a_question_without_words_couples_with_nothing() -> None:
    part = Participation(6)
    seen = images(1)
    mask = torch.zeros(1, 2, dtype=torch.bool)
    glimpses = part.glimpses(seen, texture(seen))
    assert not part(glimpses, torch.randn(1, 2, 6), mask).any()


def test_another_question_couples_with_other_blocks() -> None:
    torch.manual_seed(0)
    part = Participation(6)
    seen = images(1, 4, 4)
    one, other = (coupling(part, seen, torch.randn(1, 2, 6)) for _ in range(2))
    assert not torch.allclose(one, other)


def test_an_image_is_scored_by_itself() -> None:
    torch.manual_seed(0)
    part = Participation(6)
    seen, query = images(3), torch.randn(3, 2, 6)
    together = coupling(part, seen, query)
    alone = coupling(part, seen[1:2], query[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-5)


def test_the_glimpses_see_the_texture_too() -> None:
    torch.manual_seed(0)
    part = Participation(6)
    seen = images(1)
    looks = texture(seen)
    looks[:, CHANNELS.index("entropy"), 0, 0] += 1.0
    moved = (part.glimpses(seen, looks) - part.glimpses(seen, texture(seen))).abs().sum((0, 1))
    assert moved[:4, :4].min() > 0
    assert not moved[4:, 4:].any()
