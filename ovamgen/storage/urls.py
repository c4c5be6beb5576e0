"""URLs as people give them: their scheme, and that no credentials stand in them.

Credentials come from the environment of each process; a URL ends up in files and messages.
"""

from __future__ import annotations

import hashlib
import os
import re
from urllib.parse import parse_qsl, urlsplit

from ovamgen.errors import ConfigError

_STORES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
    "hf": "hf",
}
STORES = frozenset(_STORES)
"""Schemes of stores that are known here, and not through fsspec alone."""

LOCAL = frozenset({"", "file", "local"})
"""Schemes of paths on this machine; "" is no scheme at all."""

BUCKETS = frozenset(scheme for scheme, store in _STORES.items() if store in ("s3", "gs"))
"""Schemes whose first part is a bucket: neither a user nor a port stands there."""

_WITH_USERS = frozenset(
    {"abfs", "abfss", "adl", "az", "wasb", "wasbs", "sftp", "ssh", "ftp", "hdfs", "webhdfs", "smb"}
)
"""Schemes with a container or a user's name before an @."""

_SECRET_PARAMETER = re.compile(
    r"signature|token|secret|passw|credential|access_?key|api_?key|^key$|^sig$|auth", re.IGNORECASE
)
_SECRET_VARIABLE = re.compile(
    r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|ACCOUNT_KEY|API_KEY|CONNECTION_STRING"
)
_SECRET_SETTING = re.compile(r"(?:AccountKey|SharedAccessSignature)=([^;]+)", re.IGNORECASE)
_SECRET_QUERY = re.compile(r"([?&](?:upload_id|sig|[\w-]*signature)=)[^&\s'\"]+", re.IGNORECASE)
"""Whoever knows the number of an upload to Google's store may write it."""
_USER_INFO = re.compile(r"://[^/\s@]+@")
_SHORTEST_SECRET = 6


def scheme_of(url: str) -> str:
    """The scheme in lower case, "" for a path; of a chain ``a::b://c`` the first."""
    first, separator, _ = url.partition("::")
    if separator and "/" not in first:
        return first.lower()
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else ""


def store_of(scheme: str) -> str:
    """``s3``, ``gs``, ``az`` or ``hf``, by whichever of its names; another scheme as it is."""
    return _STORES.get(scheme, scheme)


def check_no_credentials(url: str) -> None:
    """Checks that the URL may be written down; paths always may.

    Raises:
        ConfigError: a user, a password, a key or a signature stands in it; it is not repeated.
    """
    for part in url.split("::"):
        scheme, separator, _ = part.partition("://")
        if separator and _holds_credentials(scheme.lower(), part):
            raise ConfigError(
                f"expected a URL without credentials, got some in one that begins with {scheme}://:"
                " URLs end up in files and messages; set the variables of the store instead, such "
                "as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )


def without_query(url: str) -> str:
    """The URL as it is written down: a digest stands for its query; paths stay as they are.

    A query may be a key to what it names, whatever its parameters are called.
    """
    place, separator, query = url.partition("?")
    if not separator or not scheme_of(url):
        return url
    return f"{place}?sha256={hashlib.sha256(query.encode()).hexdigest()[:16]}"


def redact(text: str) -> str:
    """The text without the values of this process's secret variables, and without users in URLs."""
    for name, value in os.environ.items():
        if not _SECRET_VARIABLE.search(name):
            continue
        # Azure's connection strings hold theirs among names: "AccountName=...;AccountKey=..."
        inner = _SECRET_SETTING.findall(value) if name.endswith("CONNECTION_STRING") else []
        for secret in (value, *inner):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
    return _SECRET_QUERY.sub(r"\1***", _USER_INFO.sub("://***@", text))


def _holds_credentials(scheme: str, url: str) -> bool:
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    host = parts.netloc.rpartition("@")[2]
    if scheme in BUCKETS and (at or ":" in host):
        # a secret key may hold a slash, so that its @ need not be in this part
        return True
    if at and (":" in user or scheme not in _WITH_USERS):
        return True
    port = re.sub(r"^\[[^\]]*\]", "", host).partition(":")[2]
    if port and not port.isdigit():
        return True
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    return any(_SECRET_PARAMETER.search(name) for name in names)
