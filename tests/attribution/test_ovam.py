import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ovamgen.attribution.interface import ClassTarget
from ovamgen.attribution.maps import resize
from ovamgen.attribution.ovam import ChosenMaps, Ovam, PairMaps, TextMaps
from ovamgen.attribution.stored import StoredQueries
from ovamgen.diffusion.recorder import cross_attention_layers
from ovamgen.diffusion.text import encode_text
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import MethodError
from tests.attribution.stored_maps import evaluate
from tests.golden.reference import OVAM_FILE, recorded, reference, tiny_sd

BRANCHES = ["unconditional", "conditional"]
CALLS, HEADS, LAYERS = 6, 4, 15
MAXIMUM = CALLS * HEADS * LAYERS


def assert_close(ours, theirs, relative=1e-4):
    """Largest difference against the largest value and, harder, against the map's own span."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= relative * np.abs(theirs).max()
    assert np.abs(ours - theirs).max() <= 10 * relative * np.ptp(theirs)


class TestGolden:
    @pytest.mark.parametrize("branch", BRANCHES)
    def test_texts(self, branch):
        golden = reference(OVAM_FILE)
        prompt, word = recorded(branch).texts.result()[:2]
        assert_close(prompt[0], golden[f"{branch}/text_prompt"])
        assert_close(word[0], golden[f"{branch}/text_word"])

    @pytest.mark.parametrize("branch", BRANCHES)
    def test_pairs_by_softmax(self, branch):
        maps = torch.cat(recorded(branch).texts.result()[2:])
        assert_close(maps, reference(OVAM_FILE)[f"{branch}/token_pairs"])

    @pytest.mark.parametrize("branch", BRANCHES)
    def test_pairs_by_sigmoid(self, branch):
        classes = recorded(branch).classes
        golden = reference(OVAM_FILE)[f"{branch}/token_pairs"]
        assert_close(classes.result()[0], golden[:, 1])
        assert_close(classes.sums.maximum - classes.result()[0], golden[:, 0])

    @pytest.mark.parametrize("branch", BRANCHES)
    def test_pairs_at_image_size(self, branch):
        maps = resize(torch.cat(recorded(branch).texts.result()[2:]), (128, 128))
        assert_close(maps, reference(OVAM_FILE)[f"{branch}/token_pairs_expanded"])

    def test_the_halves_differ(self):
        """Trap 1.6 (a): no test above could pass with the wrong half."""
        maps = [recorded(branch).classes.result() for branch in BRANCHES]
        assert (maps[0] - maps[1]).abs().max() > 1e-2 * maps[0].max()


class TestParity:
    """Methods 2.7; check 2 is in tests/diffusion/test_recorder.py, check 3 too."""

    @pytest.mark.parametrize("branch", BRANCHES)
    def test_1_tokens_sum_to_the_maximum(self, branch):
        run = recorded(branch)
        assert run.texts.sums.maximum == run.classes.sums.maximum == MAXIMUM
        for maps in run.texts.result():
            torch.testing.assert_close(maps.sum(1), torch.full((1, 16, 16), float(MAXIMUM)))

    def test_4_one_row_is_constant_and_twins_share(self):
        run = recorded("unconditional")
        row = run.rows[1][1:2]
        alone = evaluate(run.stored, run.layers, row)
        twins = evaluate(run.stored, run.layers, row.repeat(2, 1))
        torch.testing.assert_close(alone, torch.full_like(alone, MAXIMUM))
        torch.testing.assert_close(twins, torch.full_like(twins, MAXIMUM / 2))

    def test_5_a_pair_is_a_sigmoid_of_score_differences(self):
        run = recorded("unconditional")
        background, foreground = run.pairs[0]
        expected = torch.zeros(1, 16, 16)
        for call in run.stored.calls:
            layer = run.layers[call.layer]
            to_k = layer.to_k.weight
            heads, head_dim = call.queries.shape[1], call.queries.shape[3]
            difference = (to_k @ foreground - to_k @ background).view(heads, head_dim)
            score = torch.einsum("bnpd,nd->bnp", call.queries, difference) * head_dim**-0.5
            maps = torch.sigmoid(score).sum(1).view(1, 1, *call.size)
            expected += torch.nn.functional.interpolate(maps, size=(16, 16), mode="bilinear")[:, 0]
        torch.testing.assert_close(run.classes.result()[:, 0], expected, rtol=1e-4, atol=1e-3)

    def test_6_permuting_tokens_permutes_channels(self):
        run = recorded("unconditional")
        order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
        shuffled = evaluate(run.stored, run.layers, run.rows[0][order])
        torch.testing.assert_close(shuffled, run.texts.result()[0][:, order], rtol=1e-4, atol=1e-3)

    def test_6_padding_changes_values(self):
        run = recorded("unconditional")
        padded = encode_text(tiny_sd().pipe, "cat", padded=True).rows
        with_padding = evaluate(run.stored, run.layers, padded)[:, :3]
        assert (with_padding - run.texts.result()[1]).abs().max() > 0.1 * MAXIMUM


@pytest.mark.parametrize("branch", BRANCHES)
def test_online_sums_equal_stored_queries(branch):
    run = recorded(branch)
    assert run.stored.maximum == MAXIMUM
    for rows, maps in zip([*run.rows, *run.pairs], run.texts.result(), strict=True):
        stored = evaluate(run.stored, run.layers, rows)
        torch.testing.assert_close(stored, maps, rtol=1e-4, atol=1e-3)


def test_stored_maps_are_differentiable_in_the_rows():
    run = recorded("unconditional")
    few = StoredQueries(run.stored.calls[:LAYERS])
    rows = run.pairs[0].double().float().requires_grad_()
    loss = evaluate(few, run.layers, rows)[:, 1].mean()
    (gradient,) = torch.autograd.grad(loss, rows)
    step = torch.zeros_like(rows)
    step[1, 3] = 0.05
    with torch.no_grad():
        ahead = evaluate(few, run.layers, rows + step)[:, 1].mean()
        behind = evaluate(few, run.layers, rows - step)[:, 1].mean()
    assert gradient[1, 3].item() == pytest.approx((ahead - behind).item() / 0.1, rel=0.02)


def test_texts_of_any_lengths_come_back_in_their_order():
    run = recorded("conditional")
    texts = [run.rows[0][:3], run.rows[0], run.pairs[1], run.rows[1], run.rows[0][:1]]
    maps = TextMaps(run.layers, texts)
    for call in run.stored.calls[:LAYERS]:
        maps.update(call.layer, call.queries, call.size)
    few = StoredQueries(run.stored.calls[:LAYERS])
    for rows, found in zip(texts, maps.result(), strict=True):
        expected = evaluate(few, run.layers, rows)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def few_calls():
    return recorded("conditional").stored.calls[: 2 * LAYERS]


def fed(maps, dtype=torch.float32):
    for call in few_calls():
        maps.update(call.layer, call.queries.to(dtype), call.size)
    return maps


def mixed_texts():
    """Texts of several lengths, not in their order, and one row of each."""
    run = recorded("conditional")
    texts = [run.rows[0], run.pairs[0], run.rows[1], run.rows[0][:4], run.pairs[1]]
    return texts, [5, 1, 0, 2, 1]


def test_chosen_rows_are_those_of_all_rows():
    run = recorded("conditional")
    texts, channels = mixed_texts()
    every = fed(TextMaps(run.layers, texts)).result()
    expected = torch.stack([m[:, c] for m, c in zip(every, channels, strict=True)], dim=1)
    chosen = fed(ChosenMaps(run.layers, texts, channels))
    torch.testing.assert_close(chosen.result(), expected, rtol=1e-4, atol=1e-3)
    # 5 classes of 16x16, 8x8 and 4x4 cells in float32, whatever the texts' lengths
    assert chosen.sums.nbytes == 5 * 336 * 4
    assert chosen.sums.maximum == 2 * HEADS * LAYERS


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float16, 5e-4), (torch.bfloat16, 4e-3)])
def test_halves_against_float32_of_the_same_queries(dtype, relative):
    """Products are rounded, sums are not: maps differ by less than one rounding of a half."""
    layers = cross_attention_layers(copy.deepcopy(tiny_sd().pipe.unet).to(dtype))
    texts, channels = mixed_texts()
    stored = StoredQueries()
    for call in few_calls():
        stored.update(call.layer, call.queries.to(dtype), call.size)
    rows = zip(texts, channels, strict=True)
    exact = torch.stack([evaluate(stored, layers, text)[:, c] for text, c in rows], dim=1)
    chosen = fed(ChosenMaps(layers, texts, channels), dtype).result()
    pairs = fed(PairMaps(layers, torch.stack([texts[1], texts[4]])), dtype).result()
    assert chosen.dtype == pairs.dtype == torch.float32
    assert (chosen - exact).abs().max() < relative * exact.max()
    assert (pairs - exact[:, [1, 4]]).abs().max() < relative * exact.max()


def test_a_small_difference_of_rows_survives_halves():
    """Rounding the rows' keys and not their difference would leave little of it."""
    layers = cross_attention_layers(copy.deepcopy(tiny_sd().pipe.unet).half())
    row = 20 * recorded("conditional").rows[0][1]
    moved = row + 1e-2 * recorded("conditional").rows[0][2]
    text = torch.stack([row, moved, row])
    exact = fed(TextMaps(layers, [text])).result()[0][:, 1:2]
    found = fed(ChosenMaps(layers, [text], [1]), torch.float16).result()
    assert (found - exact).abs().max() < 0.02 * (exact.max() - exact.min())


