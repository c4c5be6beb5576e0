"""What is said of a Ray cluster that cannot be used, and how soon."""

import os
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from ovamgen.cluster.connection import refusal_of

pytestmark = [pytest.mark.cluster]


@pytest.fixture
def head(ray_session):
    """HOST:PORT of a Ray that asks for a token."""
    return ray_session.get_runtime_context().gcs_address


def test_a_cluster_whose_token_we_have_is_fine(head):
    assert refusal_of(head) == ""


def test_the_token_may_be_in_a_file(head, monkeypatch, tmp_path):
    path = tmp_path / "token"
    path.write_text(os.environ["RAY_AUTH_TOKEN"] + "\n")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert refusal_of(head) == ""


def test_a_missing_mode_a_missing_token_and_a_wrong_one_are_told_apart(head, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 32)
    assert "has another token than this process: set RAY_AUTH_TOKEN" in refusal_of(head)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    assert "asks for a token, and none is here: set RAY_AUTH_TOKEN" in refusal_of(head)
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert "asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN" in refusal_of(head)


class Page(BaseHTTPRequestHandler):
    """What any web server answers."""

    def do_PRI(self):
        self.send_error(404)

    def log_message(self, *_):
        """Nothing: the test's output is its own."""


def test_what_is_no_ray_is_told_from_what_is_not_there():
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        assert f"what answers at {address} is no head of a Ray cluster" in refusal_of(address)
        server.shutdown()
    assert f"nothing answers at {address}" in refusal_of(address)
    assert "must be HOST:PORT" in refusal_of("ray://head:10001")
    assert "nothing answers at [::1]:1" in refusal_of("[::1]:1")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("head", "asks for a token: set RAY_AUTH_MODE=token"),
        pytest.param("silent", "is no head of a Ray cluster", marks=pytest.mark.slow),
        ("none", "nothing answers at"),
    ],
)
def test_a_run_that_cannot_use_its_cluster_says_why_in_seconds(head, tmp_path, place, words):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if place == "silent":
            listener.listen()
        address = head if place == "head" else f"127.0.0.1:{listener.getsockname()[1]}"
        own = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
        start = time.monotonic()
        command = ["generate", "--captions", "demo", "--model", "mini", "--limit", "2", "--out"]
        done = subprocess.run(
            [sys.executable, "-m", "ovamgen", *command, str(tmp_path / "out")],
            env=own | {"RAY_ADDRESS": address},
            capture_output=True,
            text=True,
            timeout=110,
        )
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (1, "")
    assert words in last, done.stderr
    assert "unset RAY_ADDRESS to start Ray in this process" in last
    # imports included, on a machine that is busy
    assert time.monotonic() - start < 60
    assert not (tmp_path / "out").exists()
