"""MoDiCF against the numbers of its published code (its specification, section 1.12)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mgstudy.errors import InputError
from mgstudy.models.modicf import ModalityAttention, MoDiCF
from mgstudy.models.propagation import propagate


def make_model(toy, **settings) -> MoDiCF:
    given = {
        "embedding_size": 8,
        "heads": 2,
        "regularization": 0.1,
        "feature_regularization": 0.01,
        "contrast_weight": 0.1,
        "reference": 0.0,
        **settings,
    }
    return MoDiCF(toy.dataset, MoDiCF.Parameters(**given))


def weights(model: MoDiCF, toy) -> dict[int, Tensor]:
    found = {0: model.user_embedding, 1: model.item_embedding}
    for first, encoders in ((2, model.encoders), (12, model.visibility_encoders)):
        for position, modality in enumerate(("image", "text")):
            for inner, layer in ((0, 0), (2, 2)):
                found |= toy.linear(first + 4 * position + inner, encoders[modality][layer])
    found |= toy.linear(20, model.visibility[0]) | toy.linear(22, model.visibility[2])
    if model.attention is not None:
        found[11] = model.attention.join
    return found


def test_with_interactions_for_graphs_it_agrees_with_the_published_code(toy) -> None:
    model = make_model(toy, modality_graph="interactions", compatibility="published")
    toy.check(
        model,
        weights(model, toy),
        loss=3.499727,
        scores="0.590647 0.544873 0.517352 0.561848 | -0.020240 -0.102272 -0.074827 | "
        "0.028208 0.503053 0.051729",
        gradients="0: 1.8540, 1: 0.38676, 2: 1.6858, 3: 1.6691, 4: 2.6215, 5: 2.5839, 6: 0.72691, "
        "7: 1.5635, 8: 1.6322, 9: 2.3041, 11: 1.1571, 12: 0.080727, 13: 0.030547, 14: 0.10975, "
        "15: 0.086523, 16: 0.030356, 17: 0.0044720, 18: 0.091360, 19: 0.054389, 20: 0.16318, "
        "21: 0.089718, 22: 0.035983, 23: 0.031732",
    )


def test_without_graphs_it_agrees_but_for_the_constant_contrast(toy) -> None:
    """The published contrast of empty graphs is 6.270988, whatever the weights."""
    model = make_model(toy)
    toy.check(
        model,
        weights(model, toy),
        loss=3.506174 - 0.1 * 6.270988,
        scores="0.633818 0.495121 0.549054 0.519153 | 0.033898 -0.050127 0.011198 | "
        "-0.039785 0.437970 0.092489",
        gradients="0: 0.039105, 1: 0.12629, 20: 0.15742",
    )


@pytest.mark.parametrize(
    ("reference", "scores"),
    [
        (0.01, "0.583695 0.537981 0.510336 0.554921 | -0.027191 -0.109164 -0.081844 | "
         "0.021192 0.496265 0.044387"),
        (1.0, "-0.104490 -0.144403 -0.184311 -0.130799 | -0.715376 -0.791548 -0.776491 | "
         "-0.673428 -0.175695 -0.682518"),
    ],
)  # fmt: skip
def test_ranking_takes_visibility_out(toy, reference: float, scores: str) -> None:
    model = make_model(
        toy, modality_graph="interactions", compatibility="published", reference=reference
    )
    toy.check(model, weights(model, toy), loss=None, scores=scores)


def test_attention_agrees_with_both_forms(toy) -> None:
    model = make_model(toy)
    toy.filled(model.item_embedding, 1)
    first = propagate(model.to_users, model.item_embedding)
    second = first * (torch.arange(len(first)) % 2)[:, None]
    sides = torch.stack([first, second])
    for corrected, expected in (
        (False, [0.0122052104, 0.0078365936]),
        (True, [0.0122050838, 0.0078361935]),
    ):
        attention = ModalityAttention(8, 2, corrected)
        for index, weight in ((11, attention.join), (10, attention.query), (24, attention.key)):
            if weight is not None:
                toy.filled(weight, index)
        joined = attention(sides)
        assert joined[0, :2].tolist() == pytest.approx(expected, abs=2e-8)
        assert joined[1, :2].tolist() == pytest.approx([0.0718147691, 0.0521255260], abs=1e-7)


def test_both_attentions_are_equal_where_all_graphs_are(toy) -> None:
    sides = torch.randn(1, 12, 8).expand(3, -1, -1)
    torch.manual_seed(1)
    published = ModalityAttention(8, 2, corrected=False)
    corrected = ModalityAttention(8, 2, corrected=True)
    corrected.join = published.join
    assert torch.allclose(published(sides), corrected(sides), atol=1e-6)


def test_the_contrast_and_its_gradients_are_its_definition(
    toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgstudy.models.losses._BLOCK_ROWS", {"cpu": 5})
    torch.manual_seed(0)
    views = torch.randn(2, 12, 8, dtype=torch.float64, requires_grad=True)
    users = torch.randn(12, 8, dtype=torch.float64, requires_grad=True)
    value = make_model(toy)._contrast((views, views), users)
    expected = torch.zeros((), dtype=torch.float64)
    own = functional.normalize(users)
    for view in functional.normalize(views, dim=2):
        among_views, among_users = ((view @ rows.t() / 0.5).exp() for rows in (view, own))
        others = among_views.sum(dim=1) - among_views.diagonal() + among_users.sum(dim=1)
        expected = expected - (among_users.diagonal() / others + 1e-8).log().mean()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        torch.autograd.grad(value, [views, users]), torch.autograd.grad(expected, [views, users])
    )


def test_heads_that_do_not_divide_the_size_are_refused(toy) -> None:
    with pytest.raises(InputError, match="not divisible by 3 heads"):
        make_model(toy, heads=3)
