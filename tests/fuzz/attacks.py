"""Files that somebody made to exhaust whoever reads them, each of at most a few megabytes."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TEN_GB = 10 * 1024**3
DEPTH = 100_000
DEEP_JSON = b'{"annotations":' * DEPTH + b"1" + b"}" * DEPTH
DEEP_LIST = b"[" * DEPTH + b"]" * DEPTH


def safetensors(header: bytes | Mapping[str, object], body: bytes = b"", length: int = -1) -> bytes:
    """A file with this header, which may claim another length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length < 0 else length) + text + body


def tensor(shape: list[int], end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}


def png(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """Black pixels: a thousandth of their size, and true to the format."""
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    line = b"\0" * (1 + width * channels * depth // 8)
    squeeze = zlib.compressobj(9)
    data = b"".join(squeeze.compress(line) for _ in range(height)) + squeeze.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    """A picture of one pixel whose comment unpacks to gigabytes."""
    plain = png(1, 1)
    packed = zlib.compress(b"a" * 300_000_000, 9)
    content = b"Comment\0\0" + packed
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + content))
    return plain[:33] + chunk + plain[33:]


def gzip_bomb(size: int) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:
        for _ in range(size // 2**20):
            file.write(b" " * 2**20)
    return packed.getvalue()


def npz_bomb(name: str) -> bytes:
    """An array of 1 GB of zeros under the name, in a few megabytes."""
    header = io.BytesIO()
    shape = (1, 2**14, 2**16)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as entry,
    ):
        entry.write(header.getvalue())
        for _ in range(2**10):
            entry.write(bytes(2**20))
    return packed.getvalue()


