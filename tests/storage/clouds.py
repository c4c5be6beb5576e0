"""Servers of Google's and Azure's object stores on loopback, and their users' environments."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.storage.fixtures import Bucket

AZURE_ACCOUNT = "ovamgentests"
AZURE_KEY = base64.b64encode(b"planted, and must never be seen: " * 2).decode()

_numbers = itertools.count()


class GoogleBucket(Bucket):
    """In a server of this process, see `tests.storage.google_server`."""

    store, variable = "gs", "STORAGE_EMULATOR_HOST"

    @property
    def secrets(self) -> tuple[str, ...]:
        from tests.storage.google_server import TOKEN

        return (TOKEN, self.client.account("")["private_key"].splitlines()[1])

    def put(self, key: str, content: bytes) -> None:
        from tests.storage.google_server import TOKEN

        place = f"{self.endpoint}/upload/storage/v1/b/{self.name}/o?uploadType=media&name={key}"
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/octet-stream"}
        if not content:
            # the emulator takes no empty body here
            self.client.create_empty(self.name, key)
            return
        urllib.request.urlopen(urllib.request.Request(place, content, headers)).close()

    def forge(self, monkeypatch) -> None:
        """The environment of somebody with the same account's name and another key."""
        from tests.storage.google_server import Objects

        path = Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"])
        forged = path.with_name("forged.json")
        account = Objects().account(f"{self.endpoint}/token")
        forged.write_text(json.dumps(account), encoding="utf-8")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(forged))

    def get(self, key: str) -> bytes:
        return self.client.get_file(self.name, key)

    def names(self, prefix: str = "") -> list[str]:
        return [entry["name"] for entry in self.client.get_file_list(self.name, prefix)[0]]


class AzureBucket(Bucket):
    """A container of Azurite."""

    store, variable = "az", "AZURE_STORAGE_CONNECTION_STRING"
    secrets = (AZURE_KEY,)

    def put(self, key: str, content: bytes) -> None:
        self.client.upload_blob(key, content, overwrite=True)

    def mark_folder(self, key: str) -> None:
        self.client.upload_blob(key.rstrip("/"), b"", metadata={"hdi_isfolder": "true"})

    def forge(self, monkeypatch) -> None:
        """The environment of somebody with the same account's name and another key."""
        forged = os.environ[self.variable].replace(AZURE_KEY, AZURE_KEY[::-1].lstrip("=") + "==")
        monkeypatch.setenv(self.variable, forged)

    def get(self, key: str) -> bytes:
        return self.client.download_blob(key).readall()

    def names(self, prefix: str = "") -> list[str]:
        return list(self.client.list_blob_names(name_starts_with=prefix))


@pytest.fixture(scope="session")
def google_storage():
    """Endpoint and objects of a server that lives as long as the session."""
    pytest.importorskip("gcsfs")
    pytest.importorskip("gcp_storage_emulator")
    from tests.storage.google_server import google_server

    with google_server() as served:
        yield served


@pytest.fixture
def google_bucket(google_storage, monkeypatch, tmp_path_factory):
    """An empty bucket, with the environment set for it."""
    from gcp_storage_emulator.handlers.buckets import create_bucket

    endpoint, storage = google_storage
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "GCSFS_", "GCLOUD_"))]:
        monkeypatch.delenv(name)
    account = tmp_path_factory.mktemp("google") / "account.json"
    account.write_text(json.dumps(storage.account(f"{endpoint}/token")), encoding="utf-8")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    create_bucket(name, storage)
    return GoogleBucket(endpoint=endpoint, name=name, client=storage)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory):
    """The endpoint of Azurite, which is no Python package: 'make azurite' puts it beside pytest."""
    pytest.importorskip("adlfs")
    beside = Path(sys.prefix) / "azurite" / "node_modules" / ".bin"
    command = shutil.which("azurite-blob", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if command is None:
        pytest.skip("needs Azurite, the Azure emulator: 'make azurite' (from npm)")
    folder = tmp_path_factory.mktemp("azurite")
    log = folder / "log"
    options = ["--blobPort", "0", "--inMemoryPersistence"]
    options += ["--disableTelemetry", "--skipApiVersionCheck"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [command, *options],
            cwd=folder,
            stdout=file,
            stderr=file,
            env=os.environ | {"AZURITE_ACCOUNTS": f"{AZURE_ACCOUNT}:{AZURE_KEY}"},
        )
    try:
        yield f"{_listening(process, log)}/{AZURE_ACCOUNT}"
    finally:
        process.terminate()
        process.wait()


def _listening(process, log):
    """The URL that the server says that it listens on."""
    said = " successfully listens on "
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text(encoding="utf-8")
        if said in text:
            return text.partition(said)[2].split()[0]
        time.sleep(0.05)
    pytest.fail(f"Azurite did not start: {log.read_text(encoding='utf-8')}")


@pytest.fixture
def azure_bucket(azurite, monkeypatch):
    """An empty container, with the environment set for it."""
    from azure.storage.blob import ContainerClient

    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    settings = {
        "DefaultEndpointsProtocol": "http",
        "AccountName": AZURE_ACCOUNT,
        "AccountKey": AZURE_KEY,
        "BlobEndpoint": azurite,
    }
    connection = "".join(f"{name}={value};" for name, value in settings.items())
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    with ContainerClient.from_connection_string(connection, name) as client:
        client.create_container()
        endpoint = azurite.removesuffix(f"/{AZURE_ACCOUNT}")
        yield AzureBucket(endpoint=endpoint, name=name, client=client)
