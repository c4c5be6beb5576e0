"""Views whose source is somebody else's."""

from __future__ import annotations

from tests.hostile.documents import _view
from tests.hostile.forging import attacks
from tests.hostile.world import VIEW

SOURCES = [
    "s3://hostile-bucket/corpus",
    "gs://hostile-bucket/corpus",
    "http://hostile.invalid/corpus",
    "ftp://hostile.invalid/corpus",
    "sftp://hostile.invalid/corpus",
    "webhdfs://hostile.invalid/corpus",
    "jupyter://hostile.invalid/corpus",
    "reference://x/y",
    "github://hostile:repo@main/corpus",
    "hf://datasets/hostile/corpus",
    "filecache::s3://hostile-bucket/corpus",
    "simplecache::http://hostile.invalid/corpus",
    "zip://x::http://hostile.invalid/corpus.zip",
    "memory://corpus/x",
    "unknown://x/y",
    "file:///etc",
    "/etc",
    "/proc/self",
    "/dev/zero",
    "../outside",
    "../../../../../../../../etc",
    "",
    ".",
    "\0",
    "~/corpus",
    "\x1b]0;owned\x07",
    "//hostile.invalid/corpus",
    "http://user:password@hostile.invalid/corpus",
    "x" * 100_000,
]

ATTACKS = attacks("views", VIEW, {f"source {s[:50]!r}": _view("source", to=s) for s in SOURCES})
