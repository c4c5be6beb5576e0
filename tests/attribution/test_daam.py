"""DAAM against the published library and against einsum; the parity checks of methods 1.7."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ovamgen.attribution.daam import Daam, DaamMaps, PromptContext
from ovamgen.attribution.interface import ClassTarget
from ovamgen.attribution.ovam import TextMaps
from ovamgen.attribution.targets import pair_targets, phrase_targets
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.random_weights import skeleton_of
from ovamgen.diffusion.recorder import cross_attention_layers
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.diffusion.text import encode_text
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import MethodError
from tests.attribution.drawings import AttentionInputs, draw, probabilities
from tests.attribution.test_ovam import assert_close
from tests.golden.reference import DAAM_FILE, reference, tiny_sd

TABLE = "a dining table and a cat and a dining table"
TABLE_ROWS = (2, 3, 11, 12)


def model():
    return PipelineAttention(tiny_sd())


def encode(text, **options):
    return encode_text(tiny_sd().pipe, text, **options)


def context(prompt, kept=range(77), image=0):
    return PromptContext(image=image, rows=encode(prompt, padded=True).rows, kept=tuple(kept))


def words(*phrases):
    return phrase_targets({phrase: phrase for phrase in phrases}, encode)


@functools.cache
def golden_drawing():
    """The reference's drawing: 64x64 latents, 4 PNDM steps."""
    golden = reference(DAAM_FILE)
    maps = DaamMaps(model().layers, [context(str(golden["prompt"]))])
    latents = torch.from_numpy(golden["latents"])
    settings = SynthesisConfig(steps=4, guidance=7.5, height=512, width=512)
    Synthesiser(tiny_sd(), settings).draw(
        [str(golden["prompt"])], [0], listeners=[(maps, "conditional")], latents=latents
    )
    return maps


def test_golden():
    (maps,) = golden_drawing().result()
    assert maps.shape == (77, 64, 64)
    assert_close(maps[:7], reference(DAAM_FILE)["heat_maps"])


class FromHost(TorchDispatchMode):
    """While active, lists operations on what is in the host's memory, and indexing by a tensor.

    A list as an index becomes a tensor out of a mode's sight; all that is seen is its use.
    """

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        parts = tree_leaves((args, kwargs, result))
        indexed = func in (torch.ops.aten.index.Tensor, torch.ops.aten.lift_fresh.default)
        if indexed or any(
            isinstance(part, torch.Tensor) and part.device.type == "cpu" for part in parts
        ):
            self.operations.append(str(func))
        return result


@pytest.mark.parametrize("kind", ["words", "pairs"])
def test_nothing_comes_from_the_host_while_it_is_drawn(kind):
    """A Python list as an index is copied to the device at every use (issue 12, point 15)."""

    class OnMeta:
        name = "tiny"
        context_width = 24
        layers = cross_attention_layers(skeleton_of(tiny_sd().pipe.unet))

        def check_self_attention(self):
            pass

        def encode(self, text, **options):
            found = encode(text, **options)
            return dataclasses.replace(found, rows=found.rows.to("meta"))

    targets = words("dining table", "cat")
    if kind == "pairs":
        pair = torch.zeros(2, 24)
        targets = [dataclasses.replace(target, rows=pair, channel=1) for target in targets]
    method = Daam(OnMeta(), targets)
    with FromHost() as seen:
        sink = method.open([TABLE, "a cat"])
        encoding = len(seen.operations)
        for layer in (0, 1, 0, 1):
            heads, width = OnMeta.layers[layer].heads, OnMeta.layers[layer].head_dim
            sink.update(layer, torch.empty(2, heads, 4, width, device="meta"), (2, 2))
        maps = sink.class_maps()
    assert maps.shape == (2, 2, 2, 2)
    assert seen.operations[encoding:] == []


