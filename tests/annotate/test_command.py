"""``ovamgen annotate`` as people call it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from PIL import Image

from tests.annotate.conftest import HEIGHT, WIDTH

COMMAND = (sys.executable, "-m", "ovamgen", "annotate")


def call(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_it_prints_its_address_and_ends_with_a_summary(folder, number):
    command = [*COMMAND, "--samples", str(folder.root), "--no-browser"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert b"Annotate" in answer.read()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.splitlines()[:3] == [
        "annotated      0 of 3, 0 changed now",
        "left out       0",
        "to do          3",
    ]
    assert "Ctrl-C" in err
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_said(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = call("--samples", str(folder.root), "--port", port, "--no-browser")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} of 127.0.0.1 cannot be had" in done.stderr


def test_import_names_what_failed_and_ends_with_3(folder, tmp_path):
    Image.new("L", (WIDTH, HEIGHT), 255).save(tmp_path / "cat-0.png")
    Image.new("L", (9, 9), 255).save(tmp_path / "dog-2.png")
    files = [str(tmp_path / name) for name in ("cat-0.png", "dog-2.png")]
    done = call("import", "--samples", str(folder.root), *files)
    assert (done.returncode, done.stdout) == (3, "imported       1 of 2\n")
    assert "dog-2.png must be 120x200 pixels (height x width)" in done.stderr
    done = call("import", "--samples", str(folder.root), "--json", *files[:1])
    told = {"imported": ["cat-0"], "failed": [], "left_out": []}
    assert (done.returncode, json.loads(done.stdout)) == (0, told)


def test_import_says_which_labels_it_left_out(folder, tmp_path):
    points = [[20, 10], [59, 10], [59, 49]]
    shapes = [{"label": label, "points": points} for label in ("animal", "sofa", "Cat")]
    content = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes}
    (tmp_path / "cat-0.json").write_text(json.dumps(content))
    command = ("import", "--samples", str(folder.root), str(tmp_path / "cat-0.json"))
    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("left out       animal, sofa (")
    done = call(*command, "--map", "animal=cat", "--json")
    assert json.loads(done.stdout)["left_out"][0]["labels"] == ["sofa"]
    done = call(*command, "--map", "animal=cta")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'cat'" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--no-browser",), pytest.param(("import", "cat-0.png"), marks=pytest.mark.slow)]
)
def test_a_folder_must_be_named(arguments):
    done = call(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--samples must name a folder" in done.stderr


def test_a_folder_without_samples_is_said(tmp_path):
    done = call("--samples", str(tmp_path), "--no-browser")
    assert done.returncode == 2
    assert "must be a folder of samples" in done.stderr
