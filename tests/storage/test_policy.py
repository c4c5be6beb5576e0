"""What exceptions mean, and for how long a call is tried; no server."""

import errno
import io
import itertools
import socket

import pytest
from botocore import exceptions as botocore_errors
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from ovamgen.errors import ConfigError
from ovamgen.storage import reading, retrying
from ovamgen.storage.failures import IncompleteTransferError, failure_of
from ovamgen.storage.reading import ranged_file, read_file
from ovamgen.storage.retrying import Patience, RemoteError
from ovamgen.storage.urls import redact, scheme_of


def answer(status, code):
    response = {
        "Error": {"Code": code, "Message": "said the store"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, "InternalError", "transient"),
        (502, "502", "transient"),
        (503, "SlowDown", "transient"),
        (503, "503", "transient"),
        (400, "RequestTimeout", "transient"),
        (400, "ThrottlingException", "transient"),
        (400, "BadDigest", "transient"),
        (409, "ConditionalRequestConflict", "transient"),
        (404, "NoSuchUpload", "transient"),
        (429, "TooManyRequests", "transient"),
        (404, "NoSuchKey", "missing"),
        (404, "404", "missing"),
        (404, "NoSuchBucket", "bucket"),
        (403, "AccessDenied", "refused"),
        (403, "403", "refused"),
        (400, "ExpiredToken", "refused"),
        (301, "PermanentRedirect", "refused"),
        (412, "PreconditionFailed", "exists"),
        (416, "InvalidRange", "range"),
        (501, "NotImplemented", "unsupported"),
        (507, "InsufficientStorage", "full"),
        (403, "QuotaExceeded", "full"),
        (507, "XMinioStorageFull", "full"),
        (400, "InvalidRequest", "other"),
    ],
)
def test_answers_of_stores_by_their_kind(status, code, kind):
    error = answer(status, code)
    assert failure_of(error).kind == kind
    # as s3fs hands it on
    assert failure_of(translate_boto_error(answer(status, code))).kind == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), "transient"),
        (TimeoutError(), "transient"),
        (IncompleteTransferError("3 of 4 bytes came"), "transient"),
        (botocore_errors.ReadTimeoutError(endpoint_url="http://x"), "transient"),
        (botocore_errors.ConnectionClosedError(endpoint_url="http://x"), "transient"),
        (botocore_errors.EndpointConnectionError(endpoint_url="http://x"), "unreachable"),
        (socket.gaierror(-2, "Name or service not known"), "unreachable"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "unreachable"),
        (botocore_errors.NoCredentialsError(), "refused"),
        (botocore_errors.HTTPClientError(error=ValueError("a setting")), "other"),
        (FileNotFoundError("x"), "missing"),
        (IsADirectoryError("x"), "folder"),
        (OSError(errno.ENOSPC, "No space left on device"), "full"),
        (OSError(errno.EIO, "broken"), "other"),
    ],
)
def test_errors_without_an_answer_by_their_kind(error, kind):
    assert failure_of(error).kind == kind


def test_a_reason_is_one_line_and_names_the_code():
    error = answer(403, "AccessDenied")
    error.response["Error"]["Message"] = "two\nlines"
    assert failure_of(error).reason == "two lines (AccessDenied)"


