"""A real S3 server on loopback, and the environment of a process that uses it."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from tests.storage.faulty import NOTHING, Faults, FaultyProxy

KEY_ID = "AKIAOVAMGENTEST00000"
SECRET = "planted/secret+that/must/never/be/seen"
"""What the tests look for in everything that a run writes and says."""

_BUCKETS = {"s3": "s3_bucket", "gs": "google_bucket", "az": "azure_bucket"}

_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """An empty bucket of a server, seen from outside the code under test."""

    store: ClassVar[str]
    variable: ClassVar[str]
    """The one that says where the server is."""
    secrets: ClassVar[tuple[str, ...]]
    """What must be in nothing that a run writes and says."""

    endpoint: str
    name: str
    client: Any

    @property
    def url(self) -> str:
        """Of a folder in it."""
        return f"{self.store}://{self.name}/corpora/out"

    def at(self, endpoint: str) -> str:
        """The value of the variable for another server."""
        return os.environ[self.variable].replace(self.endpoint, endpoint)

    def put(self, key: str, content: bytes) -> None:
        raise NotImplementedError

    def mark_folder(self, key: str) -> None:
        """Leaves what consoles of the store leave for a folder without files."""
        self.put(key, b"")

    def get(self, key: str) -> bytes:
        raise NotImplementedError

    def names(self, prefix: str = "") -> list[str]:
        """All objects, hidden ones included."""
        raise NotImplementedError

    def digests(self, folder: str = "corpora/out") -> dict[str, str]:
        """sha256 of every object below a folder, by its name there, as `tests.runs.digests`."""
        start = f"{folder}/"
        return {
            key.removeprefix(start): hashlib.sha256(self.get(key)).hexdigest()
            for key in self.names(start)
        }

    @contextmanager
    def faulty(self, faults: Faults = NOTHING) -> Iterator[FaultyProxy]:
        """The same bucket behind a proxy; this process and its children go through it."""
        before = os.environ[self.variable]
        with FaultyProxy(self.endpoint, faults, self.store) as proxy:
            os.environ[self.variable] = self.at(proxy.url)
            try:
                yield proxy
            finally:
                os.environ[self.variable] = before


class S3Bucket(Bucket):
    store, variable, secrets = "s3", "AWS_ENDPOINT_URL", (SECRET, KEY_ID)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def names(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


@pytest.fixture(scope="session")
def s3_server():
    """The endpoint of a server that lives as long as the session."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_environment(s3_server, monkeypatch):
    """The standard variables of this process and its children, and no others."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return s3_server


@pytest.fixture
def bucket(request):
    """An empty bucket, with the environment set for it; of S3 where a test names no other store."""
    return request.getfixturevalue(_BUCKETS[getattr(request, "param", "s3")])


@pytest.fixture(params=["s3", "gs", "az"])
def any_bucket(request):
    """An empty bucket of each kind of store, with the environment set for it."""
    return request.getfixturevalue(_BUCKETS[request.param])


@pytest.fixture
def s3_bucket(s3_environment):
    """An empty bucket, with the environment set for it."""
    import boto3

    client = boto3.client("s3", endpoint_url=s3_environment)
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    yield S3Bucket(endpoint=s3_environment, name=name, client=client)
    client.close()


@pytest.fixture
def short_pauses(monkeypatch):
    """Pauses between attempts are short in this process: what is tested is the attempts."""
    from ovamgen.storage import retrying

    monkeypatch.setattr(retrying, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.01
    )
