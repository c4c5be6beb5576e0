"""Token files: pickles that call, hash or count without end, safetensors that promise too much."""

from __future__ import annotations

import json
import pickle
import struct

from tests.fuzz.attacks import ATTACKS as OF_READERS
from tests.fuzz.attacks import npy_pickle, safetensors, tensor
from tests.hostile.forging import attacks, put
from tests.hostile.texts import TEXTS


class _Touch:
    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("CODE_RAN", "w"))


def _tuple_hashed_2_60_times() -> bytes:
    """A dictionary whose key is a tuple of tuples of tuples: each has the one before it twice."""
    body = b"\x80\x04}" + b")q\x00"
    for level in range(60):
        body += b"h" + bytes([level]) + b"h" + bytes([level]) + b"\x86q" + bytes([level + 1])
    return npy_pickle(body + b"K\x01s.")


def _bank(**notes: str) -> bytes:
    """A header with these notes and one tensor."""
    return safetensors({"__metadata__": notes, "pairs": tensor([1, 2, 4], 32)}, bytes(32))


ATTACKS = [
    *attacks(
        "token files",
        "tokens.npy",
        {
            **{
                name: put("tokens.npy", content)
                for name, content in OF_READERS["tokens.npy"].items()
            },
            "a call that opens": put("tokens.npy", npy_pickle(pickle.dumps(_Touch()))),
            "60 million marks": put(
                "tokens.npy", lambda: npy_pickle(b"\x80\x04" + b"(" * 60_000_000 + b".")
            ),
            "60 million numbers": put(
                "tokens.npy", lambda: npy_pickle(b"\x80\x04(" + b"K\x01" * 30_000_000 + b"l.")
            ),
            "a tuple hashed 2^60 times": put("tokens.npy", _tuple_hashed_2_60_times),
            "a long of 100 MB": put(
                "tokens.npy",
                lambda: npy_pickle(
                    b"\x80\x04\x8b" + struct.pack("<i", 10**8) + b"\x7f" * 10**8 + b"."
                ),
            ),
            "text of a number of 10^6 digits": put(
                "tokens.npy", npy_pickle(b"\x80\x04L" + b"9" * 10**6 + b"L\n.")
            ),
        },
    ),
    *attacks(
        "token files",
        "bank.safetensors",
        {
            **{
                name: put("bank.safetensors", content)
                for name, content in OF_READERS["bank.safetensors"].items()
            },
            **{
                f"{name} in the notes": put(
                    "bank.safetensors",
                    _bank(
                        format="ovamgen-tokens-1",
                        class_names=json.dumps([text[:1000]]),
                        provenance=json.dumps({"kind": text[:1000], "model": text[:1000]}),
                    ),
                )
                for name, text in TEXTS.items()
                if name != "half a character"
            },
        },
    ),
    *attacks(
        "token files",
        "bank.npz",
        {name: put("bank.npz", content) for name, content in OF_READERS["bank.npz"].items()},
    ),
]