def npy(shape: tuple[int, ...], descr: object = "<f4") -> bytes:
    """A header that promises so much, and no content."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def tar_with(change: Callable[[tarfile.TarInfo], None]) -> bytes:
    """A tar of one member of three bytes whose header was changed."""
    header = tarfile.TarInfo("00000000000.jpg")
    header.size = 3
    change(header)
    blocks = header.tobuf(tarfile.GNU_FORMAT) + b"abc".ljust(512, b"\0")
    return blocks.ljust(tarfile.RECORDSIZE, b"\0")


def _claims(size: int, kind: bytes = tarfile.REGTYPE) -> Callable[[tarfile.TarInfo], None]:
    def change(header: tarfile.TarInfo) -> None:
        header.size, header.type = size, kind

    return change


def sparse_tar() -> bytes:
    """A pax header says that the member is 10 GB of holes."""
    header = tarfile.TarInfo("00000000000.jpg")
    header.size = 512
    header.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "00000000000.jpg",
        "GNU.sparse.realsize": str(TEN_GB),
    }
    content = f"1\n{TEN_GB - 1}\n1\n".encode().ljust(512, b"\0")
    blocks = header.tobuf(tarfile.PAX_FORMAT) + content
    return blocks.ljust(2 * tarfile.RECORDSIZE, b"\0")


def parquet(columns: Mapping[str, object], rows: int) -> bytes:
    """A table of so many equal rows: a dictionary of one value, and a run length."""
    arrays = {
        name: pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))
        for name, value in columns.items()
    }
    file = io.BytesIO()
    pq.write_table(pa.table(arrays), file, compression="zstd", row_group_size=rows)
    return file.getvalue()


def parquet_footer(length: int) -> bytes:
    return b"PAR1" + bytes(100) + struct.pack("<I", length) + b"PAR1"


def npy_pickle(payload: bytes) -> bytes:
    return npy((), "|O") + payload


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("executed",))


LAUGHS = "\n".join(
    ["a0: &a0 [lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
)
"""Eleven lines of aliases that stand for 10**11 words."""
MERGES = "\n".join(
    ["m0: &m0 {k: 1}"]
    + [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}" for n in range(1, 12)]
)
"""The same in merge keys, which are unpacked while they are read."""

_BIG_SHAPE = {
    "layer_type": "basic",
    "embedding_size": 10**6,
    "hidden_sizes": [10**6] * 4,
    "depths": [10**6] * 4,
    "stem_pooling": True,
    "head_size": 10**6,
    "pool_scales": [1] * 10,
    "auxiliary_head": False,
    "num_classes": 21,
}


def _segmentor(shape: bytes) -> bytes:
    metadata = {"format": "ovamgen-segmentor-1", "architecture": shape.decode(), "training": "{}"}
    return safetensors({"__metadata__": metadata})


_SAFETENSORS = {
    "a header of 10 GB": lambda: safetensors(b"{}", length=TEN_GB),
    "a tensor of 10 GB": lambda: safetensors({"pairs": tensor([TEN_GB // 4], TEN_GB)}),
    "a shape beyond 64 bits": lambda: safetensors({"pairs": tensor([2**62, 2**62], 4)}, b"1234"),
    "a deep header": lambda: safetensors(DEEP_JSON),
}
_DEEP = {"deep JSON": lambda: DEEP_JSON, "deep lists": lambda: DEEP_LIST}
_PNGS = {
    "50,000 x 50,000 pixels": lambda: png(50_000, 50_000, 1),
    "9,000 x 9,000 pixels": lambda: png(9_000, 9_000),
    "a comment of 300 MB": text_bomb,
}
_TARS = {
    "a member of 10 GB": lambda: tar_with(_claims(TEN_GB)),
    "a name of 10 GB": lambda: tar_with(_claims(TEN_GB, tarfile.GNUTYPE_LONGNAME)),
    "a pax header of 10 GB": lambda: tar_with(_claims(TEN_GB, tarfile.XHDTYPE)),
    "10 GB of holes": sparse_tar,
}
_YAMLS = {
    "a billion laughs": lambda: LAUGHS.encode(),
    "merged laughs": lambda: MERGES.encode(),
    "deep lists": lambda: DEEP_LIST,
    "16 MB": lambda: b"a: [" + b"1, " * (16 * 2**20 // 3) + b"1]",
}
_TEXTS = {
    "an endless line": lambda: b"x" * (64 * 2**20),
    "NUL bytes": lambda: bytes(2**20),
}

ATTACKS: dict[str, dict[str, Callable[[], bytes]]] = {
    "bank.safetensors": _SAFETENSORS,
    "checkpoint": _SAFETENSORS,
    "backbone": _SAFETENSORS,
    "training/segmentor.safetensors": _SAFETENSORS
    | {
        "a gigantic network": lambda: _segmentor(json.dumps(_BIG_SHAPE).encode()),
        "a deep description": lambda: _segmentor(DEEP_LIST),
    },
    "captions.json": _DEEP
    | _TEXTS
    | {
        "lone surrogates": lambda: b'{"annotations": [{"id":1,"image_id":2,"caption":"\\ud800"}]}',
        "numbers that are none": lambda: (
            b'{"annotations": [{"id":NaN,"image_id":-Infinity,"caption":"a"}]}'
        ),
        "a number of a million digits": lambda: b'{"annotations": ' + b"9" * 10**6 + b"}",
    },
    "captions.jsonl": _DEEP | _TEXTS,
    "captions.csv": _TEXTS | {"an open quote": lambda: b'caption\n"' + b"x," * (16 * 2**20)},
    "captions.txt": {"lone surrogates": lambda: b"\xed\xa0\x80"},
    "captions.json.gz": {"1 GB of spaces": lambda: gzip_bomb(2**30)},
    "captions.parquet": {
        "a footer of 4 GB": lambda: parquet_footer(2**32 - 1),
        "2 GB of one caption": lambda: parquet({"caption": "x" * 1000}, 2_000_000),
    },
    "instances.json": _DEEP,
    "tokens.npy": {
        "a call": lambda: npy_pickle(pickle.dumps(_Evil())),
        "a memo of four billion": lambda: npy_pickle(b"\x80\x04Nr\xff\xff\xff\xff."),
        "a string of 10 GB": lambda: npy_pickle(b"\x80\x04\x8d" + struct.pack("<Q", TEN_GB)),
        "nested tuples": lambda: npy_pickle(b"\x80\x04" + b")" + b"\x85" * DEPTH + b"."),
        "a bytearray of 10 GB": lambda: npy_pickle(b"\x80\x05\x96" + struct.pack("<Q", TEN_GB)),
    },
    "bank.npy": {"an array of 10 GB": lambda: npy((TEN_GB // 4,))},
    "bank.npz": {"an entry of 1 GB": lambda: npz_bomb("cat.npy")},
    "maps.npz": {"an entry of 1 GB": lambda: npz_bomb("cat.npy")},
    "heatmaps.npz": {"an entry of 1 GB": lambda: npz_bomb("maps.npy")},
    "config.yaml": _YAMLS,
    "classes.yaml": _YAMLS,
    "templates.yaml": _YAMLS,
    "run.yaml": _YAMLS,
    "samples: synthesis.yaml": _YAMLS,
    "mask.png": _PNGS,
    "annotation.png": _PNGS,
    "foreground.png": _PNGS,
    "VOC: SegmentationClass/val_000.png": _PNGS,
    "VOC: ImageSets/Segmentation/val.txt": _TEXTS,
    "samples: samples.csv": _TEXTS,
    "corpus/train-000000.tar": _TARS,
    "tar as examples": _TARS,
    "tar, verified": _TARS,
    "record": _DEEP | _TEXTS,
    "plan": {
        "a footer of 4 GB": lambda: parquet_footer(2**32 - 1),
        "2 million rows": lambda: parquet({"key": "0" * 1000}, 2_000_000),
    },
    "metadata": {
        "a footer of 4 GB": lambda: parquet_footer(2**32 - 1),
    },
    "view: selection.json": _DEEP | _TEXTS,
    "labelme.json": _DEEP,
    "manifest, verified": _DEEP,
}
"""By the reader's name, then by what is wrong."""
