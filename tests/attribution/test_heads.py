"""The heads in small: any number of levels and images, both modes, features of the wrong model."""

import itertools

import pytest
import torch

from ovamgen.attribution.heads.datasetdm import DatasetDmHead, DatasetDmShape
from ovamgen.attribution.heads.grounded import GroundedHead, GroundedShape
from ovamgen.attribution.heads.pyramid import MixBlock, SpectralConv
from ovamgen.attribution.heads.running import run_head
from ovamgen.errors import MethodError

CHANNELS = (12, 10, 8, 6)
GROUNDED = GroundedShape(
    channels=CHANNELS, widths=(2, 2, 4, 4), text_width=5, width=16, feedforward=24, heads=2
)
DATASETDM = DatasetDmShape(
    channels=CHANNELS, text_width=5, width=16, feedforward=24, heads=2, layers=4, queries=5
)
KINDS = {"grounded": (GroundedHead, GROUNDED), "datasetdm": (DatasetDmHead, DATASETDM)}


def head(kind, shape=None):
    network, own = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return network(shape or own)


def features(images, channels=CHANNELS, finest=(16, 24), seed=0):
    """Two items a level, for so many images."""
    random = torch.Generator().manual_seed(seed)
    levels = []
    for place, count in enumerate(channels):
        divisor = 2 ** (len(channels) - 1 - place)
        size = [side // divisor for side in finest]
        shape = (images, count // 2, *size)
        levels.append([torch.randn(shape, generator=random) for _ in range(2)])
    return levels


def one(levels, image):
    return [[item[image : image + 1] for item in items] for items in levels]


def said(kind, output):
    """The tensors of an answer, in a tuple."""
    return (output,) if kind == "grounded" else (output[-1].classes, output[-1].masks)


def text(kind):
    vector = torch.linspace(-1, 1, 5)
    return vector[None] if kind == "grounded" else vector


@pytest.mark.parametrize("mode", ["official", "eval"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_judged_alone_whatever_came_before_it(kind, mode):
    network = head(kind)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    levels = features(3)
    first = [said(kind, run_head(network, mode, one(levels, i), text(kind))) for i in range(3)]
    again = [said(kind, run_head(network, mode, one(levels, i), text(kind))) for i in (2, 0)]
    for a, b in zip(first[2], again[0], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(first[0], again[1], strict=True):
        assert torch.equal(a, b)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_modes_differ_and_training_moves_the_state(kind):
    network = head(kind)
    levels, vector = one(features(1), 0), text(kind)
    official = said(kind, run_head(network, "official", levels, vector))
    evaluated = said(kind, run_head(network, "eval", levels, vector))
    assert not torch.allclose(official[-1], evaluated[-1], atol=1e-3)
    # called as the released script calls it, the network answers the same, and then moves
    trained = said(kind, network.train()(levels, vector))
    torch.testing.assert_close(trained[-1], official[-1])
    moved = said(kind, run_head(network, "official", levels, vector))
    assert not torch.equal(moved[-1], official[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_follow_the_picture(kind):
    network = head(kind)
    for finest in ((16, 24), (24, 16), (32, 32)):
        output = run_head(network, "eval", one(features(1, finest=finest), 0), text(kind))
        if kind == "grounded":
            assert output.shape == (1, finest[0] * 8, finest[1] * 8)
        else:
            assert len(output) == DATASETDM.layers + 1
            assert output[-1].masks.shape == (5, finest[0] * 5 // 2, finest[1] * 5 // 2)
            assert output[-1].classes.shape == (5, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_unet_of_three_levels_has_the_finer_three(kind):
    shape = {
        "grounded": GroundedShape(
            channels=(12, 8, 6), widths=(2, 4, 4), text_width=5, width=16, feedforward=24, heads=2
        ),
        "datasetdm": DatasetDmShape(
            channels=(12, 8, 6), text_width=5, width=16, feedforward=24, heads=2, layers=4
        ),
    }[kind]
    network = head(kind, shape)
    assert not any(name.startswith("low") for name in network.state_dict())
    levels = one(features(1, channels=(12, 8, 6)), 0)
    output = said(kind, run_head(network, "official", levels, text(kind)))
    assert torch.isfinite(output[-1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_read_from_the_weights(kind):
    _, own = KINDS[kind]
    found = type(own).of(head(kind).state_dict())
    # heads are not in the weights
    assert found == type(own)(**{**{f: getattr(own, f) for f in own.__slots__}, "heads": 8})


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_another_model_are_refused(kind):
    levels = one(features(1, channels=(12, 10, 8, 8)), 0)
    with pytest.raises(MethodError, match=r"12, 10, 8, 6 channels.*12, 10, 8, 8.*train one"):
        run_head(head(kind), "eval", levels, text(kind))


def test_a_singular_value_is_found_by_training_and_left_by_evaluation():
    convolution = SpectralConv(6, 4, 3).requires_grad_(False)
    x = torch.zeros(1, 6, 5, 5)
    for _ in range(200):
        convolution(x)
    largest = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
    torch.testing.assert_close(convolution.sv0[0], largest)
    before = convolution.u0.clone()
    convolution.eval()(x)
    assert torch.equal(convolution.u0, before)


def test_the_shortcut_adds_what_was_activated():
    block = MixBlock(3, 3).requires_grad_(False)
    main = []
    block.conv2.register_forward_hook(lambda module, args, output: main.append(output))
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    centred = x - x.mean((2, 3), keepdim=True)
    activated = (centred / (x.var((2, 3), correction=0, keepdim=True) + 1e-4).sqrt()).relu()
    torch.testing.assert_close(block(x), main[0] + activated)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_of_the_two_halves_are_not_interchangeable(kind):
    network = head(kind)
    levels = one(features(1), 0)
    swapped = [[torch.cat(item.chunk(2, 1)[::-1], 1) for item in items] for items in levels]
    plain, other = (
        said(kind, run_head(network, "eval", given, text(kind)))[-1] for given in (levels, swapped)
    )
    assert (plain - other).abs().max() > 1e-3


def test_each_query_of_grounded_sees_the_others():
    network = head("grounded")
    levels = one(features(1), 0)
    rows = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    alone = [run_head(network, "eval", levels, row[None])[0] for row in rows]
    together = run_head(network, "eval", levels, rows)
    assert all(not torch.allclose(a, b, atol=1e-4) for a, b in zip(alone, together, strict=True))
    # but not their order
    for order in itertools.permutations(range(3)):
        permuted = run_head(network, "eval", levels, rows[list(order)])
        torch.testing.assert_close(permuted, together[list(order)], rtol=1e-4, atol=1e-5)
