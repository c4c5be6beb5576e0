"""The server without a browser: who is let in, and what is taken."""

from __future__ import annotations

import http.client
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovamgen.annotate.server import LARGEST_BODY_BYTES
from tests.annotate.conftest import CAT, HEIGHT, WIDTH, disc

PNG = {"Content-Type": "image/png"}


def png(mask, mode="L"):
    buffer = io.BytesIO()
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def ask(served, method, path, body=None, headers=None, *, absolute=False):
    """Status, headers and body; JSON is decoded."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        whole = path if absolute else served.root + path
        connection.request(method, whole, body=body, headers=headers or {})
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, answer.headers, json.loads(data) if is_json else data


def version(served, key="cat-0"):
    return ask(served, "GET", f"annotations/{key}")[1]["ETag"]


def put(served, body, key="cat-0", **headers):
    given = {**PNG, "If-Match": version(served), **headers}
    return ask(served, "PUT", f"annotations/{key}", body, given)


def nothing_written(folder):
    return not [path for path in (folder.root / "annotations").rglob("*") if path.is_file()]


def test_a_mask_goes_in_and_comes_out(served, folder):
    status, headers, answer = put(served, png(disc(40, 150, 20), "RGBA"))
    assert (status, answer["state"]) == (200, "annotated")
    assert answer["counts"] == {"total": 3, "annotated": 1, "left_out": 0}
    assert np.array_equal(folder.annotation(CAT), disc(40, 150, 20))
    status, again, data = ask(served, "GET", "annotations/cat-0")
    assert (status, again["ETag"], again.get_content_type()) == (200, headers["ETag"], "image/png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), disc(40, 150, 20) * 255)
    assert served.finish().lines()[0].endswith("1 of 3, 1 changed now")


def test_the_list_says_what_there_is(served):
    status, headers, answer = ask(served, "GET", "samples")
    assert status == 200
    assert answer["folder"] == "samples"
    assert answer["samples"][1] == {
        "key": "table_1",
        "phrase": "dining table",
        "prompt": "a plate",
        "word_included": True,
        "state": "to_do",
    }
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "same-origin"
    assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("name", ["", "page/main.js", "page/style.css", "page/icon.svg"])
def test_the_page_is_there_and_carries_its_policy(served, name):
    status, headers, data = ask(served, "GET", name)
    assert (status, len(data) > 100) == (200, True)
    assert "script-src 'self'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/samples", "/x/samples", "/page/main.js", "//samples"])
def test_without_the_token_nothing_is_answered(served, path):
    status, headers, answer = ask(served, "GET", path, absolute=True)
    assert (status, "token" in answer["error"]) == (403, True)
    assert "Content-Security-Policy" in headers


def test_a_wrong_token_is_refused_for_writes_too(served, folder):
    token = served.root.strip("/")
    for wrong in (token[:-1], token + "A", token.swapcase(), "%00" + token):
        path = f"/{wrong}/annotations/cat-0"
        given = {**PNG, "If-Match": version(served)}
        assert ask(served, "PUT", path, png(disc(9, 9, 5)), given, absolute=True)[0] == 403
    assert nothing_written(folder)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "["]
)
def test_another_host_is_refused(served, host):
    # DNS rebinding: the browser believes that evil.example is this server
    status, _, answer = ask(served, "GET", "samples", headers={"Host": host})
    assert (status, "127.0.0.1" in answer["error"]) == (403, True)


def test_a_forwarded_port_is_let_in(served):
    host = {"Host": "localhost:9999", "Origin": "http://localhost:9999"}
    assert ask(served, "GET", "samples", headers=host)[0] == 200


def test_a_link_in_another_page_opens_the_page_and_frames_nothing(served):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(served, "GET", "", headers={**link, "Sec-Fetch-Dest": "document"})[0] == 200
    assert ask(served, "GET", "", headers={**link, "Sec-Fetch-Dest": "iframe"})[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_page_is_refused_even_with_the_token(served, folder, headers):
    assert put(served, png(disc(40, 150, 20)), **headers)[0] == 403
    assert nothing_written(folder)


@pytest.mark.parametrize(
    "key", ["nobody", "..", "%2e%2e%2fsamples", "..%2f..%2fetc%2fpasswd", "cat-0%00", "cat-0.png"]
)
@pytest.mark.parametrize("place", ["images", "annotations", "left_out", "page"])
def test_a_key_is_never_a_path(served, folder, place, key):
    given = {**PNG, "If-Match": version(served)}
    body = png(disc(9, 9, 5))
    for method in ("GET", "PUT"):
        status = ask(served, method, f"{place}/{key}", body if method == "PUT" else None, given)[0]
        # 403: '..' was resolved, and what is left holds no token
        assert status in (403, 404, 405), (method, status)
    assert nothing_written(folder)


def bomb(height, width):
    """A PNG whose header promises so many pixels, in a few bytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "must be a PNG"),
        (b"GIF89a" + bytes(40), "must be a PNG"),
        (png(disc(40, 150, 20))[:60], "whole PNG"),
        (bomb(HEIGHT, WIDTH), "whole PNG"),
        (bomb(2**31 - 1, 2**31 - 1), "must be 120x200"),
        (png(disc(40, 50, 20, WIDTH, HEIGHT)), "got 200x120"),
    ],
)
def test_what_is_no_mask_of_the_image_is_refused(served, folder, body, reason):
    status, _, answer = put(served, body)
    assert status == 422
    assert reason in answer["error"]
    assert nothing_written(folder)


