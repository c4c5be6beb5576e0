"""Banks as plain numpy files, and back: no pickle on either side.

``.npz``: one float32 array (2, ctx) for each class under its name, and the provenance as JSON text
in ``_provenance``. ``.npy``: one structured array with the fields ``name`` and ``pair``.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import canonical_json
from ovamgen.errors import ConfigError
from ovamgen.storage.damaged_files import BROKEN_ARRAYS
from ovamgen.storage.whole_files import write_whole

_PROVENANCE = "_provenance"
_LARGEST_FILE_BYTES = 256 * 1024**2


def export_bank(bank: TokenBank, out: str | Path) -> Path:
    """Writes the bank for programs that know numpy only; equal banks give equal bytes.

    Args:
        bank: any bank.
        out: a file that ends in ``.npz`` (classes and provenance) or ``.npy`` (classes alone).

    Raises:
        ConfigError: another suffix, or the place cannot be written.
    """
    path = Path(out)
    pairs = np.ascontiguousarray(bank.pairs, "<f4")
    if path.suffix not in (".npz", ".npy"):
        raise ConfigError(f"--out must end in .npz or .npy, got {path}")

    def fill(file: BinaryIO) -> None:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = dict(zip(bank.class_names, pairs, strict=True))
            arrays[_PROVENANCE] = np.array(canonical_json(bank.provenance))
            np.savez(file, allow_pickle=False, **arrays)
        else:
            np.save(file, _structured(bank, pairs), allow_pickle=False)

    write_whole(path, fill, durable=True)
    return path


def holds_plain_arrays(path: str | Path) -> bool:
    """Whether a file is an ``.npz``, or an ``.npy`` of named pairs, rather than the authors'."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(512)
    except OSError:
        return False
    return start.startswith(b"PK") or (start.startswith(b"\x93NUMPY") and b"'pair'" in start)


def read_plain_arrays(path: str | Path) -> TokenBank:
    """The bank in a file of `export_bank`, or in any ``.npz`` of pairs under class names.

    Raises:
        ConfigError: the file is damaged, pickled, or holds something else than pairs.
    """
    name = f"token file {path}"
    provenance: dict[str, str] = {}
    try:
        if Path(path).stat().st_size > _LARGEST_FILE_BYTES:
            raise ConfigError(f"{name} must be smaller than {_LARGEST_FILE_BYTES} bytes")
        # opened here, since numpy leaves a file open where it is no archive
        with Path(path).open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.lib.npyio.NpzFile):
                with zipfile.ZipFile(path) as archive:
                    unpacked = sum(entry.file_size for entry in archive.infolist())
                if unpacked > _LARGEST_FILE_BYTES:
                    raise ConfigError(
                        f"{name} must unpack to less than {_LARGEST_FILE_BYTES} bytes, got "
                        f"{unpacked}"
                    )
                pairs = {key: content[key] for key in content.files if key != _PROVENANCE}
                if _PROVENANCE in content.files:
                    found = json.loads(str(content[_PROVENANCE]))
                    provenance = {str(key): str(value) for key, value in found.items()}
            else:
                pairs = {str(entry["name"]): entry["pair"] for entry in content}
    except BROKEN_ARRAYS as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name} cannot be read as plain arrays: {reason}") from None
    except (KeyError, IndexError, AttributeError, zipfile.LargeZipFile) as error:
        raise ConfigError(f"{name} is damaged: {type(error).__name__}: {error}") from None
    shapes = {array.shape for array in pairs.values()}
    floats = all(array.dtype.kind == "f" for array in pairs.values())
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 2 or shape[0] != 2 or not floats:
        raise ConfigError(
            f"{name} must hold float arrays of one shape (2, width), [background row, class row], "
            f"each under its class's name, got shapes {sorted(shapes)}"
        )
    return TokenBank(
        class_names=tuple(pairs),
        pairs=np.stack(list(pairs.values())).astype(np.float32),
        provenance=provenance or {"origin": Path(path).name},
        source=f"the bank in {name}",
    )


def _structured(bank: TokenBank, pairs: np.ndarray) -> np.ndarray:
    length = max(len(name) for name in bank.class_names)
    kind = np.dtype([("name", f"<U{length}"), ("pair", "<f4", pairs.shape[1:])])
    array = np.empty(len(pairs), kind)
    array["name"], array["pair"] = bank.class_names, pairs
    return array
