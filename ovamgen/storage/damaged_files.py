"""What libraries raise on damaged files, so that a reader can name the file instead.

Found by the fuzz in ``tests/fuzz``; where a warning is an error, that is one of them.
"""

from __future__ import annotations

import pickle
import struct
import tokenize
import zipfile
import zlib

from PIL import Image
from safetensors import SafetensorError

BROKEN_PICTURE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises, format by format."""

BROKEN_ARRAYS = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    SyntaxError,  # the header of an array is read like a line of Python
    MemoryError,
    RuntimeError,  # encrypted entries, unknown compression (NotImplementedError), nesting
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy raises for ``.npy`` and ``.npz`` without pickle."""

BROKEN_PICKLE = (
    pickle.UnpicklingError,
    struct.error,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    ImportError,
)
"""What a damaged pickle stream makes an unpickler raise, restricted as ours are."""

BROKEN_SAFETENSORS = (
    SafetensorError,
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
)
"""What reading safetensors raises, and a description in it that is of another shape."""