def test_a_body_too_large_is_refused(served, folder):
    status, _, _ = put(served, png(disc(9, 9, 5)) + bytes(LARGEST_BODY_BYTES))
    assert status == 413
    assert nothing_written(folder)


def test_a_form_of_another_page_cannot_write(served, folder):
    # a simple request needs no preflight; this is what such a request can carry
    assert put(served, png(disc(9, 9, 5)), **{"Content-Type": "text/plain"})[0] == 415
    assert nothing_written(folder)


def test_a_change_must_name_its_version(served, folder):
    assert ask(served, "PUT", "annotations/cat-0", png(disc(9, 9, 5)), PNG)[0] == 428
    assert ask(served, "PUT", "left_out/cat-0")[0] == 428
    assert nothing_written(folder)


def test_the_second_of_two_windows_is_refused(served, folder):
    seen = version(served)
    assert put(served, png(disc(40, 150, 20)))[0] == 200
    status, _, answer = put(served, png(disc(9, 9, 5)), **{"If-Match": seen})
    assert (status, "another window" in answer["error"]) == (412, True)
    assert np.array_equal(folder.annotation(CAT), disc(40, 150, 20))


def test_leaving_out_and_taking_in(served):
    put(served, png(disc(40, 150, 20)))
    for method, state in (("PUT", "left_out"), ("DELETE", "annotated")):
        given = {"If-Match": version(served)}
        status, _, answer = ask(served, method, "left_out/cat-0", headers=given)
        assert (status, answer["state"]) == (200, state)


def test_a_damaged_annotation_is_named_and_can_be_replaced(served, folder):
    folder.annotation_path(CAT).write_bytes(b"no picture")
    status, _, answer = ask(served, "GET", "annotations/cat-0")
    assert (status, "cat-0.png" in answer["error"]) == (422, True)
    assert put(served, png(disc(40, 150, 20)))[0] == 200


def test_an_image_that_is_missing_is_named(served, folder):
    folder.image_path(CAT).unlink()
    status, _, answer = ask(served, "GET", "images/cat-0")
    assert (status, "does not exist" in answer["error"]) == (422, True)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_it_listens_on_loopback_only(served):
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f":{served.port:04X}"
    listening = [row[1] for row in rows if row[1].endswith(port) and row[3] == "0A"]
    assert listening == [f"0100007F{port}"]
