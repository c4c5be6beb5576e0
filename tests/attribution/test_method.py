import numpy as np
import pytest
import torch

from ovamgen.attribution.interface import ClassTarget, HeatmapMethod, HeatmapSink
from ovamgen.attribution.method import build_method
from ovamgen.attribution.ovam import PairMaps
from ovamgen.attribution.targets import (
    pair_targets,
    phrase_targets,
    prompt_target,
    untrained_targets,
)
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import METHODS, MaskConfig, check_method
from ovamgen.diffusion.recorder import CallSink, SelfAttentionSink
from ovamgen.diffusion.text import encode_text
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import MethodError
from tests.golden.reference import recorded, tiny_sd


def fed(sink):
    for call in recorded("unconditional").stored.calls:
        sink.update(call.layer, call.queries, call.size)
    return sink


def encode(text):
    return encode_text(tiny_sd().pipe, text)


@pytest.fixture
def model():
    return PipelineAttention(tiny_sd())


def test_unknown_methods_name_the_nearest():
    with pytest.raises(MethodError, match="unknown attribution method 'ovan': did you mean 'ovam'"):
        check_method("ovan")
    with pytest.raises(MethodError, match="'dam': did you mean 'daam'"):
        check_method("dam")
    with pytest.raises(
        MethodError, match="known are attn2mask, daam, daam-ovam, datasetdm, grounded, ovam"
    ):
        check_method("x")


def test_every_method_declares_what_it_needs():
    assert {name for name in METHODS if METHODS[name].branch == "conditional"} == {"daam"}
    assert {name for name in METHODS if METHODS[name].in_prompt} == {"daam"}
    assert {name for name in METHODS if METHODS[name].one_call} == {"attn2mask"}
    assert {name for name in METHODS if METHODS[name].head} == {"grounded", "datasetdm"}


def test_every_method_fits_the_interface(model):
    targets = phrase_targets({"cat": "cat"}, encode)
    # those of a head: tests/engine/test_trained_head.py
    for name in (name for name in METHODS if not METHODS[name].head):
        for kind in ("none", "constant", "received", "affinity", "iterated"):
            method = build_method(name, model, targets, MaskConfig(self_attention=kind))
            assert isinstance(method, HeatmapMethod)
            sink = method.open(["a cat"])
            assert isinstance(sink, HeatmapSink)
            # telling a sink the timestep waits for the device
            assert isinstance(sink, CallSink) == (name == "attn2mask")
            assert isinstance(sink, SelfAttentionSink) == (kind not in ("none", "constant"))
            assert sink.problem(0, 0) is None


def test_pairs_are_summed_as_pairs(model):
    pairs = recorded("unconditional").pairs
    bank = TokenBank(class_names=("a", "b", "c"), pairs=pairs.numpy())
    method = build_method("ovam", model, pair_targets(bank, {"c": "c", "a": "a"}))
    sink = fed(method.open(["", ""]))
    expected = fed(PairMaps(model.layers, pairs[[2, 0]]))
    torch.testing.assert_close(sink.class_maps(), expected.result())
    assert sink.maximum == 360
    assert sink.nbytes == expected.sums.nbytes


def test_words_are_the_last_subtoken_of_the_phrase_alone(model):
    """Methods 2.4, COCO-cap: the class name alone, channel -2, no mean over sub-tokens."""
    phrases = {"x": "cat", "y": "a photograph of a cat"}
    sink = fed(build_method("ovam", model, phrase_targets(phrases, encode)).open([""]))
    prompt, word = recorded("unconditional").texts.result()[:2]
    expected = torch.stack([word[:, -2], prompt[:, -2]], dim=1)
    torch.testing.assert_close(sink.class_maps(), expected, rtol=1e-4, atol=1e-3)


def test_a_class_as_its_words_in_a_prompt():
    """Methods 2.4, VOC-sim: the whole prompt competes, the last sub-token is the class's."""
    prompt = "a dining table and a dining table"
    target = prompt_target("diningtable", "dining table", prompt, encode)
    text = encode(prompt)
    assert torch.equal(target.rows, text.rows)
    assert target.channel == 3
    with pytest.raises(MethodError, match="'cat' is not in the prompt 'a dog'"):
        prompt_target("cat", "cat", "a dog", encode)


def test_two_rows_with_the_first_as_channel_are_no_pair(model):
    rows = recorded("unconditional").pairs[0]
    target = ClassTarget(name="background", rows=rows, channel=0)
    maps = fed(build_method("ovam", model, [target]).open([""])).class_maps()
    classes = fed(PairMaps(model.layers, rows[None])).result()
    torch.testing.assert_close(maps, 360 - classes, rtol=1e-4, atol=1e-3)


def test_no_targets_are_refused(model):
    with pytest.raises(MethodError, match="at least one class"):
        build_method("ovam", model, [])


def test_untrained_pairs_are_the_encoders_own_rows():
    cat, table = untrained_targets({"cat": "cat", "table": "dining table"}, encode)
    rows = encode("dining table").rows
    # one row of the encoder; kernels chosen by the text's length differ in the last bits
    np.testing.assert_allclose(cat.rows[0], table.rows[0], atol=2e-6)
    assert torch.equal(table.rows, rows[[0, -2]])
    assert cat.is_pair
    assert table.phrase == "dining table"
