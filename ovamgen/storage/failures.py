"""What an exception of some store's library means, and what to do about it.

Libraries of stores are looked up among the loaded modules and never imported.
"""

from __future__ import annotations

import errno
import socket
import sys
from dataclasses import dataclass
from typing import Literal

from ovamgen.storage.urls import redact, store_of

Kind = Literal[
    "missing",  # there is no such file
    "folder",  # a folder is there
    "exists",  # a file is there that must not be
    "bucket",  # there is no such bucket
    "refused",  # credentials or permissions
    "full",  # a quota, or the disk behind the store
    "unsupported",  # the store cannot do this
    "range",  # bytes were asked for that the file does not have
    "unreachable",  # nobody answers
    "transient",  # it may go well the next time
    "other",
]


class IncompleteTransferError(OSError):
    """A download or an upload was cut short, or its bytes were changed on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An exception in our words, without credentials."""

    kind: Kind
    reason: str
    """One line."""
    advice: str
    """What to do."""

    @property
    def may_pass(self) -> bool:
        """Whether the same call can go well a little later."""
        return self.kind in ("transient", "unreachable")


_ADVICE: dict[Kind, str] = {
    "missing": "it is not there: check the path; 'ovamgen generate' makes shards that are missing",
    "folder": "name a file",
    "exists": "remove it, or give another --out",
    "bucket": "there is no such bucket: check its name and the endpoint ({endpoint}), or make it",
    "refused": "check the {credentials}, and that they may list, read, write and delete here",
    "full": "make room or raise the quota, then run again",
    "unsupported": "use a store that can",
    "range": "the file is shorter than it was: read it again",
    "unreachable": "check the network and the endpoint ({endpoint}), then run again",
    "transient": "the store stays out of order: run again later",
    "other": "see to the store, then run again",
}
_ENDPOINTS = {
    "s3": "AWS_ENDPOINT_URL",
    "gs": "STORAGE_EMULATOR_HOST",
    "az": "AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT_NAME",
    "hf": "HF_ENDPOINT",
}
_CREDENTIALS = {
    "s3": "credentials and region in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
    "AWS_PROFILE, AWS_DEFAULT_REGION)",
    "gs": "credentials (GOOGLE_APPLICATION_CREDENTIALS, or 'gcloud auth application-default "
    "login')",
    "az": "credentials in the environment (AZURE_STORAGE_CONNECTION_STRING, or "
    "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or a role)",
    "hf": "token (HF_TOKEN, or 'hf auth login')",
}

_UNREACHABLE = {
    "aiohttp": ("ClientConnectorError",),
    "azure.core.exceptions": ("ServiceRequestError",),
    "botocore.exceptions": (
        "ConnectTimeoutError",
        "EndpointConnectionError",
        "ProxyConnectionError",
        "SSLError",
    ),
    "google.auth.exceptions": ("TransportError",),
    "httpx": ("ConnectError", "ConnectTimeout"),
    "httpx2": ("ConnectError", "ConnectTimeout"),
}
_TRANSIENT = {
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "azure.core.exceptions": ("IncompleteReadError", "ServiceResponseError"),
    "botocore.exceptions": ("HTTPClientError", "IncompleteReadError"),
    "botocore.parsers": ("ResponseParserError",),
    "gcsfs.retry": ("ChecksumError",),
    "http.client": ("IncompleteRead", "RemoteDisconnected"),
    "httpx": ("TransportError",),
    "httpx2": ("TransportError",),
    "requests.exceptions": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "urllib3.exceptions": ("IncompleteRead", "ProtocolError"),
}
_REFUSED = {
    "botocore.exceptions": ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"),
    "google.auth.exceptions": ("GoogleAuthError",),
}
_OTHER = {
    "aiohttp": ("ClientError",),
    "azure.core.exceptions": ("AzureError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError", "NonRetryableError"),
    "httpx": ("HTTPError",),
    "httpx2": ("HTTPError",),
    "paramiko.ssh_exception": ("SSHException",),
    "requests.exceptions": ("RequestException",),
}

