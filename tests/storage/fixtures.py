"""A real S3 server on loopback, and the environment of a process that uses it."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.storage.faulty import NOTHING, Faults, FaultyProxy

KEY_ID = "AKIAOVAMGENTEST00000"
SECRET = "planted/secret+that/must/never/be/seen"
"""What the tests look for in everything that a run writes and says."""

_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """An empty bucket of the server, seen from outside the code under test."""

    endpoint: str
    name: str
    client: object

    @property
    def url(self) -> str:
        """Of a folder in it."""
        return f"s3://{self.name}/corpora/out"

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def names(self, prefix: str = "") -> list[str]:
        """All objects, hidden ones included."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

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
        before = os.environ["AWS_ENDPOINT_URL"]
        with FaultyProxy(self.endpoint, faults) as proxy:
            os.environ["AWS_ENDPOINT_URL"] = proxy.url
            try:
                yield proxy
            finally:
                os.environ["AWS_ENDPOINT_URL"] = before


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
def bucket(s3_environment):
    """An empty bucket, with the environment set for it."""
    import boto3

    client = boto3.client("s3", endpoint_url=s3_environment)
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    yield Bucket(endpoint=s3_environment, name=name, client=client)
    client.close()


@pytest.fixture
def short_pauses(monkeypatch):
    """Pauses between attempts are short in this process: what is tested is the attempts."""
    from ovamgen.storage import retrying

    monkeypatch.setattr(retrying, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.01
    )
