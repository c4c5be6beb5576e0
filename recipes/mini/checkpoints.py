"""The checkpoint file of a run: written whole or not at all, read without running code from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ovamgen.errors import ConfigError

CHECKPOINT = "checkpoint.pt"
_VERSION = 2


def write_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Writes the checkpoint; a crash at any moment leaves the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{CHECKPOINT}.tmp"
    with temporary.open("wb") as file:
        torch.save({"version": _VERSION, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / CHECKPOINT)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can be resumed from the folder."""
    return (folder / CHECKPOINT).exists()


def read_checkpoint(folder: Path, device: torch.device) -> dict[str, Any]:
    """What ``write_checkpoint`` wrote, its tensors on the device.

    Raises:
        ConfigError: there is no checkpoint, or another version of the recipe wrote it.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        raise ConfigError(f"{path} must hold a checkpoint, it does not exist: train first")
    content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    version = content.pop("version")
    if version != _VERSION:
        raise ConfigError(
            f"{path} must be of version {_VERSION}, got {version}: "
            "start a new run, or use the revision of the recipe that wrote it"
        )
    return content
