"""Import of the tokens that OVAM's authors released: a pickled numpy dictionary, read once.

The pickle never meets numpy or any other real callable: the five names that such a file needs are
bound to stand-ins of this module that only take notes, every other name is refused, and arrays are
built afterwards from checked notes (DESIGN, promise 7).
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import tokenize
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.bounds import MAX_PICKLE_BYTES, MAX_PICKLE_OPERATIONS
from ovamgen.errors import ConfigError
from ovamgen.storage.damaged_files import BROKEN_PICKLE
from ovamgen.storage.plain_files import read_given

_FLOATS = {"f2": 2, "f4": 4, "f8": 8}
_RENAMED = {"tv": "tvmonitor"}
_MALFORMED_HEADER = (
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
"""What numpy raises on a damaged header, which it reads like a line of Python."""


def import_authors_tokens(
    path: str | Path,
    start_row: Float32[np.ndarray, " ctx"],
    *,
    class_names: Sequence[str],
    text_encoder: str,
) -> TokenBank:
    """The authors' optimised tokens as a bank, in the order of `class_names` (methods 0.6).

    Names lose their hyphens and ``tv`` becomes ``tvmonitor``. The released file has the class row
    alone: such rows are paired with `start_row`, the encoder's constant `<SoT>` row, which the
    provenance says. Pairs (2, ctx) are kept as they are.

    Args:
        path: an ``.npy`` file that holds one pickled dictionary of name to array.
        start_row: the `<SoT>` row of the text encoder that the tokens were optimised for.
        class_names: the classes wanted, e.g. the VOC names by id.
        text_encoder: that encoder's name, for the provenance.

    Raises:
        ConfigError: the file cannot be read, asks for anything but numpy arrays, or does not hold
            one row or pair of the encoder's width for each class.
    """
    name = f"token file {path}"
    try:
        data = read_given(path, MAX_PICKLE_BYTES)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror or error}") from None
    entries = _read_dictionary(data, name)
    arrays = {_our_name(key): value for key, value in entries.items()}
    missing = [wanted for wanted in class_names if wanted not in arrays]
    surplus = sorted(set(arrays) - set(class_names))
    if missing or surplus or len(arrays) != len(entries):
        raise ConfigError(
            f"{name} must hold each of the {len(class_names)} classes once; missing: "
            f"{', '.join(missing) or 'none'}; unknown: {', '.join(surplus) or 'none'}"
        )
    shapes = {arrays[wanted].shape for wanted in class_names}
    width = len(start_row)
    if not shapes <= {(width,), (2, width)}:
        raise ConfigError(
            f"{name} must hold rows ({width},) or pairs (2, {width}) as {text_encoder} makes them, "
            f"got shapes {', '.join(map(str, sorted(shapes)))}"
        )
    pairs = [
        array if array.ndim == 2 else np.stack([start_row, array])
        for array in (arrays[wanted] for wanted in class_names)
    ]
    alone = sum(arrays[wanted].ndim == 1 for wanted in class_names)
    return TokenBank(
        class_names=tuple(class_names),
        pairs=np.stack(pairs).astype(np.float32),
        provenance={
            "kind": "optimised",
            "origin": f"{Path(path).name} of the OVAM authors",
            "origin_sha256": hashlib.sha256(data).hexdigest(),
            "text_encoder": text_encoder,
            "background_row": (
                "as optimised"
                if not alone
                else f"<SoT> of {text_encoder} for {alone} classes: the file has the class row only"
            ),
        },
        source=f"the bank made of {name}",
    )


def _our_name(name: str) -> str:
    plain = name.replace("-", "").replace(" ", "")
    return _RENAMED.get(plain, plain)


def _read_dictionary(data: bytes, name: str) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"header version 1.0 expected, got {version}")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except _MALFORMED_HEADER as error:
        raise ConfigError(f"{name} is no .npy file: {' '.join(str(error).split())}") from None
    if dtype != np.dtype(object) or shape != ():
        raise ConfigError(
            f"{name} must hold one dictionary of class name to array, got a {dtype} array of "
            f"shape {shape}"
        )
    try:
        content = _Unpickler(file).load()
        entries = content.item()
        if not isinstance(entries, dict) or not all(isinstance(key, str) for key in entries):
            raise pickle.UnpicklingError("a dictionary of names expected")
        return {key: _to_array(value) for key, value in entries.items()}
    except BROKEN_PICKLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"{name} was refused: a pickle of numpy float arrays by class name is all that is read "
            f"({reason}); nothing in it was executed"
        ) from None


class _Note:
    """Stands for a name that the pickle may ask for; it can be called and nothing else."""

    __slots__ = ("_kind",)

    def __init__(self, kind: type | None) -> None:
        self._kind = kind

    def __call__(self, *arguments: Any) -> Any:
        if self._kind is None:
            raise pickle.UnpicklingError("numpy.ndarray may be named, not called")
        return self._kind(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a name has no state")


class _DtypeNote:
    """Notes of ``numpy.dtype(code, align, copy)`` and its state."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _ArrayNote:
    """Notes of an array: made empty by ``_reconstruct``, then given its state."""

    __slots__ = ("state",)

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def item(self) -> Any:
        """The one object of a zero-dimensional object array."""
        _, shape, dtype, _, content = self.state
        if not isinstance(dtype, _DtypeNote) or dtype.code not in ("O8", "O"):
            raise pickle.UnpicklingError("the outermost array must hold one object")
        if shape != () or not isinstance(content, list) or len(content) != 1:
            raise pickle.UnpicklingError("the outermost array must hold one object")
        return content[0]


