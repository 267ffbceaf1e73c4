"""HIIMA against section S5.1 of its specification, which no paper's code stands behind."""

import pytest
import torch

from mgstudy.models.hiima import HIIMA


def make_model(dataset, **settings) -> HIIMA:
    given = {"neighbour_count": 3, "regularization": 0.1, "isolation_weight": 0.05, **settings}
    return HIIMA(dataset, HIIMA.Parameters(embedding_size=8, **given))


def tensors_of(model: HIIMA, toy) -> dict[int, torch.Tensor]:
    modalities = model.features.modalities
    found = {0: model.user_embedding, 1: model.item_embedding}
    for position, modality in enumerate(modalities):
        found[2 + 5 * position] = model.preferences[modality]
        found |= toy.linear(3 + 5 * position, model.projections[modality])
        found |= toy.linear(5 + 5 * position, model.purifiers[modality])
    after = 2 + 5 * len(modalities)
    found |= toy.linear(after, model.attention[0])
    found[after + 2] = model.attention[2].weight
    return found | toy.linear(after + 3, model.behaviour_gate)


@pytest.mark.parametrize(
    ("modalities", "loss", "scores", "gradients"),
    [
        (
            ["image", "text"],
            0.723139,
            "0.004996 0.027236 0.011008 -0.042179 | 0.063755 -0.020202 0.049263 | "
            "-0.072213 0.022824 -0.006591",
            "0: .069905, 1: .070092, 2: .015886, 3: .043117, 4: .025249, 5: .0050328, 6: .0062928, "
            "7: .016807, 8: .055137, 9: .038318, 10: .0061024, 11: .0074859, 12: .024774, "
            "13: .0043504, 14: .022605, 15: .0080174, 16: .016817",
        ),
        (
            ["text"],
            0.762389,
            "0.091279 0.133966 0.095664 -0.038358 | 0.025664 -0.015154 0.002538 | "
            "0.014312 -0.008448 0.136176",
            "",
        ),
    ],
)
def test_agrees_with_the_specification(toy, modalities, loss, scores, gradients) -> None:
    dataset = toy.dataset.with_features({name: toy.dataset.features[name] for name in modalities})
    model = make_model(dataset)
    toy.check(model, tensors_of(model, toy), loss=loss, scores=scores, gradients=gradients)
