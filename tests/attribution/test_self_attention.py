"""Self-attention against explicit matrices and numpy; methods 2.6 and check 7 of 2.7."""

import numpy as np
import pytest
import torch

from ovamgen.attribution import self_attention
from ovamgen.attribution.method import build_method
from ovamgen.attribution.ovam import PairMaps
from ovamgen.attribution.refinement import less_entropy, refine
from ovamgen.attribution.self_attention import AttentionAffinity, ReceivedAttention
from ovamgen.attribution.targets import phrase_targets
from ovamgen.config import MaskConfig
from ovamgen.diffusion.text import encode_text
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import MethodError
from tests.attribution.drawings import AttentionInputs, draw, probabilities
from tests.golden.reference import tiny_sd

PROMPTS = ("a cat", "a dog")


def affinity_of(positions, power=1, **settings):
    return AttentionAffinity(
        MaskConfig(
            **{"self_attention": "affinity"} | settings,
            self_attention_positions=positions,
            self_attention_power=power,
        )
    )


def model():
    return PipelineAttention(tiny_sd())


def self_paths():
    return [layer.name.replace("attn2", "attn1") for layer in model().layers]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def drawing():
    """Both kinds on one drawing of two images, and the matrices by einsum."""
    received = ReceivedAttention()
    affinity = affinity_of(40, 3)
    with AttentionInputs(self_paths()) as inputs:
        draw([(received, "unconditional"), (affinity, "conditional")], PROMPTS)
    matrices = [(path, probabilities(path, hidden, None)) for path, hidden, _ in inputs.calls]
    assert len(matrices) == 15
    return received, affinity, matrices


def test_received_is_the_column_sum_of_every_matrix(drawing):
    received, _, matrices = drawing
    total = torch.zeros(2, 8, 16, dtype=torch.float64)
    for _, matrix in matrices:
        columns = matrix[:2].sum((1, 2))  # the unconditional half comes first
        height = int((columns.shape[1] / 2) ** 0.5)
        square = columns.reshape(2, 1, height, 2 * height)
        total += torch.nn.functional.interpolate(square, (8, 16), mode="bilinear")[:, 0]
    low, high = total.amin((1, 2), keepdim=True), total.amax((1, 2), keepdim=True)
    expected = (total - low) / (high - low)
    torch.testing.assert_close(received.result().double(), expected, rtol=1e-4, atol=1e-4)
    assert received.result().std() > 0.05


