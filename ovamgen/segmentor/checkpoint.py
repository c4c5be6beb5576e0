"""The checkpoint of a training: weights, optimizer and position in one file without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ovamgen.errors import ConfigError
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.whole_files import write_whole

CHECKPOINT = "checkpoint.safetensors"
_FORMAT = "ovamgen-training-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a training stands, and of which training it is.

    The position in the data and the random numbers are functions of the step (`Mixture`).
    """

    step: int
    """Updates that have been made."""
    settings: dict[str, Any]
    """What decides the weights (`TrainSettings.semantic`)."""
    data: dict[str, str]
    """Checksums of the sources and of the backbone."""
    world_size: int
    losses: tuple[float, ...] = ()
    """Losses of the steps since the last row of the log."""


def write_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> None:
    """Writes the checkpoint; a crash at any moment leaves the old one or the new one."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    scalars: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars[f"{index}.{name}"] = value
    metadata = {
        "format": _FORMAT,
        "position": json.dumps(
            {
                "step": position.step,
                "settings": position.settings,
                "data": position.data,
                "world_size": position.world_size,
                "losses": position.losses,
            },
            sort_keys=True,
        ),
        "optimizer": json.dumps(scalars, sort_keys=True),
    }
    write_whole(folder / CHECKPOINT, to_bytes(tensors, metadata))


def to_bytes(tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file; equal tensors and metadata give equal bytes.

    safetensors writes several entries of metadata in an order that changes from call to call.
    """
    content = save({name: v.detach().cpu().contiguous() for name, v in tensors.items()}, metadata)
    length = int.from_bytes(content[:8], "little")
    header = load_plain_json(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    # the tensors must begin at a multiple of 8
    text = text.ljust(-(-len(text) // 8) * 8)
    return b"".join([len(text).to_bytes(8, "little"), text, memoryview(content)[8 + length :]])


def read_position(folder: Path) -> Position | None:
    """Where the training in the folder stands, None where none was begun.

    Raises:
        ConfigError: the checkpoint is damaged, or of another format.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as stored:
            metadata = stored.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise ConfigError(
                f"{path} must be of format {_FORMAT}, it is {metadata.get('format', 'not named')}: "
                "give another --out"
            )
        values = load_plain_json(metadata["position"])
        return Position(**{**values, "losses": tuple(values.get("losses", ()))})
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from None


def resume(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, mine: Position
) -> Position | None:
    """Where the training in the folder stands, once network and optimizer are set to it.

    Args:
        folder: of the training; None comes back where none was begun there.
        network: as it is at the first step.
        optimizer: the same.
        mine: the first step of the training that is asked for.

    Raises:
        ConfigError: the folder holds another training (what differs is told), or a damaged one.
    """
    found = read_position(folder)
    if found is None:
        return None
    differing = [
        f"{name} ({_short(found.settings.get(name))} there, {_short(value)} asked for)"
        for name, value in mine.settings.items()
        if found.settings.get(name) != value
    ]
    differing += [
        name
        for name in sorted({*found.data, *mine.data})
        if found.data.get(name) != mine.data.get(name)
    ]
    if found.world_size != mine.world_size:
        differing.append(f"workers ({found.world_size} there, {mine.world_size} asked for)")
    if differing:
        raise ConfigError(
            f"{folder} holds another training, which differs in {', '.join(differing)}: give "
            "another --out, or the settings it began with"
        )
    restore(folder, network, optimizer)
    return found


def restore(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Sets the network and the optimizer to what the checkpoint in the folder has.

    Raises:
        ConfigError: the checkpoint is damaged or of another network.
    """
    path = folder / CHECKPOINT
    weights: dict[str, torch.Tensor] = {}
    state: dict[int, dict[str, Any]] = {}
    try:
        with safe_open(str(path), framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 (no mapping)
                part, _, rest = name.partition(".")
                if part == "network":
                    weights[rest] = stored.get_tensor(name)
                else:
                    index, _, key = rest.partition(".")
                    state.setdefault(int(index), {})[key] = stored.get_tensor(name)
            for name, value in load_plain_json(stored.metadata()["optimizer"]).items():
                index, _, key = name.partition(".")
                state.setdefault(int(index), {})[key] = value
        network.load_state_dict(weights)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        for parameter, values in optimizer.state.items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    # in the memory order of the parameter, as it was before: sums depend on it
                    values[name] = torch.empty_like(parameter).copy_(value)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _damaged(path, error) from None


def _short(value: Any) -> str:
    return f"{value!r:.60}"


def _damaged(path: Path, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())
    return ConfigError(
        f"{path} cannot be read as a checkpoint: {reason:.300}; remove it to begin again"
    )
