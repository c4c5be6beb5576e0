"""Model folders: configurations that name code, paths and sizes without end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.attacks import DEEP_LIST, TEN_GB, safetensors, tensor
from tests.hostile.forging import attacks, change_json, put, set_at
from tests.hostile.links import linked, special
from tests.hostile.world import MODEL, OUTSIDE

_EVIL = "import pathlib; pathlib.Path('CODE_RAN').touch()\n"


def _json(name: str, *path: str | int, to: Any) -> Callable[[Path], None]:
    return change_json(f"{MODEL}/{name}", set_at(*path, to=to))


def _with_code(root: Path) -> None:
    """Code beside the weights, and everything that may ask for it."""
    (root / MODEL / "pipeline.py").write_text(_EVIL)
    (root / MODEL / "unet" / "evil.py").write_text(_EVIL)
    index = json.loads((root / MODEL / "model_index.json").read_text())
    index["unet"] = ["evil", "Evil"]
    index["_custom_pipeline"] = "pipeline"
    (root / MODEL / "model_index.json").write_text(json.dumps(index))


def _sharded_index(place: object) -> Callable[[Path], None]:
    """The weights of the text encoder in parts that an index names."""

    def damage(root: Path) -> None:
        folder = root / MODEL / "text_encoder"
        weights = folder / "model.safetensors"
        weights.rename(folder / "moved.safetensors")
        content = {"metadata": {"total_size": 1}, "weight_map": {"a": place}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return damage


_SCHEDULER = "scheduler/scheduler_config.json"
_COMPONENTS = ("unet", "vae", "text_encoder", "scheduler", "tokenizer")

ATTACKS = [
    *attacks(
        "model folders",
        MODEL,
        {
            "code beside the weights": _with_code,
            **{
                f"{part} of os.system": _json("model_index.json", part, to=["os", "system"])
                for part in _COMPONENTS
            },
            "another pipeline": _json("model_index.json", "_class_name", to="os.system"),
            "scheduler class logging": _json(_SCHEDULER, "_class_name", to="logging"),
            "scheduler class __doc__": _json(_SCHEDULER, "_class_name", to="__doc__"),
            "scheduler class a list": _json(_SCHEDULER, "_class_name", to=["a"]),
            "3 * 10^9 timesteps": _json(_SCHEDULER, "num_train_timesteps", to=3 * 10**9),
            "timesteps as text": _json(_SCHEDULER, "num_train_timesteps", to="many"),
            "no timesteps": _json(_SCHEDULER, "num_train_timesteps", to=0),
            "betas of 10^8": _json(_SCHEDULER, "trained_betas", to=[0.1] * 10**6),
            "index to an absolute path": _sharded_index("/etc/passwd"),
            "index out": _sharded_index(f"../../{OUTSIDE}/id_ed25519"),
            "index to a number": _sharded_index(5),
            "index to a list": _sharded_index(["a"]),
            "a text encoder of 10^7 layers": _json(
                "text_encoder/config.json", "num_hidden_layers", to=10**7
            ),
            "a width of 10^9": _json("text_encoder/config.json", "hidden_size", to=10**9),
            "a width that is text": _json("text_encoder/config.json", "hidden_size", to="x"),
            "a vocabulary of 10^10": _json("text_encoder/config.json", "vocab_size", to=10**10),
            "auto_map": _json(
                "text_encoder/config.json", "auto_map", to={"AutoModel": "evil.Evil"}
            ),
            "blocks of 10^9 channels": _json(
                "unet/config.json", "block_out_channels", to=[10**9] * 4
            ),
            "blocks of another class": _json("unet/config.json", "down_block_types", to=["os"] * 4),
            "blocks as text": _json("unet/config.json", "block_out_channels", to="wide"),
            "10^6 layers a block": _json("unet/config.json", "layers_per_block", to=10**6),
            "sample of 10^9": _json("unet/config.json", "sample_size", to=10**9),
            "a VAE of 10^9 channels": _json(
                "vae/config.json", "block_out_channels", to=[10**9] * 4
            ),
            "a deep config": put(f"{MODEL}/unet/config.json", DEEP_LIST),
            "a config of 300 MB": put(
                f"{MODEL}/unet/config.json", lambda: b'{"a":[' + b"{}," * 10**8 + b"{}]}"
            ),
            "a tokenizer of 150 MB": put(
                f"{MODEL}/tokenizer/vocab.json",
                lambda: json.dumps({f"w{i}": i for i in range(8_000_000)}).encode(),
            ),
            "a tokenizer that is a list": put(f"{MODEL}/tokenizer/vocab.json", b"[]"),
            "ids out of range": put(
                f"{MODEL}/tokenizer/vocab.json", json.dumps({"a": 10**9, "b": -5}).encode()
            ),
            "a header of 10 GB": put(
                f"{MODEL}/unet/diffusion_pytorch_model.safetensors",
                lambda: safetensors(b"{}", length=TEN_GB),
            ),
            "a tensor of 10 GB": put(
                f"{MODEL}/unet/diffusion_pytorch_model.safetensors",
                lambda: safetensors({"a": tensor([TEN_GB // 4], TEN_GB)}),
            ),
            "weights that are a pipe": special(
                f"{MODEL}/unet/diffusion_pytorch_model.safetensors", os.mkfifo
            ),
            "a config that is a pipe": special(f"{MODEL}/unet/config.json", os.mkfifo),
            "a config that is zeros": linked(f"{MODEL}/unet/config.json", "/dev/zero"),
            "weights that are zeros": linked(
                f"{MODEL}/unet/diffusion_pytorch_model.safetensors", "/dev/zero"
            ),
        },
    ),
]
