"""The header of a safetensors file that somebody gave: names, shapes and precisions.

Nothing is read behind the header; the tensors are known to be all there. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ovamgen.bounds import MAX_TENSORS, MAX_WEIGHTS_HEADER_BYTES
from ovamgen.errors import ConfigError
from ovamgen.storage.plain_files import check_given

_NUMBERS = frozenset({"F16", "BF16", "F32", "F64"})
_INTEGERS = ("position_ids", ".alpha")
"""Ends of the names of tensors that may be integers: a table that old files carry along, and a
LoRA's alpha."""
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """What the header of a file says."""

    path: Path
    place: str
    """What the file is, with its path, for messages: ``model file a.safetensors``."""
    shapes: Mapping[str, tuple[int, ...]]
    """By the tensor's name."""
    dtypes: Mapping[str, str]
    """As safetensors calls them, ``F16``; by the tensor's name."""
    metadata: Mapping[str, str]

    def has(self, *prefixes: str) -> bool:
        """Whether the name of a tensor begins so."""
        return any(name.startswith(prefixes) for name in self.shapes)

    def check_numbers(self, *prefixes: str) -> None:
        """Checks that the tensors whose names begin so are floating-point numbers.

        Raises:
            ConfigError: names one that is of 8 bits, of integers, or of another kind.
        """
        for name, dtype in self.dtypes.items():
            if dtype in _NUMBERS or not name.startswith(prefixes) or name.endswith(_INTEGERS):
                continue
            raise ConfigError(
                f"{self.place}: {name:.200} must be of float16, bfloat16 or float32, got {dtype}: "
                "get the file in one of these precisions"
            )


def read_header(path: Path, noun: str) -> WeightFile:
    """The header of a safetensors file.

    Args:
        path: of the file; links are followed.
        noun: what the file is: ``model file``.

    Raises:
        ConfigError: it is missing, a pickle, no file, no safetensors file, ends too early, or has
            too large a header or too many tensors.
    """
    place = f"{noun} {path}"
    if path.suffix in _PICKLES:
        raise ConfigError(
            f"{place} is a pickle, which may hold code, and only .safetensors is read: get it in "
            "that form, or convert it in Python with `from safetensors.torch import save_file` and "
            "`save_file(torch.load(FILE, weights_only=True)['state_dict'], NEW)`"
        )
    try:
        check_given(path)
        with open(path, "rb") as start:
            size = int.from_bytes(start.read(8), "little")
        if MAX_WEIGHTS_HEADER_BYTES < size < path.stat().st_size:
            # safetensors would read it whole, and it has a million names
            raise ConfigError(
                f"{place} must have a header of at most {MAX_WEIGHTS_HEADER_BYTES} bytes, it has "
                f"{size}"
            )
        with safe_open(path, "numpy") as file:
            names = file.keys()
            if len(names) > MAX_TENSORS:
                raise ConfigError(
                    f"{place} must have at most {MAX_TENSORS} tensors, it has {len(names)}"
                )
            slices = {name: file.get_slice(name) for name in sorted(names)}
            return WeightFile(
                path=path,
                place=place,
                shapes={name: tuple(one.get_shape()) for name, one in slices.items()},
                dtypes={name: one.get_dtype() for name, one in slices.items()},
                metadata=file.metadata() or {},
            )
    except FileNotFoundError:
        raise ConfigError(f"{place} does not exist") from None
    except OSError as error:
        raise ConfigError(f"{place} cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise ConfigError(
            f"{place} is no whole safetensors file ({error}): get it again; a file of git-lfs "
            "pointers needs `git lfs pull`"
        ) from None
