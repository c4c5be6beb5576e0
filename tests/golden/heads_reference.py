"""The golden references of the two trained heads: files, and what they regenerate.

`OVAMGEN_HEADS_GOLDEN` names another folder with files of the same names and format, to which every
test is put.
"""

import functools
import hashlib
import json
import math
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from ovamgen.attribution.heads.datasetdm import DatasetDmHead, DatasetDmShape
from ovamgen.attribution.heads.grounded import GroundedHead, GroundedShape

GIVEN = os.environ.get("OVAMGEN_HEADS_GOLDEN")
FOLDER = Path(GIVEN or Path(__file__).parent / "heads")
THOROUGH = pytest.mark.timeout(300) if GIVEN else pytest.mark.slow
"""What the default suite has no time for runs where references are given, and with -m slow."""
LEVELS = ("low", "mid", "high", "highest")
HEADS = {"grounded": (GroundedHead, GroundedShape), "datasetdm": (DatasetDmHead, DatasetDmShape)}


@functools.cache
def _read(path):
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def arrays(name):
    """All arrays of a file; skips the test where the folder lacks it."""
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the folder of golden references")
    return _read(path)


def generator(seed):
    return np.random.Generator(np.random.PCG64(int(seed)))


def weights(shapes, seed):
    """The random state dict of the references' README."""
    rng = generator(seed)
    state = {}
    for key in sorted(shapes):
        n = rng.standard_normal(tuple(shapes[key]))
        leaf = key.rsplit(".", 1)[-1]
        if leaf.startswith("stored_mean"):
            v = 0.5 * n
        elif leaf.startswith(("stored_var", "sv")):
            v = 0.5 + n * n
        elif key in ("query_feat.weight", "query_embed.weight"):
            v = 3.0 * n
        elif key == "level_embed.weight":
            v = 0.5 * n
        elif leaf == "u0":
            v = n
        elif leaf in ("bias", "in_proj_bias"):
            v = (0.5 if "_mix_conv." in key else 0.1) * n
        elif n.ndim == 1:
            v = 1.0 + 0.1 * n
        else:
            gain = 1.0
            if key.endswith("in_proj_weight"):
                gain = 0.7
            elif key.endswith(("out_proj.weight", "linear2.weight")):
                gain = 0.25
            v = gain * n / math.sqrt(math.prod(n.shape[1:]))
        state[key] = v.astype(np.float32)
    return state


@functools.cache
def state_of(name, prefix="", seed_name="weights"):
    """The state dict of a file as float32 tensors, its checksums compared."""
    golden = arrays(name)
    if f"{prefix}weights_seed" in golden:
        seed = int(golden[f"{prefix}weights_seed"])
    else:
        seed = json.loads(str(golden["seeds"]))[seed_name]
    state = weights(json.loads(str(golden[f"{prefix}shapes"])), seed)
    assert list(golden[f"{prefix}keys"]) == sorted(state)
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(state[key].tobytes())
    assert digest.hexdigest() == str(golden[f"{prefix}weights_sha256"])
    return {key: torch.from_numpy(value) for key, value in state.items()}


def network(kind, state, dtype):
    """The head with these weights, loaded strictly, in train mode."""
    head, shape = HEADS[kind]
    with torch.device("meta"):
        built = head(shape.of(state))
    # copies: a network in train mode moves its buffers in place
    copies = {key: value.to(dtype, copy=True) for key, value in state.items()}
    built.load_state_dict(copies, strict=True, assign=True)
    return built.train().requires_grad_(False)


@functools.cache
def inputs(kind):
    """(features of each level, attention of each level, text) of a full-size reference, float32."""
    golden = arrays(f"{kind}_reference")
    seeds = json.loads(str(golden["seeds"]))
    shapes = json.loads(str(golden["feature_shapes"]))
    rng = generator(seeds["features"])
    features = [
        [rng.standard_normal(tuple(shape)).astype(np.float32) for shape in shapes[level]]
        for level in LEVELS
    ]
    _check(golden["features_crc32"], [item for items in features for item in items])
    rows = 2 if kind == "grounded" else 1
    text_width = json.loads(str(golden["shapes"]))
    if kind == "grounded":
        width = text_width["to_q.weight"][1]
    else:
        width = text_width["query_feat_mlp.weight"][1] - text_width["query_feat.weight"][1]
    text = generator(seeds["text"]).standard_normal((1, rows, width)).astype(np.float32)
    _check(golden["text_crc32"], [text])
    attention = [[], [], [], []]
    if kind == "datasetdm":
        layers = {int(r): n for r, n in json.loads(str(golden["attention_layers"])).items()}
        rng = generator(seeds["attention"])
        for level, side in zip(attention, sorted(layers), strict=True):
            level += [
                rng.random((8, side * side, 77)).astype(np.float32) for _ in range(layers[side])
            ]
        _check(golden["attention_crc32"], [item for items in attention for item in items])
    return _tensors(features), [[_as_channels(m) for m in level] for level in attention], text


def levels(kind, dtype):
    """What the head is given: features, then attention as channels."""
    features, attention, _ = inputs(kind)
    return [
        [item.to(dtype) for item in (*some, *beside)]
        for some, beside in zip(features, attention, strict=True)
    ]


def text(kind, dtype):
    """(queries, text width)."""
    return torch.from_numpy(inputs(kind)[2][0]).to(dtype)


def _as_channels(maps):
    heads, positions, tokens = maps.shape
    side = math.isqrt(positions)
    channels = maps.transpose(0, 2, 1).reshape(1, heads * tokens, side, side)
    return torch.from_numpy(np.ascontiguousarray(channels))


def _tensors(nested):
    return [[torch.from_numpy(item) for item in items] for items in nested]


def _check(expected, got):
    assert [zlib.crc32(array.tobytes()) for array in got] == list(expected)


def subsample(full, like):
    """Every n-th entry along each axis, so many as the reference holds."""
    assert full.ndim == like.ndim, (full.shape, like.shape)
    steps = [n // m for n, m in zip(full.shape, like.shape, strict=True)]
    return full[tuple(slice(None, None, step) for step in steps)]


def assert_close(got, expected, tolerance, what):
    """Compares with the largest absolute value of the reference, as its README means relative."""
    got = np.asarray(got.detach() if isinstance(got, torch.Tensor) else got, np.float64)
    expected = np.asarray(expected, np.float64)
    got = subsample(got, expected)
    assert got.shape == expected.shape, what
    deviation = np.abs(got - expected).max() / np.abs(expected).max()
    assert deviation <= tolerance, f"{what}: {deviation:.3g} > {tolerance:g}"


def unpack(golden, case, size=(512, 512)):
    """The stored mask."""
    bits = np.unpackbits(golden[f"{case}/mask_bits"], count=size[0] * size[1])
    return bits.reshape(size).astype(bool)
