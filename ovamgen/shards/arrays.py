"""Arrays to the bytes of image and array files, and back, refusing whatever is not as expected.

Equal arrays give equal bytes. The only module that meets Pillow's (width, height).
"""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ovamgen.bounds import MAX_HEATMAP_BYTES, MAX_PIXELS, MAX_SIDE_PX
from ovamgen.errors import ShardError
from ovamgen.storage.damaged_files import BROKEN_ARRAYS, BROKEN_PICTURE

_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="'
    'http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
).encode()
"""The IPTC mark of generated media (conventions 3.6), the same in every image."""


def encode_jpeg(image: UInt8[np.ndarray, "H W 3"], quality: int, *, drawn: bool = True) -> bytes:
    """A JPEG of the RGB image with full chroma (4:4:4); of a drawn one, marked as synthetic."""
    buffer = io.BytesIO()
    mark = {"xmp": _XMP} if drawn else {}
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0, **mark)
    return buffer.getvalue()


def encode_png(values: UInt8[np.ndarray, "H W"]) -> bytes:
    """A lossless 8-bit PNG with one channel and no palette (why: conventions 3.2)."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def encode_npz(maps: UInt8[np.ndarray, "K h w"], class_ids: UInt8[np.ndarray, " K"]) -> bytes:
    """A compressed npz with the arrays ``maps`` and ``class_ids``."""
    # NumPy gives every entry of the archive the zip epoch as its date: no clock in the bytes.
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, maps=maps, class_ids=class_ids)
    return buffer.getvalue()


def decode_jpeg(
    data: bytes, size: tuple[int, int] | None = None, name: str = "the image"
) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB pixels of a JPEG.

    Args:
        data: the file.
        size: the (height, width) it must have, where that is known.
        name: what messages call it.

    Raises:
        ShardError: it is damaged, no RGB JPEG, or of another size.
    """
    return _pixels(data, "JPEG", "RGB", size, name)


def decode_png(
    data: bytes, size: tuple[int, int] | None = None, name: str = "the mask"
) -> UInt8[np.ndarray, "H W"]:
    """The exact values of an 8-bit PNG with one channel; arguments as for `decode_jpeg`.

    Raises:
        ShardError: it is damaged, another kind of PNG, or of another size.
    """
    return _pixels(data, "PNG", "L", size, name)


def decode_npz(
    data: bytes, name: str = "the heatmaps"
) -> tuple[UInt8[np.ndarray, "K h w"], UInt8[np.ndarray, " K"]]:
    """The maps and class ids that `encode_npz` wrote; no pickle is ever looked at.

    Raises:
        ShardError: it is damaged, or holds other arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            maps = _npy(archive, "maps.npy")
            class_ids = _npy(archive, "class_ids.npy")
    except BROKEN_ARRAYS as error:
        raise ShardError(f"{name} cannot be read as npz: {error}") from None
    if maps.ndim != 3 or class_ids.shape != maps.shape[:1]:
        raise ShardError(
            f"{name} must hold maps (K, h, w) and K class ids, got shapes {maps.shape} and "
            f"{class_ids.shape}"
        )
    return maps, class_ids


def _pixels(
    data: bytes, kind: str, mode: str, size: tuple[int, int] | None, name: str
) -> UInt8[np.ndarray, ...]:
    # The header is compared before any pixel is decoded.
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as picture:
            found = (picture.height, picture.width)
            if max(found) > MAX_SIDE_PX or found[0] * found[1] > MAX_PIXELS:
                raise ShardError(
                    f"{name} must have at most {MAX_PIXELS} pixels, and {MAX_SIDE_PX} a side, got "
                    f"{found[0]} x {found[1]}"
                )
            if picture.mode == mode and size in (None, found):
                return np.array(picture)
            described = f"{picture.mode} of {found[0]} x {found[1]}"
    except BROKEN_PICTURE as error:
        raise ShardError(f"{name} cannot be read as {kind}: {error}") from None
    wanted = f"{mode} of {size[0]} x {size[1]}" if size else mode
    raise ShardError(f"{name} must be a {kind} with pixels {wanted}, got {described}")


def _npy(archive: zipfile.ZipFile, name: str) -> UInt8[np.ndarray, ...]:
    if archive.getinfo(name).file_size > MAX_HEATMAP_BYTES:
        raise ValueError(f"{name} is larger than {MAX_HEATMAP_BYTES} bytes")
    stream = io.BytesIO(archive.read(name))
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"{name} has format version {version}, expected (1, 0)")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    body = stream.read()
    if dtype != np.uint8 or fortran or math.prod(shape) != len(body):
        raise ValueError(f"{name} must hold uint8 rows of its declared shape, got {dtype} {shape}")
    return np.frombuffer(body, np.uint8).reshape(shape)
