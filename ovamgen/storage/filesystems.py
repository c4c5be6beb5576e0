"""Filesystems by URL, one a process: no cached listings, bounded waits, credentials left to them.

Everything that is particular to one kind of store is in this module and in `failures`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import fsspec

from ovamgen.errors import ConfigError
from ovamgen.storage.urls import check_no_credentials, redact, scheme_of, store_of

_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure"}

CREATES = frozenset({"s3", "gs", "az"})
"""Stores whose filesystem can write an object on condition that there is none.

S3 and Azure do it with If-None-Match, Google's store with generation 0. A server that answers "not
implemented" is treated like one of the other stores.
"""

TELLS_BUCKETS = frozenset({"s3", "hf"})
"""Stores whose libraries tell a bucket that is missing from an object that is."""

READ_ONLY = {
    "hf": "the Hub makes a commit of every file and cannot create one on condition that there is "
    "none; give a folder or a bucket, and send an export there with 'ovamgen export ... --push'"
}
"""Stores that take no objects one by one, and why."""

PART_BYTES = 8 << 20
"""Bytes moved in one request: a slow line still moves it within the read timeout."""

_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_CALL_ATTEMPTS = 4
"""Seconds a request: a listing or an upload is made of many, and begins anew after the last."""

_PARTS_AT_ONCE = 4


def filesystem_of(url: str) -> tuple[Any, str]:
    """The filesystem of a URL or a path, and the path on it.

    Raises:
        ConfigError: credentials in the URL, an unknown scheme, its library is not installed, or it
            finds no account in the environment.
    """
    check_no_credentials(url)
    scheme = scheme_of(url)
    try:
        if "::" in url:
            filesystem, path = fsspec.core.url_to_fs(url)
            return filesystem, path
        filesystem = _filesystem(scheme or "file", _account(url), os.getpid(), _environment())
    except ImportError as error:
        extra = _EXTRAS.get(store_of(scheme))
        needed = f"pip install 'ovamgen[{extra}]'" if extra else str(error)
        raise ConfigError(f"{scheme}:// needs a library that is not installed: {needed}") from None
    except TypeError as error:
        # a host, a token: what cannot be taken from the URL alone
        raise ConfigError(
            f"{scheme}:// cannot be opened by a URL alone ({error}): give a path, or a URL such as "
            "s3://BUCKET/FOLDER"
        ) from None
    except ValueError as error:
        if store_of(scheme) == "az":
            raise ConfigError(
                f"{scheme}:// finds no account ({redact(str(error))}): set "
                "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and credentials"
            ) from None
        raise ConfigError(
            f"expected a path or a URL such as s3://BUCKET/FOLDER, got the unknown scheme "
            f"'{scheme}' in {url}"
        ) from None
    return filesystem, filesystem._strip_protocol(url)


def write_options(store: str) -> dict[str, Any]:
    """How bytes are checked on their way, for ``pipe_file``."""
    # Azure tells no digest of an object that came in blocks: it checks that of each on arrival
    return {"validate_content": True} if store == "az" else {}


def upload_options(store: str) -> dict[str, Any]:
    """The same for ``put_file``, and how it cuts large files; the object is the same."""
    if store == "s3":
        return {"chunksize": PART_BYTES, "max_concurrency": _PARTS_AT_ONCE}
    return {"chunksize": PART_BYTES} if store == "gs" else write_options(store)


def look_for_bucket(filesystem: Any, path: str, store: str) -> None:
    """Asks for the bucket of a path itself.

    Raises:
        FileNotFoundError: there is none. Whatever else the library raises.
    """
    bucket = path.partition("/")[0]
    if store == "gs":
        # a listing, since who may use the objects need not be allowed to look at the bucket
        filesystem.call("GET", "b/{}/o", bucket, maxResults=1)
    elif store == "az":
        try:
            filesystem.info(bucket)
        except PermissionError:
            return


@lru_cache(maxsize=16)
def _filesystem(scheme: str, account: str, process: int, environment: int) -> Any:
    """One for all threads of a process; another after a fork, or with other credentials."""
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    make = _MAKERS.get(store_of(scheme))
    if make is not None:
        return make(account, options)
    return fsspec.filesystem(scheme, **options)


def _s3(account: str, options: dict[str, Any]) -> Any:
    options["config_kwargs"] = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "retries": {"mode": "standard", "total_max_attempts": _CALL_ATTEMPTS},
    }
    filesystem = fsspec.filesystem("s3", **options)
    # its own loop around the client's: that of ovamgen.storage.retrying takes its place
    filesystem.retries = 1
    return filesystem


def _google(account: str, options: dict[str, Any]) -> Any:
    import aiohttp
    from gcsfs.core import GCSFileSystem

    class OneAttempt(GCSFileSystem):  # type: ignore[misc]
        """Without zonal buckets, which need gRPC and another permission to be told from others.

        Its loop around each request sleeps up to a minute: that of ovamgen.storage.retrying takes
        its place.
        """

        _request = GCSFileSystem._request.__wrapped__

        async def _info(self, path: str, generation: Any = None, **options: Any) -> Any:
            # its own asks for a folder of the name as well
            return await self._get_object(self._strip_protocol(path))

    timeout = aiohttp.ClientTimeout(connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
    return OneAttempt(requests_timeout=timeout, **options)


def _azure(account: str, options: dict[str, Any]) -> Any:
    filesystem = fsspec.filesystem(
        "abfs",
        account_name=account or None,
        max_concurrency=_PARTS_AT_ONCE,
        connection_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        **options,
    )
    # adlfs passes no settings on to its client. Its retries would begin after 15 s
    settings = filesystem.service_client._config
    settings.retry_policy.total_retries = 0
    settings.max_single_put_size = settings.max_block_size = PART_BYTES
    return filesystem


def _hub(account: str, options: dict[str, Any]) -> Any:
    from huggingface_hub import HfFileSystem, constants

    if constants.HF_HUB_OFFLINE:
        raise ConfigError("hf:// needs the Hub, and HF_HUB_OFFLINE says not to reach it: unset it")

    class Listed(HfFileSystem):
        """Lists what is there now, where its own would remember; it knows no prefixes."""

        def find(self, path: str, *arguments: Any, prefix: str = "", **options: Any) -> Any:
            return super().find(path, *arguments, **{**options, "refresh": True})

    return Listed(endpoint=os.environ.get("HF_ENDPOINT"), **options)


_MAKERS = {"s3": _s3, "gs": _google, "az": _azure, "hf": _hub}


def _account(url: str) -> str:
    """Azure's, where the URL names one: ``abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER``."""
    if store_of(scheme_of(url)) != "az" or "@" not in url:
        return ""
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    return host.partition(".")[0]


def _environment() -> int:
    """A mark of the variables that filesystems read."""
    names = ("AWS_", "GOOGLE_", "STORAGE_EMULATOR_", "AZURE_", "HF_", "FSSPEC_")
    return hash(tuple(sorted(i for i in os.environ.items() if i[0].startswith(names))))
