"""Models in one file and LoRAs: headers that promise too much, names and settings of anything."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.fuzz.attacks import DEEP_JSON, TEN_GB, safetensors, tensor
from tests.hostile.attack import Attack
from tests.hostile.forging import attacks, put
from tests.hostile.links import linked, special
from tests.hostile.world import FILE, LORA, LORA_LAYER

UNET = "model.diffusion_model."
DOWN, UP = f"{LORA_LAYER}.lora_A.weight", f"{LORA_LAYER}.lora_B.weight"


class _Touch:
    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("CODE_RAN", "w"))


def _tensors(name: str, tensors: Mapping[str, np.ndarray], **notes: str) -> Callable[[Path], None]:
    """A sound file of these tensors."""

    def damage(root: Path) -> None:
        save_file(dict(tensors), root / name, notes or None)

    return damage


def _many(count: int) -> bytes:
    """As many tensors of no bytes, whose names are long."""
    one = '"x%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return safetensors(("{" + ",".join(one % number for number in range(count)) + "}").encode())


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _headers(name: str) -> dict[str, Callable[[Path], None]]:
    """What a file of safetensors can have wrong, whatever it is to be."""
    return {
        "nothing": put(name, b""),
        "a pickle under the name": put(name, pickle.dumps(_Touch())),
        "a header of 10 GB": put(name, lambda: safetensors(b"{}", length=TEN_GB)),
        "a tensor of 10 GB": put(name, lambda: safetensors({"a": tensor([TEN_GB // 4], TEN_GB)})),
        "a deep header": put(name, lambda: safetensors(DEEP_JSON)),
        "10^6 tensors": put(name, lambda: _many(10**6)),
        "tensors on top of each other": put(
            name, safetensors({"a": tensor([2], 8), "b": tensor([2], 8)}, bytes(8))
        ),
        "a pipe": special(name, os.mkfifo),
        "zeros without end": linked(name, "/dev/zero"),
        "an escape code in a name": _tensors(name, {"\x1b[2Jlora_A": _zeros(1)}),
        "a name of 100,000 letters": _tensors(name, {"lora" + "a" * 100_000: _zeros(1)}),
    }


def _stable_diffusion(**more: np.ndarray) -> dict[str, np.ndarray]:
    """What a header is known by as one of 1.x, and nothing of the rest."""
    return {
        f"{UNET}input_blocks.0.0.weight": _zeros(320, 4, 3, 3),
        f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": _zeros(1, 768),
        "first_stage_model.encoder.conv_in.weight": _zeros(1),
        "cond_stage_model.transformer.text_model.final_layer_norm.weight": _zeros(1),
        **more,
    }


def _lora(**notes: str) -> Callable[[Path], None]:
    """The healthy matrices with other notes."""

    def damage(root: Path) -> None:
        save_file(load_file(root / LORA), root / LORA, notes)

    return damage


def _peft(settings: object) -> Callable[[Path], None]:
    return _lora(lora_adapter_metadata=json.dumps(settings))


ATTACKS: list[Attack] = [
    *attacks(
        "models in one file",
        FILE,
        {
            **_headers(FILE),
            "widths of 1.x and no more": _tensors(FILE, _stable_diffusion()),
            "10^9 input blocks": _tensors(
                FILE, _stable_diffusion(**{f"{UNET}input_blocks.1000000000.0.op.weight": _zeros(1)})
            ),
            "20,000 output blocks": _tensors(
                FILE,
                _stable_diffusion(
                    **{f"{UNET}output_blocks.{n}.1.a.weight": _zeros(1) for n in range(20_000)}
                ),
            ),
            "a VAE of single numbers": _tensors(
                FILE,
                _stable_diffusion(**{"first_stage_model.encoder.mid.attn_1.q.weight": _zeros()}),
            ),
            "velocities of another kind": _tensors(
                FILE, _stable_diffusion(), **{"modelspec.prediction_type": "../../etc"}
            ),
        },
    ),
    *attacks(
        "LoRAs",
        LORA,
        {
            **_headers(LORA),
            "a layer of Python": _tensors(LORA, {"unet.__class__.lora_A.weight": _zeros(2, 24)}),
            "a layer of the pipeline": _tensors(LORA, {"scheduler.a.lora_A.weight": _zeros(2, 24)}),
            "blocks that are words": _tensors(
                LORA, {"lora_unet_input_blocks_x_y_z.lora_down.weight": _zeros(2, 24)}
            ),
            "half of a pair": _tensors(LORA, {DOWN: _zeros(2, 24)}),
            "rank 0": _tensors(LORA, {DOWN: _zeros(0, 24), UP: _zeros(24, 0)}),
            "numbers that are none": _tensors(
                LORA, {DOWN: _zeros(2, 24) + np.nan, UP: _zeros(24, 2)}
            ),
            "numbers of 10^38": _tensors(
                LORA, {DOWN: _zeros(2, 24) + 1e38, UP: _zeros(24, 2) + 1e38}
            ),
            "integers": _tensors(LORA, {DOWN: np.zeros((2, 24), np.int8), UP: _zeros(24, 2)}),
            "settings that are a list": _peft([1]),
            "deep settings": _lora(lora_adapter_metadata=DEEP_JSON.decode()),
            "an alpha that is text": _peft({"unet.lora_alpha": "x"}),
            "an alpha of 10^400": _peft({"unet.lora_alpha": 10**400}),
            "a pattern that takes for ever": _peft({"unet.alpha_pattern": {"(a+)+$" * 20: 1}}),
        },
    ),
]