def test_a_batch_has_sums_of_its_own():
    """The keys are projected once for all batches; the last bits of float32 words are kept."""
    run = recorded("conditional")
    target = ClassTarget(name="cat", rows=run.rows[1], channel=1)
    for dtype, kind in ((torch.float32, TextMaps), (torch.float16, ChosenMaps)):
        unet = copy.deepcopy(tiny_sd().pipe.unet).to(dtype)
        loaded = dataclasses.replace(tiny_sd(), pipe=SimpleNamespace(unet=unet))
        method = Ovam(PipelineAttention(loaded), [target])
        one, other = method.open(["a"]), method.open(["b"])
        assert isinstance(one.maps, kind)
        fed(one, dtype)
        assert (one.maximum, other.maximum) == (2 * HEADS * LAYERS, 0)
        again = fed(other, dtype).class_maps()
        assert torch.equal(one.class_maps(), again)
        assert again.shape == (1, 1, 16, 16)


def test_a_row_alone_is_refused():
    with pytest.raises(MethodError, match=r"at least two rows, got lengths \[3, 1\]"):
        ChosenMaps(recorded("conditional").layers, [torch.zeros(3, 24), torch.zeros(1, 24)], [1, 0])


@pytest.mark.parametrize("texts", [[], [torch.zeros(0, 24)]])
def test_empty_texts_are_refused(texts):
    with pytest.raises(MethodError, match="at least one"):
        TextMaps(recorded("conditional").layers, texts)


def test_no_pairs_are_refused():
    with pytest.raises(MethodError, match="at least one pair"):
        PairMaps(recorded("conditional").layers, torch.zeros(0, 2, 24))


def test_state_does_not_grow_with_calls():
    run = recorded("unconditional")
    maps = PairMaps(run.layers, run.pairs)
    sizes = []
    for _ in range(3):
        for call in run.stored.calls:
            maps.update(call.layer, call.queries, call.size)
        sizes.append(maps.sums.nbytes)
    positions = 16 * 16 + 8 * 8 + 4 * 4
    assert sizes == [positions * 3 * 4] * 3
    assert run.stored.nbytes == sum(c.queries.numel() * 4 for c in run.stored.calls)
