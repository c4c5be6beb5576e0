"""A query may be the key to what a URL names: nothing that a run writes repeats it."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from ovamgen.config import build_config
from ovamgen.run.local import generate_local
from ovamgen.storage.urls import without_query
from tests.fakes import DiscEngine
from tests.runs import make, run_config

SECRET = "st=1700000000~exp=1800000000~hmac=planted0secret"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *arguments):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder and the address that it is served at."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("parameter", ["hdnts", "jwt", "ticket", "st"])
def test_only_a_digest_of_the_query_is_written_down(parameter):
    url = f"https://example.org/captions.json?{parameter}={SECRET}"
    told = without_query(url)
    assert told.startswith("https://example.org/captions.json?sha256=")
    assert SECRET not in told
    assert without_query(url) == told != without_query(f"{url}0")
    for plain in ("https://example.org/a.json", "/home/what?/a.json", "demo", "s3://bucket/a"):
        assert without_query(plain) == plain


def test_nothing_that_a_run_writes_has_the_query(served, tmp_path):
    folder, address = served
    config = run_config(tmp_path, count=3)
    (folder / "captions.csv").write_bytes(Path(config.plan.captions).read_bytes())
    url = f"{address}/captions.csv?hdnts={SECRET}"
    asked = build_config(config.model_dump(), {"plan": {"captions": url}})
    make(asked, generate_local, DiscEngine)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert [path for path in files if b"planted0secret" in path.read_bytes()] == []
    written = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert written["config"]["plan"]["captions"] == without_query(url)
    # the digests decide whether it is the same run, not the address
    assert make(config, generate_local, DiscEngine).made_now == []