def test_affinity_is_the_mean_matrix_of_one_resolution(drawing):
    _, affinity, matrices = drawing
    of_size = [matrix[2:] for _, matrix in matrices if matrix.shape[-1] == 4 * 8]
    assert len(of_size) == 5
    expected = torch.cat(of_size, 1).mean(1).float()
    torch.testing.assert_close(affinity.matrix, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(affinity.matrix.sum(-1), torch.ones(2, 32))
    assert affinity.nbytes == 2 * 32 * 32 * 4


def test_affinity_multiplies_maps_by_a_power(drawing):
    _, affinity, _ = drawing
    maps = random(2, 3, 8, 16, seed=1).abs()
    small = torch.nn.functional.avg_pool2d(maps, 2).flatten(2)
    power = torch.linalg.matrix_power(affinity.matrix, 3)
    expected = torch.einsum("bij,bkj->bki", power, small).reshape(2, 3, 4, 8)
    expected = torch.nn.functional.interpolate(expected, (8, 16), mode="bilinear")
    spread = affinity.refine(maps)
    torch.testing.assert_close(spread, expected)
    assert spread.min() >= small.min() - 1e-5
    assert spread.max() <= small.max() + 1e-5
    flat = torch.full((2, 1, 8, 16), 0.7)
    torch.testing.assert_close(affinity.refine(flat), flat)


def test_smaller_maps_take_the_size_of_the_matrix(drawing):
    """Dataset Diffusion: cross-attention of 16 by the fourth power of self-attention of 32."""
    _, affinity, _ = drawing
    maps = random(2, 3, 2, 4, seed=3).abs()
    fitted = torch.nn.functional.interpolate(maps, (4, 8), mode="bicubic").clamp(min=0)
    for power in (1, 4):
        settings = MaskConfig(self_attention="affinity", self_attention_power=power)
        found = refine(maps, affinity.matrix, affinity.size, settings)
        matrix = np.linalg.matrix_power(affinity.matrix.numpy().astype(np.float64), power)
        expected = np.einsum("bij,bkj->bki", matrix, fitted.flatten(2).numpy())
        assert found.shape == (2, 3, 4, 8)
        np.testing.assert_allclose(found.flatten(2).numpy(), expected, rtol=1e-4, atol=1e-6)


def iterated(column, matrix, times, step):
    """iSeg's rounds of one map, in float64."""
    scaled = matrix / matrix.max(axis=0)
    with np.errstate(divide="ignore"):
        sharp = np.where(scaled > 0, scaled + step * np.log10(np.e * scaled), 0).clip(0)
    sharp /= sharp.sum(axis=1)[:, None]
    plain = scaled / scaled.sum(axis=1)[:, None]
    entropy = [-(m[m > 0] * np.log(m[m > 0])).sum() for m in (plain, sharp)]
    assert entropy[1] < entropy[0]
    column = (column - column.min()) / (column - column.min()).sum()
    for _ in range(times):
        column = sharp @ column
        column = (column - column.min()) / (column - column.min()).sum()
    return column


@pytest.mark.parametrize(("times", "step"), [(1, 0.015), (3, 0.1), (10, 0.015), (10, 0.5)])
def test_iterated_maps_are_those_of_the_released_code(times, step):
    matrix = (3 * random(2, 32, 32, seed=4)).softmax(-1)
    maps = random(2, 3, 4, 8, seed=5).abs()
    settings = MaskConfig(
        self_attention="iterated",
        self_attention_iterations=times,
        self_attention_entropy_step=step,
    )
    found = refine(maps, matrix, (4, 8), settings)
    for image in range(2):
        for row in range(3):
            column = maps[image, row].flatten().double().numpy()
            expected = iterated(column, matrix[image].double().numpy(), times, step)
            expected *= column.max() / expected.max()
            actual = found[image, row].flatten().numpy()
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=2e-4)
    assert found.amax((2, 3)).numpy() == pytest.approx(maps.amax((2, 3)).numpy())