class TestParity:
    """Methods 1.7; check 4 is in tests/diffusion/test_recorder.py, 6 in tests/masks."""

    def test_1_heads_of_15_layers_at_three_factors(self):
        raw = golden_drawing().raw(0)
        assert sum(len(maps) for maps in raw) == 15 * 4
        sides = [maps.shape[2] for maps in raw]
        assert {64 // side: sides.count(side) for side in sides} == {1: 5, 2: 5, 4: 5}

    def test_2_all_tokens_of_a_raw_map_sum_to_the_calls(self):
        assert golden_drawing().maximum == 5
        for maps in golden_drawing().raw(0):
            torch.testing.assert_close(maps.sum(1), torch.full_like(maps[:, 0], 5.0))

    def test_3_einsum_of_what_the_layers_were_given(self):
        """The padded prompt is the context that draws, and the half is the conditional one."""
        maps = DaamMaps(model().layers, [context(TABLE)])
        with AttentionInputs([layer.name for layer in model().layers]) as inputs:
            draw([(maps, "conditional")], [TABLE])
        assert len(inputs.calls) == 15
        sums = {}
        for path, hidden, text in inputs.calls:
            sums[path] = sums.get(path, 0) + probabilities(path, hidden, text)[1]
        resized = []
        for values in sums.values():
            height = int((values.shape[1] / 2) ** 0.5)
            square = values.mT.reshape(-1, 1, height, 2 * height)
            up = torch.nn.functional.interpolate(square, (8, 16), mode="bicubic").clamp(min=0)
            resized.append(up.reshape(-1, 77, 8, 16))
        expected = torch.cat(resized).mean(0).float()
        assert (maps.result()[0] - expected).abs().max() < 1e-5

    def test_5_a_phrase_is_the_mean_of_all_subtokens_of_all_occurrences(self):
        prompt = DaamMaps(model().layers, [context(TABLE)])
        table = Daam(model(), words("dining table", "cat")).open([TABLE])
        draw([(prompt, "conditional"), (table, "conditional")], [TABLE])
        (maps,) = prompt.result()
        expected = torch.stack([maps[list(TABLE_ROWS)].mean(0), maps[7]])
        torch.testing.assert_close(table.class_maps()[0], expected)
        assert table.maximum == prompt.maximum == 1


def test_it_is_ovam_of_the_padded_prompt_on_the_conditional_half():
    """Style 5: given the generation prompt, all 77 tokens and that half, per layer."""
    text = encode("a cat", padded=True).rows
    layers = model().layers
    daam = DaamMaps(layers, [context("a cat")])
    each = [TextMaps([layer], [text]) for layer in layers]

    class Spread:
        def update(self, layer, queries, size):
            each[layer].update(0, queries, size)

    draw([(daam, "conditional"), (Spread(), "conditional")], ["a cat"])
    for maps, ovam in zip(daam.raw(0), each, strict=True):
        torch.testing.assert_close(maps.sum(0), ovam.result()[0][0], rtol=1e-5, atol=1e-5)


def test_batches_attend_to_each_their_own_prompt():
    prompts = ["a cat", "a dog and a cat", "a horse"]
    method = Daam(model(), words("cat", "dog"))
    together = method.open(prompts)
    draw([(together, "conditional")], prompts)
    maps = together.class_maps()
    assert maps.shape == (3, 2, 8, 16)
    present = [[together.problem(image, target) is None for target in (0, 1)] for image in range(3)]
    assert present == [[True, False], [True, True], [False, False]]
    assert maps.amax((2, 3)).gt(0).tolist() == present
    assert together.problem(2, 1) == (
        "daam has maps of the prompt's own words only, and 'dog' is not in the prompt 'a horse': "
        "name it there, or use the method ovam or daam-ovam"
    )
    alone = method.open(prompts[1:2])
    latents = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(1))
    draw([(alone, "conditional")], prompts[1:2], latents=latents)
    torch.testing.assert_close(alone.class_maps()[0], maps[1], rtol=1e-4, atol=1e-4)


def test_only_absent_words_give_zero_maps_of_the_right_size():
    sink = Daam(model(), words("cat")).open(["a dog"])
    draw([(sink, "conditional")], ["a dog"])
    assert not sink.class_maps().any()
    assert sink.class_maps().shape == (1, 1, 8, 16)


def test_a_pair_stands_in_for_the_words_of_the_class():
    """The extension of methods 1.6: the class row alone, in every place of the phrase."""
    draws = np.random.default_rng(0)
    pairs = draws.normal(size=(2, 2, 24)).astype(np.float32)
    bank = TokenBank(class_names=("cat", "diningtable"), pairs=pairs)
    targets = pair_targets(bank, dict(zip(bank.class_names, ["cat", "dining table"], strict=True)))
    sink = Daam(model(), targets).open([TABLE])
    rows = encode(TABLE, padded=True).rows
    for row in TABLE_ROWS:
        rows[row] = torch.from_numpy(pairs[1, 1])
    injected = DaamMaps(model().layers, [PromptContext(image=0, rows=rows, kept=TABLE_ROWS)])
    plain = draw([], [TABLE])
    drawn = draw([(sink, "conditional"), (injected, "conditional")], [TABLE])
    assert (plain.pixels == drawn.pixels).all()
    maps = injected.result()[0]
    torch.testing.assert_close(maps[0], maps[1])
    torch.testing.assert_close(sink.class_maps()[0, 1], maps.mean(0))


def test_prompts_that_are_cut_when_drawn_are_cut_when_attributed():
    prompt = "a cat " + "and a dog " * 40 + "and a horse"
    with pytest.raises(MethodError, match="75 tokens"):
        encode(prompt)
    sink = Daam(model(), words("cat", "horse")).open([prompt])
    assert sink.problem(0, 0) is None
    assert "'horse' is not in the prompt" in sink.problem(0, 1)
    maps = DaamMaps(model().layers, [])
    assert len(encode(prompt, padded=True, cut=True).rows) == 77
    assert maps.nbytes == 0


def test_state_does_not_grow_with_steps():
    sizes = []
    for steps in (1, 4):
        sink = Daam(model(), words("cat", "dining table")).open([TABLE])
        draw([(sink, "conditional")], [TABLE], steps=steps)
        assert sink.maximum == steps + (steps > 1)
        sizes.append(sink.nbytes)
    positions = 5 * (8 * 16 + 4 * 8 + 2 * 4)
    assert sizes == [positions * 4 * 5 * 4] * 2  # heads, rows kept, bytes


def test_targets_need_words():
    rows = torch.zeros(2, 24)
    with pytest.raises(MethodError, match="there are none for cat"):
        Daam(model(), [ClassTarget(name="cat", rows=rows, channel=1)])
    with pytest.raises(MethodError, match="at least one class"):
        Daam(model(), [])


def test_nothing_recorded_is_said():
    with pytest.raises(MethodError, match="no attention was recorded"):
        Daam(model(), words("cat")).open(["a cat"]).class_maps()