def test_secrets_of_the_environment_are_taken_out(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a/secret+value")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "Account=x;Key=yyyy")
    monkeypatch.setenv("GITHUB_TOKEN", "ab")
    text = "a/secret+value at https://me:pass@host/x with Account=x;Key=yyyy, about"
    assert redact(text) == "*** at https://***@host/x with ***, about"


def test_schemes():
    found = {
        u: scheme_of(u) for u in ("a/b", "/a::b", "S3://x", "simplecache::s3://x", "file:///a")
    }
    assert [*found.values()] == ["", "", "s3", "simplecache", "file"]


def test_what_may_pass_is_tried_until_it_goes_well(monkeypatch):
    monkeypatch.setattr(retrying, "LONGEST_PAUSE_SECONDS", 0.01)
    errors = [TimeoutError(), answer(503, "SlowDown"), ConnectionResetError()]

    def work():
        if errors:
            raise errors.pop()
        return 7

    assert Patience().call(work) == 7


def test_a_defect_of_our_own_is_neither_tried_again_nor_put_into_words():
    calls = []

    def work():
        calls.append(1)
        raise KeyError("a defect")

    with pytest.raises(KeyError):
        Patience().call(work)
    assert len(calls) == 1


def test_pauses_grow_and_have_jitter(monkeypatch):
    pauses = []
    clock = [0.0]

    def sleep(seconds):
        pauses.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("tenacity.nap.time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def work():
        raise TimeoutError

    with pytest.raises(RemoteError) as info:
        Patience(300.0).call(work)
    assert sum(pauses) <= 300
    assert info.value.failure.kind == "transient"
    assert max(pauses) <= 20
    assert len({round(pause, 6) for pause in pauses}) > 5
    assert sum(pauses[:4]) < 4


def test_a_local_file_is_read_once_and_its_error_kept(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"123")
    assert read_file(str(path), lambda file: file.read()) == b"123"
    assert read_file(f"file://{path}", lambda file: file.read(2)) == b"12"
    with pytest.raises(RemoteError) as info:
        read_file(str(tmp_path / "b"), lambda file: file.read())
    assert info.value.failure.kind == "missing"
    assert ";" not in info.value.explanation
    with pytest.raises(ConfigError, match="unknown scheme 'nosuch'"):
        read_file("nosuch://a", lambda file: file.read())


class File(io.BytesIO):
    """As a filesystem opens it: it knows its size, whatever comes of it."""

    size = 8


class Cuts:
    """A filesystem whose first two answers end early."""

    def __init__(self):
        self.contents = [b"1234", b"", b"12345678"]

    def open(self, path, mode):
        return File(self.contents.pop(0))


def test_a_file_whose_end_comes_early_is_read_again(monkeypatch):
    monkeypatch.setattr(retrying, "LONGEST_PAUSE_SECONDS", 0.01)
    filesystem = Cuts()
    monkeypatch.setattr(reading, "filesystem_of", lambda url: (filesystem, "a"))
    assert read_file("s3://bucket/a", lambda file: file.read()) == b"12345678"
    assert filesystem.contents == []


def test_a_ranged_file_asks_for_each_byte_once_when_read_on():
    content = bytes(range(256)) * 20_000
    asked = []

    def fetch(start, stop):
        asked.append((start, stop))
        return content[start:stop]

    with ranged_file("x", len(content), fetch) as file:
        assert file.read() == content
    assert asked[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(asked))
    assert asked[-1][1] == len(content)


def test_errors_of_google_and_azure_and_the_hub_are_the_same_kinds():
    """As their libraries raise them; what they raise behind real servers is in the other tests."""
    import httpx2
    from azure.core import exceptions as azure_errors
    from gcsfs.retry import HttpError
    from google.auth.exceptions import DefaultCredentialsError, TransportError

    def of_azure(kind, status, code):
        error = kind("said the store\nRequestId:1")
        error.status_code, error.error_code = status, code
        return error

    kinds = {
        HttpError({"code": 503, "message": "later"}): "transient",
        HttpError({"code": "429", "message": "slowly"}): "transient",
        HttpError({"code": 401, "message": "Invalid Credentials"}): "refused",
        OSError("Forbidden: b/x/o/y\nno access"): "refused",
        OSError("Forbidden: b/x/o/y\nThe quota is used up"): "full",
        TransportError("no way to the token"): "unreachable",
        DefaultCredentialsError("none"): "refused",
        of_azure(azure_errors.ResourceNotFoundError, 404, "ContainerNotFound"): "bucket",
        of_azure(azure_errors.ResourceNotFoundError, 404, "BlobNotFound"): "missing",
        of_azure(azure_errors.ResourceExistsError, 409, "BlobAlreadyExists"): "exists",
        of_azure(azure_errors.HttpResponseError, 503, "ServerBusy"): "transient",
        of_azure(azure_errors.ClientAuthenticationError, 403, "AuthenticationFailed"): "refused",
        azure_errors.ServiceRequestError("nobody"): "unreachable",
        azure_errors.ServiceResponseError("cut"): "transient",
        httpx2.ConnectError("nobody"): "unreachable",
        httpx2.ReadError("cut"): "transient",
    }
    for error, kind in kinds.items():
        failure = failure_of(error, "az")
        assert failure.kind == kind, error
        assert len(failure.reason.splitlines()) == 1


def test_advice_names_the_variables_of_the_store():
    error = PermissionError("no")
    for scheme, variable in {
        "s3a": "AWS_ACCESS_KEY_ID",
        "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
        "abfs": "AZURE_STORAGE_CONNECTION_STRING",
        "hf": "HF_TOKEN",
        "sftp": "check the credentials, and",
    }.items():
        assert variable in failure_of(error, scheme).advice


def test_the_key_in_a_connection_string_and_the_number_of_an_upload_are_redacted(monkeypatch):
    connection = "AccountName=a;AccountKey=Zm9vYmFyYmF6;EndpointSuffix=core.windows.net"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    said = redact(f"{connection} and Zm9vYmFyYmF6, to http://h/o?name=a&upload_id=AB-12&x=1")
    assert said == "*** and ***, to http://h/o?name=a&upload_id=***&x=1"
