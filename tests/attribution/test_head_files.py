"""Heads as files: the authors' checkpoints, ours, and what must be refused."""

import json
import os
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ovamgen.attribution.heads.checkpoint import read_checkpoint
from ovamgen.attribution.heads.head_file import Head, build_head, import_head, load_head
from ovamgen.errors import ConfigError
from tests.attribution.test_heads import DATASETDM, GROUNDED

# heads cannot be read from weights, so that checkpoints have the published number
SHAPES = {"grounded": replace(GROUNDED, heads=8), "datasetdm": replace(DATASETDM, heads=8)}


def network(kind):
    return build_head(SHAPES[kind], 5)


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a state dict as the authors' scripts do."""

    def write(state, name="head.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_checkpoint_becomes_a_file_with_the_same_weights(kind, prefix, checkpoint, tmp_path):
    state = network(kind).state_dict()
    path = checkpoint({prefix + key: value for key, value in state.items()})
    imported = import_head(path, tmp_path / "head.safetensors")
    loaded = load_head(tmp_path / "head.safetensors", kind=kind)
    for head in (imported, loaded, load_head(path)):
        assert (head.kind, head.network.shape) == (kind, SHAPES[kind])
        assert head.sha256 == imported.sha256
        found = head.network.state_dict()
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)
    assert loaded.provenance["origin"] == "head.pth"


def test_equal_heads_have_equal_bytes_and_keep_what_they_tell(tmp_path):
    told = {"trained_on": "60 pictures", "steps": "12"}
    head = Head(kind="grounded", network=network("grounded"), classes=("cat",), provenance=told)
    again = Head(kind="grounded", network=network("grounded"), classes=("cat",), provenance=told)
    assert head.to_bytes() == again.to_bytes()
    head.save(tmp_path / "head.safetensors")
    loaded = load_head(tmp_path / "head.safetensors")
    assert (loaded.classes, loaded.provenance) == (("cat",), told)
    other = Head(kind="grounded", network=build_head(SHAPES["grounded"], 6))
    assert other.sha256 != head.sha256


def test_unexpected_tensors_are_named_three_of_them(checkpoint):
    state = network("grounded").state_dict()
    state |= {f"extra.{number}": torch.zeros(1) for number in range(5)}
    message = r"5 tensors that no grounded head has, first extra\.0, extra\.1, extra\.2:"
    with pytest.raises(ConfigError, match=message):
        load_head(checkpoint(state))


def test_missing_tensors_are_named(checkpoint):
    state = network("datasetdm").state_dict()
    for name in ("decoder_norm.weight", "class_embed.bias"):
        del state[name]
    with pytest.raises(ConfigError, match=r"2 tensors fewer .* class_embed\.bias, decoder_norm"):
        load_head(checkpoint(state))


def test_a_tensor_of_another_shape_is_named(checkpoint):
    state = network("grounded").state_dict()
    state["mlp.layers.1.weight"] = torch.zeros(3, 3)
    with pytest.raises(ConfigError, match=r"mlp\.layers\.1\.weight: \(3, 3\) instead of \(16, 16"):
        load_head(checkpoint(state))


def test_a_head_of_another_unet_is_told_both_sides_numbers():
    head = Head(kind="grounded", network=network("grounded"), source="head x.safetensors")
    head.check_model(GROUNDED.channels, 5, "mini")
    with pytest.raises(ConfigError, match=r"x\.safetensors.*12, 10, 8, 6.*width 5, mini has 1, 2"):
        head.check_model((1, 2), 7, "mini")


def test_the_other_kind_of_head_is_refused(checkpoint):
    path = checkpoint(network("grounded").state_dict())
    with pytest.raises(ConfigError, match="is a grounded head, one of datasetdm is wanted"):
        load_head(path, kind="datasetdm")


def test_another_network_is_refused(checkpoint):
    path = checkpoint({"layer.weight": torch.zeros(2)})
    with pytest.raises(ConfigError, match=r"neither .* 1 tensors, first layer\.weight"):
        load_head(path)


