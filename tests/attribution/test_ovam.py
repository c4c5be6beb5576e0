import numpy as np
import pytest
import torch

from ovamgen.attribution.maps import resize
from ovamgen.attribution.ovam import PairMaps, TextMaps
from ovamgen.attribution.stored import StoredQueries, evaluate
from ovamgen.diffusion.text import encode_text
from ovamgen.errors import MethodError
from tests.golden.reference import (
    OVAM_FILE,
    recorded,
    reference,
    tiny_sd,
)

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