def test_iterating_a_map_without_contrast_is_zero_and_not_nan():
    matrix = torch.eye(8)[None] * 0.5 + 0.0625
    maps = torch.stack([torch.full((2, 4), 0.7), random(2, 4, seed=6).abs()])[None]
    settings = MaskConfig(self_attention="iterated", self_attention_entropy_step=0.9)
    found = refine(maps, matrix, (2, 4), settings)
    assert (found[0, 0] == 0).all()
    assert found[0, 1].isfinite().all()
    assert found[0, 1].max() > 0
    # a key that nobody attends to, and a row that sharpening leaves nothing of
    odd = torch.tensor([[[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [1e-6, 1e-6, 0.0]]])
    sharp = less_entropy(odd, 0.5)
    torch.testing.assert_close(sharp[0, 2], odd[0, 2])
    torch.testing.assert_close(sharp[0, :2], odd[0, :2])


def test_the_published_factor_is_a_constant():
    """Methods 2.7 check 7: sums over the rows of a softmax, in float64."""
    queries, keys = random(1, 8, 64, 40).double(), random(1, 8, 64, 40, seed=1).double()
    residue = (queries @ keys.mT * 40**-0.5).softmax(-1).sum(-1)
    assert residue.max() - residue.min() < 1e-12


def test_even_attention_is_a_factor_of_one_and_not_nan():
    """Methods 2.7 check 7: rounding is not blown up to a factor."""
    received = ReceivedAttention()
    queries = torch.zeros(2, 4, 64, 8)
    queries[1] = random(4, 64, 8)
    received.update_self(0, queries, random(2, 4, 64, 8, seed=1), (8, 8), 8**-0.5)
    result = received.result()
    assert (result[0] == 1).all()
    assert (result[1].min(), result[1].max()) == (0, 1)


@pytest.mark.parametrize("chunk", [1, 700, 2**24])
def test_matrices_are_summed_in_parts(monkeypatch, chunk):
    monkeypatch.setattr(self_attention, "_CHUNK_ELEMENTS", chunk)
    queries, keys = random(2, 4, 12, 8), random(2, 4, 12, 8, seed=1)
    matrix = (queries @ keys.mT * 0.3).softmax(-1)
    received, affinity = ReceivedAttention(), affinity_of(12)
    for sink in (received, affinity):
        sink.update_self(0, queries, keys, (3, 4), 0.3)
    columns = matrix.sum((1, 2)).reshape(2, 3, 4)
    low, high = columns.amin((1, 2), keepdim=True), columns.amax((1, 2), keepdim=True)
    torch.testing.assert_close(received.result(), (columns - low) / (high - low))
    torch.testing.assert_close(affinity.matrix, matrix.mean(1))


def test_the_largest_resolution_within_the_bound_is_kept():
    affinity = affinity_of(16)
    sizes = [(2, 2), (8, 8), (4, 4), (2, 2), (4, 4)]
    parts = [random(1, 2, h * w, 8, seed=index) for index, (h, w) in enumerate(sizes)]
    for part, size in zip(parts, sizes, strict=True):
        affinity.update_self(0, part, part, size, 0.3)
    kept = [(parts[index] @ parts[index].mT * 0.3).softmax(-1).mean(1) for index in (2, 4)]
    torch.testing.assert_close(affinity.matrix, (kept[0] + kept[1]) / 2)
    empty = affinity_of(3)
    empty.update_self(0, parts[0], parts[0], (2, 2), 0.3)
    with pytest.raises(MethodError, match="at most 3 positions was recorded"):
        empty.refine(torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("kind", ["received", "affinity", "iterated"])
@pytest.mark.parametrize("method", ["ovam", "daam", "attn2mask"])
def test_every_method_can_have_it_and_its_state_does_not_grow(method, kind):
    def encode(text):
        return encode_text(tiny_sd().pipe, text)

    targets = phrase_targets({"cat": "cat"}, encode)
    masks = MaskConfig(self_attention=kind, self_attention_positions=32)
    sizes = []
    for steps in (1, 2):
        plain = build_method(method, model(), targets).open(PROMPTS)
        refined = build_method(method, model(), targets, masks).open(PROMPTS)
        draw([(plain, "unconditional"), (refined, "unconditional")], PROMPTS, steps=steps)
        sizes.append(refined.nbytes)
        assert refined.maximum == plain.maximum
        assert refined.problem(1, 0) == plain.problem(1, 0)
        maps, before = refined.class_maps(), plain.class_maps()
        assert maps.shape == before.shape
        assert plain.factor() is None
        if kind == "received":
            assert torch.equal(maps, before)
            assert refined.factor().shape == (2, 8, 16)
        else:
            assert refined.factor() is None
            # a power evens maps out; iterated ones are spread from 0 to the peak that they had
            assert (maps[0].std() < before[0].std()) == (kind == "affinity")
    assert sizes[0] == sizes[1]


def test_a_wrapped_pair_sink_is_as_without():
    """Recording more does not change what is recorded of cross-attention."""
    pairs = random(2, 2, 24)
    one, other = PairMaps(model().layers, pairs), PairMaps(model().layers, pairs)
    received = ReceivedAttention()
    draw([(one, "conditional")])
    draw([(other, "conditional"), (received, "conditional")])
    assert torch.equal(one.result(), other.result())
