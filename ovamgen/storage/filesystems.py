"""Filesystems by URL, one a process: no cached listings, bounded waits, credentials left to them.

Everything that is particular to one kind of store is in this module and in `failures`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import fsspec

from ovamgen.errors import ConfigError
from ovamgen.storage.urls import BUCKETS, check_no_credentials, scheme_of

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}

CREATES = BUCKETS
"""Schemes whose filesystem can write an object on condition that there is none.

S3 does it with If-None-Match, Google's store with generation 0. A server that answers "not
implemented" is treated like one of the other schemes.
"""

PART_BYTES = 8 << 20
"""Bytes moved in one request: a slow line still moves it within the read timeout."""

_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_CALL_ATTEMPTS = 4
"""Seconds a request: a listing or an upload is made of many, and begins anew after the last."""


def filesystem_of(url: str) -> tuple[Any, str]:
    """The filesystem of a URL or a path, and the path on it.

    Raises:
        ConfigError: credentials in the URL, an unknown scheme, or its library is not installed.
    """
    check_no_credentials(url)
    scheme = scheme_of(url)
    try:
        if "::" in url:
            filesystem, path = fsspec.core.url_to_fs(url)
            return filesystem, path
        filesystem = _filesystem(scheme or "file", os.getpid(), _environment())
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        needed = f"pip install 'ovamgen[{extra}]'" if extra else str(error)
        raise ConfigError(f"{scheme}:// needs a library that is not installed: {needed}") from None
    except TypeError as error:
        # a host, a token: what cannot be taken from the URL alone
        raise ConfigError(
            f"{scheme}:// cannot be opened by a URL alone ({error}): give a path, or a URL such as "
            "s3://BUCKET/FOLDER"
        ) from None
    except ValueError:
        raise ConfigError(
            f"expected a path or a URL such as s3://BUCKET/FOLDER, got the unknown scheme "
            f"'{scheme}' in {url}"
        ) from None
    return filesystem, filesystem._strip_protocol(url)


def upload_options(scheme: str) -> dict[str, Any]:
    """How ``put_file`` cuts large files; the object is the same."""
    if scheme in ("s3", "s3a"):
        return {"chunksize": PART_BYTES, "max_concurrency": 4}
    return {"chunksize": PART_BYTES} if scheme in ("gs", "gcs") else {}


@lru_cache(maxsize=16)
def _filesystem(scheme: str, process: int, environment: int) -> Any:
    """One for all threads of a process; another after a fork, or with other credentials."""
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if scheme in ("s3", "s3a"):
        options["config_kwargs"] = {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "retries": {"mode": "standard", "total_max_attempts": _CALL_ATTEMPTS},
        }
    filesystem = fsspec.filesystem(scheme, **options)
    if scheme in ("s3", "s3a"):
        # its own loop around the client's: that of ovamgen.storage.retrying takes its place
        filesystem.retries = 1
    return filesystem


def _environment() -> int:
    """A mark of the variables that filesystems read."""
    names = ("AWS_", "GOOGLE_", "AZURE_", "FSSPEC_")
    return hash(tuple(sorted(i for i in os.environ.items() if i[0].startswith(names))))