_REFUSED_CODES = frozenset(
    {
        # takes the memory for as many bytes as it is told, before it has read one
        pickle.BYTEARRAY8[0],
        # they hash what they are given, and a tuple of tuples of tuples takes for ever
        *(pickle.DICT[0], pickle.EMPTY_SET[0], pickle.ADDITEMS[0], pickle.FROZENSET[0]),
    }
)


_KEYS = {pickle.SETITEM[0]: slice(-2, -1), pickle.SETITEMS[0]: slice(None, None, 2)}
"""Where the keys of a dictionary stand in the stack, by the operation that sets them."""


def _counted(load: Callable[[Any], None], keys: slice | None) -> Callable[[Any], None]:
    """The operation; refused beyond `MAX_PICKLE_OPERATIONS`, and where keys are no names.

    Each operation may hold memory, and whatever is a key is hashed.
    """

    def load_counted(unpickler: Any) -> None:
        unpickler.operations += 1
        if unpickler.operations > MAX_PICKLE_OPERATIONS:
            raise pickle.UnpicklingError(f"it has more than {MAX_PICKLE_OPERATIONS} operations")
        if keys is not None and any(type(key) is not str for key in unpickler.stack[keys]):
            raise pickle.UnpicklingError("a dictionary of names expected")
        load(unpickler)

    return load_counted


class _Unpickler(pickle._Unpickler):
    """Knows the names that a pickled array needs, bound to stand-ins, and no other.

    The interpreter's own reader, not the one in C: there a memo index of four billion, five bytes
    of a pickle, claims the memory for as many entries.
    """

    dispatch = {  # noqa: RUF012 (the name and kind that pickle looks for)
        code: _counted(load, _KEYS.get(code))
        for code, load in pickle._Unpickler.dispatch.items()
        if code not in _REFUSED_CODES
    }
    operations = 0

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; anything else is refused."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _Note(_ArrayNote)
        if module == "numpy" and name == "ndarray":
            return _Note(None)
        if module == "numpy" and name == "dtype":
            return _Note(_DtypeNote)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _to_array(note: Any) -> np.ndarray[Any, np.dtype[Any]]:
    if not isinstance(note, _ArrayNote):
        raise pickle.UnpicklingError(f"arrays expected, got a {type(note).__name__}")
    _, shape, dtype, fortran, content = note.state
    if not isinstance(dtype, _DtypeNote) or dtype.code not in _FLOATS:
        raise pickle.UnpicklingError("arrays of floats expected")
    sizes_fit = isinstance(shape, tuple) and all(isinstance(n, int) and n > 0 for n in shape)
    if not sizes_fit or not isinstance(content, bytes):
        raise pickle.UnpicklingError("an array's shape or content is not sound")
    if len(content) != math.prod(shape) * _FLOATS[dtype.code]:
        raise pickle.UnpicklingError(f"{len(content)} bytes do not fill an array of shape {shape}")
    if dtype.order not in ("<", ">"):
        raise pickle.UnpicklingError("an array's byte order is not stated")
    flat = np.frombuffer(content, np.dtype(dtype.order + dtype.code))
    return flat.reshape(shape, order="F" if fortran else "C").astype(np.float32)
