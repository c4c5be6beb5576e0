"""Heads as files: safetensors with what they are, or a checkpoint of the authors'.

Which network a file holds is read from the file; its sizes are checked before memory is taken. What
reads pickles, and how little of them, is `ovamgen.attribution.heads.checkpoint`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ovamgen.attribution.heads.checkpoint import is_checkpoint, read_checkpoint
from ovamgen.attribution.heads.datasetdm import DatasetDmHead, DatasetDmShape
from ovamgen.attribution.heads.grounded import GroundedHead, GroundedShape
from ovamgen.config import canonical_json
from ovamgen.errors import ConfigError
from ovamgen.storage.damaged_files import BROKEN_SAFETENSORS
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.whole_files import write_whole

FORMAT = "ovamgen-head-1"
_METADATA_KEY = "ovamgen"
_LARGEST_SIZE = 2**20
_LARGEST_DEPTH = 64
_MOST_NAMED = 3

HeadKind = Literal["grounded", "datasetdm"]
HeadShape = GroundedShape | DatasetDmShape
HeadNetwork = GroundedHead | DatasetDmHead
HEAD_KINDS: tuple[HeadKind, ...] = ("grounded", "datasetdm")
_MARKS: dict[HeadKind, str] = {"grounded": "to_q.weight", "datasetdm": "query_feat.weight"}
"""A tensor that tells each network from the other one."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Head:
    """A trained network with where it is from."""

    kind: HeadKind
    network: HeadNetwork
    """In float32 on the CPU, its weights frozen."""
    classes: tuple[str, ...] = ()
    """The classes it was trained on; empty where the file does not say. Any class may be asked for:
    both heads are asked by text."""
    provenance: dict[str, str] = field(default_factory=dict)
    """What the weights are and where they are from; text by name."""
    source: str = "this head"
    """The file it was read from, for messages."""

    @property
    def sha256(self) -> str:
        """Digest (hex) of kind, sizes and numbers; classes and provenance do not count."""
        digest = hashlib.sha256(canonical_json([self.kind, asdict(self.network.shape)]).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(f"\n{name} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def check_model(self, channels: Sequence[int], text_width: int, model: str) -> None:
        """Checks that the head reads features and texts as a model makes them.

        Args:
            channels: of each level of the model's features, coarsest first.
            text_width: of its text encoder's rows.
            model: its name, for the message.

        Raises:
            ConfigError: the head is one of another model; both sides' numbers are given.
        """
        shape = self.network.shape
        if tuple(channels) != shape.channels or text_width != shape.text_width:
            raise ConfigError(
                f"{self.source} is a {self.kind} head for features of "
                f"{_joined(shape.channels)} channels and texts of width {shape.text_width}, "
                f"{model} has {_joined(channels)} and {text_width}: use a head that was trained "
                f"on that model, or train one (ovamgen heads train {self.kind})"
            )

    def to_bytes(self, *, halves: bool = False) -> bytes:
        """The head as a safetensors file; equal heads give equal bytes.

        Args:
            halves: numbers are rounded to float16, which takes half the room.
        """
        described = {
            "format": FORMAT,
            "kind": self.kind,
            "shape": asdict(self.network.shape),
            "classes": list(self.classes),
            "provenance": self.provenance,
        }
        tensors = self.network.state_dict().items()
        # one entry: safetensors writes several in an order that changes from process to process
        metadata = {_METADATA_KEY: canonical_json(described)}
        dtype = torch.float16 if halves else torch.float32
        # a number too large for a half would be read as infinite
        most = torch.finfo(dtype).max
        stored = {n: v.detach().cpu().clamp(-most, most).to(dtype) for n, v in tensors}
        return save({name: value.contiguous() for name, value in stored.items()}, metadata)

    def save(self, path: str | Path, *, halves: bool = False) -> None:
        """Writes the head; the file is there whole or not at all.

        Args:
            path: the file.
            halves: as for `to_bytes`.

        Raises:
            ConfigError: the place cannot be written.
        """
        data = self.to_bytes(halves=halves)
        write_whole(Path(path), data, name=f"head {path}")


def build_head(shape: HeadShape, seed: int) -> HeadNetwork:
    """A network with random weights, which are a function of its sizes and the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _network(shape)


def load_head(path: str | Path, *, kind: HeadKind | None = None, name: str | None = None) -> Head:
    """The head in a file: of `Head.save`, or a checkpoint of tensors alone.

    Args:
        path: a local file.
        kind: the one that is wanted; any where not given.
        name: what messages call it; its path where not given.

    Raises:
        ConfigError: no such file, another kind of head, tensors that such a head does not have or
            lacks (the first three are named), or a pickle with anything but tensors in it, of which
            nothing was executed.
    """
    file = Path(path).expanduser()
    name = name or f"head {path}"
    if not file.is_file():
        raise ConfigError(
            f"{name} does not exist: give a file that 'ovamgen heads train' made, or the authors' "
            "checkpoint"
        )
    read = _from_checkpoint if is_checkpoint(file) else _from_safetensors
    head = read(file, name)
    if kind is not None and head.kind != kind:
        raise ConfigError(
            f"{name} is a {head.kind} head, one of {kind} is wanted: give that one, or the method "
            f"{head.kind}"
        )
    return head


def import_head(checkpoint: str | Path, out: str | Path, *, halves: bool = False) -> Head:
    """Writes the authors' checkpoint as a safetensors file of ours, and gives the head in it.

    A prefix ``module.`` of all tensors, as DataParallel leaves it, is taken off.

    Args:
        checkpoint: a local file, as for `load_head`.
        out: the file to write, ``.safetensors``.
        halves: as for `Head.to_bytes`; the head that is given has the rounded numbers.

    Raises:
        ConfigError: as `load_head`; or the place cannot be written.
    """
    if Path(out).suffix != ".safetensors":
        raise ConfigError(f"--out must end in .safetensors, got {out}")
    load_head(checkpoint).save(out, halves=halves)
    return load_head(out)


def describe(head: Head, name: str) -> list[str]:
    """A head as text for people: kind, sizes, digest, classes, and the provenance."""
    shape = head.network.shape
    tensors = head.network.state_dict().values()
    text = [
        f"{name}: {head.kind}, {len(tensors)} tensors, {sum(v.numel() for v in tensors):,} numbers",
        f"  features {_joined(shape.channels)} channels, texts of width {shape.text_width}",
        f"  sha256 {head.sha256}",
    ]
    if head.classes:
        text.append(f"  classes {_joined(head.classes)}")
    return text + [f"  {key}: {value}" for key, value in sorted(head.provenance.items())]


def _from_checkpoint(file: Path, name: str) -> Head:
    state = read_checkpoint(file, name)
    kind = _kind(state, name)
    try:
        shape = GroundedShape.of(state) if kind == "grounded" else DatasetDmShape.of(state)
        _check_shape(shape)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(
            f"{name} cannot be a {kind} head: {_reason(error)} is missing or of another shape"
        ) from None
    provenance = {
        "origin": file.name,
        "origin_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    network = _filled(kind, shape, state, name)
    return Head(kind=kind, network=network, provenance=provenance, source=name)


def _from_safetensors(file: Path, name: str) -> Head:
    try:
        with safe_open(str(file), framework="pt") as stored:
            described = load_plain_json((stored.metadata() or {})[_METADATA_KEY])
            if described["format"] != FORMAT or described["kind"] not in HEAD_KINDS:
                raise ConfigError(
                    f"{name}: a head of format {FORMAT} expected, got {described['format']!r:.40} "
                    f"of kind {described['kind']!r:.40}"
                )
            kind: HeadKind = described["kind"]
            shape = _shape(kind, described["shape"])
            classes = tuple(str(entry) for entry in described["classes"])
            provenance = {str(key): str(value) for key, value in described["provenance"].items()}
            state = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (no mapping)
    except BROKEN_SAFETENSORS as error:
        raise ConfigError(
            f"{name} is no head of ovamgen (safetensors with a description expected; "
            f"{type(error).__name__}: {_reason(error)}): make one with 'ovamgen heads train', or "
            "give the authors' checkpoint"
        ) from None
    network = _filled(kind, shape, state, name)
    return Head(kind=kind, network=network, classes=classes, provenance=provenance, source=name)


def _kind(state: Mapping[str, Tensor], name: str) -> HeadKind:
    for kind, mark in _MARKS.items():
        if mark in state:
            return kind
    raise ConfigError(
        f"{name} is neither Grounded Diffusion's nor DatasetDM's network: it has "
        f"{len(state)} tensors, first {_joined(sorted(state)[:_MOST_NAMED])}"
    )


def _shape(kind: HeadKind, values: Mapping[str, Any]) -> HeadShape:
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    shape = GroundedShape(**plain) if kind == "grounded" else DatasetDmShape(**plain)
    _check_shape(shape)
    return shape


def _check_shape(shape: HeadShape) -> None:
    """Refuses sizes that no network here has: it would be built, however large, before it is seen.

    Raises:
        ValueError: one of them is none, or out of range.
    """
    for entry in fields(shape):
        value = getattr(shape, entry.name)
        values = value if isinstance(value, tuple) else (value,)
        largest = _LARGEST_DEPTH if entry.name in ("layers", "heads", "patch") else _LARGEST_SIZE
        if not values or not all(type(v) is int and 1 <= v <= largest for v in values):
            raise ValueError(f"{entry.name} must be whole numbers from 1 to {largest}")
    if shape.width % shape.heads or not 2 <= len(shape.channels) <= 4:
        raise ValueError("a width that the heads divide and 2 to 4 levels are expected")
    if isinstance(shape, GroundedShape) and len(shape.widths) != len(shape.channels):
        raise ValueError("a width for each level is expected")
    if isinstance(shape, DatasetDmShape) and shape.width % 4:
        raise ValueError("a width that 4 divides is expected")


def _network(shape: HeadShape) -> HeadNetwork:
    return GroundedHead(shape) if isinstance(shape, GroundedShape) else DatasetDmHead(shape)


def _filled(
    kind: HeadKind, shape: HeadShape, state: Mapping[str, Tensor], name: str
) -> HeadNetwork:
    """The network with exactly these weights."""
    with torch.device("meta"):
        network = _network(shape)
    expected = network.state_dict()
    surplus, missing = sorted(set(state) - set(expected)), sorted(set(expected) - set(state))
    for keys, told in ((surplus, "that no {} head has"), (missing, "fewer than a {} head has")):
        if keys:
            raise ConfigError(
                f"{name} has {len(keys)} tensors {told.format(kind)}, first "
                f"{_joined(keys[:_MOST_NAMED])}: is it of another network, or damaged?"
            )
    misfits = [key for key in sorted(expected) if state[key].shape != expected[key].shape]
    if misfits:
        key = misfits[0]
        raise ConfigError(
            f"{name} has {len(misfits)} tensors of another shape than a {kind} head's, first {key}:"
            f" {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        )
    weights = {key: value.float().contiguous() for key, value in state.items()}
    broken = [key for key in sorted(weights) if not torch.isfinite(weights[key]).all()]
    if broken:
        raise ConfigError(f"{name} holds numbers that are not finite, first in {broken[0]}")
    network.load_state_dict(weights, strict=True, assign=True)
    return network.requires_grad_(False)


def _joined(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