def test_numbers_that_are_not_finite_are_refused(checkpoint):
    state = network("grounded").state_dict()
    state["to_q.weight"] = state["to_q.weight"].clone()
    state["to_q.weight"][0, 0] = float("nan")
    with pytest.raises(ConfigError, match=r"not finite, first in to_q\.weight"):
        load_head(checkpoint(state))


class Runs:
    """A pickle that makes a folder when it is executed."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("form", ["archive", "bare"])
def test_a_pickle_with_code_in_it_is_refused_and_nothing_runs(form, checkpoint, tmp_path):
    place = tmp_path / "it ran"
    state = {**network("grounded").state_dict(), "note": Runs(place)}
    if form == "archive":
        path = checkpoint(state)
        asked = r"it asks for posix\.mkdir"
    else:
        path = tmp_path / "head.pth"
        path.write_bytes(pickle.dumps({"note": Runs(place)}))
        asked = "bare pickle"
    with pytest.raises(ConfigError, match=f"was refused.*{asked}.*nothing in it was executed"):
        load_head(path)
    assert not place.exists()
    # the pickle does run code where nobody looks
    if form == "bare":
        pickle.loads(path.read_bytes())
        assert place.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "got a list"),
        ({}, "got a dict"),
        ({"a": 1}, "'a' is a int"),
        ({1: torch.zeros(1)}, "1 is a Tensor"),
        ({"a": torch.zeros(2, dtype=torch.int64)}, "no plain tensor of floats"),
        ({"a": torch.zeros(2).to_sparse()}, "no plain tensor of floats"),
        ({"a": torch.zeros(1).expand(10**6, 10**6)}, "claims more numbers than"),
    ],
)
def test_what_is_no_tensor_is_refused(content, told, checkpoint):
    with pytest.raises(ConfigError, match=told):
        read_checkpoint(checkpoint(content), "head x.pth")


def test_an_archive_that_unpacks_to_more_is_refused(checkpoint, tmp_path):
    plain = checkpoint({"a": torch.zeros(10**5)})
    packed = tmp_path / "packed.pth"
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.namelist():
            target.writestr(entry, source.read(entry))
    assert packed.stat().st_size < plain.stat().st_size / 10
    with pytest.raises(ConfigError, match="compressed"):
        load_head(packed)


@pytest.mark.parametrize("length", [0, 1, 4, 100, 5000])
def test_a_cut_checkpoint_is_refused(length, checkpoint):
    path = checkpoint(network("grounded").state_dict())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ConfigError, match="head"):
        load_head(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "x"}, "format ovamgen-head-1 expected, got 'x'"),
        ({"kind": "other"}, "of kind 'other'"),
        ({"shape": {"width": 10**9}}, "width must be whole numbers"),
        ({"shape": {"layers": 10**4}}, "layers must be whole numbers"),
        ({"shape": {"colour": 1}}, "colour"),
        ({"shape": {"channels": []}}, "channels"),
        ({"classes": 3}, "no head of ovamgen"),
        ({"provenance": []}, "no head of ovamgen"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(changes, told, tmp_path):
    path = tmp_path / "head.safetensors"
    Head(kind="grounded", network=network("grounded")).save(path)
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    described = json.loads(header["__metadata__"]["ovamgen"])
    save_file(load_file(path), path, {"ovamgen": json.dumps({**described, **changes})})
    with pytest.raises(ConfigError, match=told):
        load_head(path)


def test_safetensors_of_something_else_are_refused(tmp_path):
    save_file({"pairs": torch.zeros(2, 2)}, tmp_path / "bank.safetensors")
    with pytest.raises(ConfigError, match="no head of ovamgen"):
        load_head(tmp_path / "bank.safetensors")
    with pytest.raises(ConfigError, match="does not exist"):
        load_head(tmp_path / "nothing.safetensors")


def test_random_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    first, again, other = (build_head(SHAPES["datasetdm"], seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.query_feat.weight, again.query_feat.weight)
    assert not torch.equal(first.query_feat.weight, other.query_feat.weight)
