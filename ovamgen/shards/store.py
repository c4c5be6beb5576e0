"""Which store a URL names.

A new kind of store is one class beside `LocalStore` and one line in `open_store`.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from ovamgen.errors import ConfigError
from ovamgen.shards.interface import Store
from ovamgen.shards.local import LocalStore

__all__ = ["LocalStore", "Store", "open_store"]


def open_store(url: str) -> Store:
    """The store at a local path or a ``file://`` URL; nothing is read or made yet.

    Raises:
        ConfigError: no path, or a URL of another scheme.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        if not url.strip():
            raise ConfigError("expected a folder for the output, got an empty path")
        return LocalStore(url)
    if scheme != "file":
        raise ConfigError(
            f"expected a folder or a file:// URL, got the scheme '{scheme}' in {url}: object "
            "stores are not supported yet in this version; write to a folder and copy it"
        )
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ConfigError(f"expected file:///ABSOLUTE/PATH, got {url}")
    return LocalStore(unquote(parts.path))
