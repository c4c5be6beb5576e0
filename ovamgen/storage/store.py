"""Which store a URL names.

A new kind of store is one class beside `LocalStore` and one line in `open_store`.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from ovamgen.errors import ConfigError
from ovamgen.storage.interface import Store
from ovamgen.storage.local import LocalStore
from ovamgen.storage.object_store import ObjectStore
from ovamgen.storage.urls import check_no_credentials, scheme_of

__all__ = ["LocalStore", "ObjectStore", "Store", "open_store"]

_NO_STORES = {
    "memory": "it is gone with its process",
    "http": "its files cannot be listed; captions and tokens can be read from it",
    "https": "its files cannot be listed; captions and tokens can be read from it",
}


def open_store(url: str) -> Store:
    """The store at a local path or at a URL of any filesystem of fsspec; nothing is read or made.

    Raises:
        ConfigError: no path, a URL that names no store, credentials in it, or a scheme whose
            library is not installed.
    """
    scheme = scheme_of(url)
    if not scheme:
        if not url.strip():
            raise ConfigError("expected a folder for the output, got an empty path")
        return LocalStore(url)
    check_no_credentials(url)
    parts = urlsplit(url)
    if scheme in ("file", "local"):
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise ConfigError(f"expected file:///ABSOLUTE/PATH, got {url}")
        return LocalStore(unquote(parts.path))
    if "::" in url:
        raise ConfigError(f"expected the URL of one store, got a chain of them: {url}")
    if scheme in _NO_STORES:
        raise ConfigError(
            f"{scheme}:// is no place for shards ({_NO_STORES[scheme]}): give a folder, or a URL "
            "such as s3://BUCKET/FOLDER"
        )
    if not parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"expected a URL such as {scheme}://BUCKET/FOLDER, without ? and #, got {url}"
        )
    return ObjectStore(url)
