import math

import pytest

torch = pytest.importorskip("torch")

from smalti.training.networks.autoencoder import FULL, NARROW, Autoencoder, Conv, grow


def parameters(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_parameters_are_as_many_as_published():
    model = Autoencoder()
    assert parameters(model.g_a) == 394_921
    assert parameters(model.g_s) == 396_009
    assert parameters(model) == 790_930


ANALYSIS = [
    *[(256, 28, 28), (128, 28, 28), (64, 28, 28), (64, 14, 14)],
    *[(32, 14, 14), (16, 14, 14), (8, 14, 14), (8, 7, 7)],
    *[(4, 7, 7), (2, 7, 7), (1, 7, 7)],
]
SYNTHESIS = [
    *[(2, 7, 7), (4, 7, 7), (8, 7, 7), (8, 14, 14)],
    *[(16, 14, 14), (32, 14, 14), (64, 14, 14), (64, 28, 28)],
    *[(128, 28, 28), (256, 28, 28), (1, 28, 28)],
]


def test_every_layer_has_the_published_shape():
    model = Autoencoder()
    steps = model.g_a.steps(torch.zeros(2, 1, 28, 28))
    assert [tuple(h.shape[1:]) for h in steps] == ANALYSIS
    assert [tuple(h.shape[1:]) for h in model.g_s.steps(steps[-1])] == SYNTHESIS


def test_kernels_and_activations_are_as_published():
    model = Autoencoder()
    kernels = [[layer.k for layer in part.layers if isinstance(layer, Conv)] for part in (model.g_a, model.g_s)]
    assert kernels == [[3, 3, 3, 3, 3, 1, 3, 1, 1], [1, 3, 3, 3, 3, 3, 3, 3, 3]]
    activations = [
        layer.activation for part in (model.g_a, model.g_s) for layer in part.layers if isinstance(layer, Conv)
    ]
    assert activations == ["relu"] * 17 + ["tanh"]


def test_weights_start_glorot_uniform_and_biases_zero():
    for conv in Autoencoder().g_a.convs:
        fan = (conv.in_channels + conv.out_channels) * conv.kernel_size[0] ** 2
        limit = math.sqrt(6 / fan)
        assert conv.weight.abs().max() <= limit
        assert conv.bias.abs().max() == 0
        if conv.weight.numel() > 1000:
            assert conv.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.1)


def test_a_grown_network_computes_the_same_and_has_live_new_weights():
    torch.manual_seed(1)
    narrow = Autoencoder(NARROW)
    for p in narrow.parameters():
        p.data.abs_().add_(0.01).mul_(0.1)  # biases too, so that no channel is dead and the end does not saturate
    wide = grow(narrow)
    assert wide.wide == FULL
    x = torch.rand(3, 1, 28, 28)
    y = narrow.g_a(x)
    torch.testing.assert_close(wide.g_a(x), y)
    torch.testing.assert_close(wide.g_s(y), narrow.g_s(y))
    assert 0 < narrow.g_s(y).max() < 0.99
    wide.g_a(x).mean().backward()
    new = wide.g_a.convs[1].weight.grad[: NARROW[1], NARROW[0] :]
    assert new.abs().max() > 0


def test_a_network_cannot_shrink():
    with pytest.raises(ValueError, match="shrink"):
        grow(Autoencoder((16, 16, 16)), (8, 16, 16))
