import numpy as np
import pytest
import torch

from mgstudy.models.item_graphs import weighted_neighbour_matrix
from mgstudy.models.propagation import propagate
from mgstudy.models.smore import FUSION, SMORE, SpectralLinear, fusion_item_graph, spectral_product


def test_agrees_with_the_specification(toy) -> None:
    parameters = SMORE.Parameters(
        embedding_size=8,
        layers=2,
        image_neighbour_count=3,
        other_neighbour_count=4,
        dropout=0.0,
        regularization=0.1,
        contrastive_weight=0.01,
    )
    model = SMORE(toy.dataset, parameters)
    views = ("image", "text", FUSION)
    tensors = {
        0: model.user_embedding,
        1: model.item_embedding,
        2: model.features.table("image"),
        3: model.features.table("text"),
        **toy.linear(4, model.projections["image"]),
        **toy.linear(6, model.projections["text"]),
    }
    for offset, modality in ((8, "image"), (11, "text")):
        tensors |= toy.linear(offset, model.attentions[modality][0])
        tensors[offset + 2] = model.attentions[modality][2].weight
    for position, view in enumerate(views):
        tensors |= toy.linear(14 + 2 * position, model.purifiers[view].map)
        tensors |= toy.linear(20 + 2 * position, model.preferences[view])
        tensors[26 + position] = model.purifiers[view].response
    toy.check(
        model,
        tensors,
        loss=0.670084,
        scores="-0.023144 -0.019654 -0.003543 -0.016626 | 0.064316 -0.029960 0.033946 | "
        "-0.099769 0.025133 0.008146",
        gradients="0: 0.060146, 1: 0.084717, 2: 1.8908e-4, 4: 1.6503e-4, 8: 2.2089e-5, "
        "10: 5.1353e-4",
    )


@pytest.mark.parametrize("size", [1, 7, 8])
def test_a_spectral_linear_map_filters_and_then_maps(size: int) -> None:
    torch.manual_seed(0)
    layer = SpectralLinear(size)
    rows = torch.randn(5, size)
    filtered = torch.fft.irfft(
        torch.fft.rfft(rows, norm="ortho") * torch.view_as_complex(layer.response),
        n=size,
        norm="ortho",
    )
    torch.testing.assert_close(layer(rows), layer.map(filtered))


def test_the_spectral_product_is_a_scaled_circular_convolution() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 3, 6)
    expected = torch.zeros(3, 6)
    for i in range(6):
        for j in range(6):
            expected[:, (i + j) % 6] += first[:, i] * second[:, j] / 6**0.5
    torch.testing.assert_close(spectral_product([first, second]), expected)


def test_the_fusion_graph_has_the_larger_of_the_present_values(toy) -> None:
    # With all items as neighbours of one modality, similarities below zero are among the values.
    counts = {"image": 3, "text": 24}
    matrices = [weighted_neighbour_matrix(toy.dataset, *pair) for pair in counts.items()]
    dense = np.stack(
        [np.where(matrix.astype(bool).toarray(), matrix.toarray(), -np.inf) for matrix in matrices]
    )
    expected = dense.max(axis=0)
    assert (expected < 0).any()
    graph = fusion_item_graph(toy.dataset, counts)
    actual = propagate(graph, torch.eye(24)).numpy()
    np.testing.assert_allclose(actual, np.where(np.isinf(expected), 0, expected), atol=1e-6)


def test_dropout_acts_on_the_gates_in_training_only(toy) -> None:
    torch.manual_seed(0)
    model = SMORE(toy.dataset, SMORE.Parameters(embedding_size=8, dropout=0.5)).train()
    assert model.loss(toy.batch) != model.loss(toy.batch)
    model.eval()
    assert model.loss(toy.batch) == model.loss(toy.batch)