_CODES: dict[str, Kind] = {
    "NoSuchBucket": "bucket",
    "ContainerNotFound": "bucket",
    "ContainerBeingDeleted": "transient",
    "BlobAlreadyExists": "exists",
    "Md5Mismatch": "transient",
    "InvalidBlockList": "transient",
    # of a multipart upload whose last answer was lost: it is whole, or has to begin again
    "NoSuchUpload": "transient",
    "NotImplemented": "unsupported",
    "InvalidRange": "range",
    "PreconditionFailed": "exists",
    "ConditionalRequestConflict": "transient",
    "OperationAborted": "transient",
    "RequestTimeout": "transient",
    "IncompleteBody": "transient",
    "BadDigest": "transient",
    "XAmzContentSHA256Mismatch": "transient",
    "RequestTimeTooSkewed": "refused",
    "AuthorizationHeaderMalformed": "refused",
    "PermanentRedirect": "refused",
    "InvalidToken": "refused",
    "ExpiredToken": "refused",
    "InvalidAccessKeyId": "refused",
    "SignatureDoesNotMatch": "refused",
    "AccessDenied": "refused",
}
_STATUSES: dict[int, Kind] = {
    301: "refused",
    401: "refused",
    403: "refused",
    404: "missing",
    408: "transient",
    409: "transient",
    412: "exists",
    416: "range",
    425: "transient",
    429: "transient",
    501: "unsupported",
    507: "full",
}


def store_errors() -> tuple[type[Exception], ...]:
    """The exceptions that the work of a filesystem can end in."""
    return (
        OSError,
        EOFError,
        ValueError,
        *_loaded(_OTHER),
        *_loaded(_TRANSIENT),
        *_loaded(_REFUSED),
    )


def failure_of(error: BaseException, scheme: str = "") -> Failure:
    """What one of `store_errors` means; the advice names what the scheme's library reads."""
    status, code, message = _answer(error)
    text = " ".join((message or str(error)).split()) or type(error).__name__
    if code and code != str(status) and code not in text:
        text = f"{text} ({code})"
    return _failure(_kind(error, status, code), redact(text), scheme)


def no_bucket(failure: Failure, scheme: str) -> Failure:
    """The failure, where what is missing turned out to be the whole bucket."""
    return _failure("bucket", failure.reason, scheme)


def _failure(kind: Kind, reason: str, scheme: str) -> Failure:
    store = store_of(scheme)
    endpoint, credentials = _ENDPOINTS.get(store, "the URL"), _CREDENTIALS.get(store, "credentials")
    advice = _ADVICE[kind].format(endpoint=endpoint, credentials=credentials)
    return Failure(kind=kind, reason=reason, advice=advice)


def _kind(error: BaseException, status: int | None, code: str) -> Kind:
    if "quota" in code.lower() or "storagefull" in code.lower():
        return "full"
    if code in _CODES:
        return _CODES[code]
    if status is not None:
        if status in _STATUSES:
            return _STATUSES[status]
        if status >= 500 or "throttl" in code.lower() or code == "SlowDown":
            return "transient"
    return _kind_without_answer(error)


def _kind_without_answer(error: BaseException) -> Kind:
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, IsADirectoryError):
        return "folder"
    if isinstance(error, FileExistsError):
        return "exists"
    if isinstance(error, _loaded(_UNREACHABLE)):
        return "unreachable"
    if isinstance(error, (PermissionError, *_loaded(_REFUSED))):
        return "refused"
    if "gcsfs" in sys.modules and str(error).startswith("Forbidden: "):
        # gcsfs tells a 403 by these words alone
        return "full" if "quota" in str(error).lower() else "refused"
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "full"
    if isinstance(error, (socket.gaierror, ConnectionRefusedError)) or number in (
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
    ):
        return "unreachable"
    inner = getattr(error, "kwargs", {}).get("error")
    if isinstance(inner, (TypeError, ValueError)):
        # aiobotocore's error for everything that it did not expect: settings, not the network
        return "other"
    passing = (ConnectionError, TimeoutError, EOFError, IncompleteTransferError)
    if isinstance(error, (*passing, *_loaded(_TRANSIENT))):
        return "transient"
    return "other"


def _answer(error: BaseException) -> tuple[int | None, str, str]:
    """HTTP status, error code and message of the store's answer, where there was one."""
    link: BaseException | None = error
    while link is not None:
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            told = response.get("Error", {})
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status, str(told.get("Code") or ""), str(told.get("Message") or "")
        for holder in (link, response):
            for name in ("status_code", "status", "code"):
                number = str(getattr(holder, name, ""))
                if number.isdigit() and 100 <= int(number) < 600:
                    # Azure's libraries tell the code as a member of an enumeration
                    code = getattr(link, "error_code", None)
                    return int(number), str(getattr(code, "value", code) or ""), _first_line(link)
        link = link.__cause__
    return None, "", ""


def _first_line(error: BaseException) -> str:
    """The first line of an error; the others of Azure's tell time and number of the request."""
    return str(error).strip().partition("\n")[0]


def _loaded(names: dict[str, tuple[str, ...]]) -> tuple[type[Exception], ...]:
    return tuple(
        kind
        for module, classes in names.items()
        if module in sys.modules
        for name in classes
        if (kind := getattr(sys.modules[module], name, None)) is not None
    )
