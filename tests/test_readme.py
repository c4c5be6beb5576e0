"""The README and docs, typed: every console block in order, in one folder for each document.

By default the commands of the README and of `DAILY` run smaller (`SMALLER`) and in this process;
with ``-m slow`` those of all documents run in a shell as they are written (but for `TOO_LONG`),
``.venv`` stood in for.
What is not run is in `NOT_RUN`, with the reason; what is neither there nor succeeds fails the test.
"""

import contextlib
import http.client
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from types import MappingProxyType
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ovamgen.cli import app
from tests.conftest import REPOSITORY

README = "README.md"
DOCUMENTS = [
    README,
    *sorted(str(p.relative_to(REPOSITORY)) for p in REPOSITORY.glob("docs/**/*.md")),
]
DAILY = ("docs/label.md", "docs/methods.md", "docs/tokens.md")
"""What is typed every day, beside the README."""
IN_THE_CLONE = ("Makefile", "pyproject.toml", "constraints.txt", "jobs", "recipes", "cluster.yaml")
"""What the commands find in the folder where they are typed."""

SD = "needs a GPU and the weights of Stable Diffusion"
CLUSTER = "needs a cluster"
BUCKET = "needs a bucket"
NETWORK = "needs a network"
RECORD = "how figures were made, on what is not in the repository"
LARGE = "needs 8 GB and minutes"
HOUR = "takes an hour; docs/reproduce.md has the quick form"
NOT_RUN = {
    (README, "ovamgen generate --captions captions_val2017.json"): SD,
    (README, "ray up cluster.yaml"): CLUSTER,
    (README, "export RAY_AUTH_MODE=token"): CLUSTER,
    (README, "ray job submit"): CLUSTER,
    ("docs/clusters.md", "CONFIG="): CLUSTER,
    ("docs/clusters.md", "squeue"): CLUSTER,
    ("docs/clusters.md", "tail -f"): CLUSTER,
    ("docs/clusters.md", "ovamgen status"): CLUSTER,
    ("docs/clusters.md", "scancel"): CLUSTER,
    ("docs/clusters.md", "docker"): NETWORK,
    ("docs/clusters.md", "kubectl"): CLUSTER,
    ("docs/clusters.md", "export RAY_AUTH_MODE=token"): CLUSTER,
    ("docs/clusters.md", "ray job"): CLUSTER,
    ("docs/models.md", "ovamgen generate"): SD,
    ("docs/object-stores.md", "pip install"): NETWORK,
    ("docs/object-stores.md", "export AWS_ACCESS_KEY_ID="): BUCKET,
    ("docs/object-stores.md", "export AWS_ENDPOINT_URL="): BUCKET,
    ("docs/object-stores.md", "ovamgen generate"): BUCKET,
    ("docs/object-stores.md", "ovamgen status"): BUCKET,
    ("docs/exports.md", "ovamgen export hf corpus --push"): NETWORK,
    ("docs/heads.md", "ovamgen heads import grounded-diffusion.pth"): SD,
    ("docs/heads.md", "ovamgen generate --captions captions.csv"): SD,
    ("docs/heads.md", "ovamgen evaluate compare --dataset samples"): SD,
    ("docs/reproduce.md", "python jobs/reproduce.py --config jobs/configs/reproduce-sd15"): SD,
    ("docs/results/reproduction/README.md", "python jobs/reproduce.py"): HOUR,
    ("docs/operations.md", "ovamgen doctor"): BUCKET,
    ("docs/operations.md", "ovamgen status"): BUCKET,
    ("docs/bench.md", "ovamgen bench attention --model random:sd15"): LARGE,
    ("docs/bench.md", "ovamgen bench stages --config run.yaml"): BUCKET,
    ("docs/bench.md", "ovamgen bench gpu --save"): SD,
    ("docs/bench.md", "ovamgen bench gpu --try"): SD,
    ("docs/scale.md", "ovamgen bench driver --workers 256 --batch-seconds 8"): LARGE,
    ("docs/scale.md", "ovamgen bench driver --workers 256 --batch-seconds 2"): LARGE,
    ("docs/results/mini.md", "ovamgen samples --model mini --per-class 20"): RECORD,
    ("docs/results/mini.md", "python -m recipes.mini quality"): RECORD,
    ("docs/results/comparison/README.md", "ovamgen samples --model mini --per-class 20"): RECORD,
    ("docs/results/comparison/README.md", "python -m recipes.mini quality"): RECORD,
    ("docs/results/comparison/README.md", "ovamgen evaluate compare --dataset drawings"): RECORD,
    ("docs/results/mini-training.md", "(ulimit"): RECORD,
    ("docs/results/mini-training.md", "python -m recipes.mini"): RECORD,
    ("docs/results/mini-training.md", "ovamgen samples --model MODEL"): RECORD,
    ("docs/results/heads.md", "python -m recipes.mini sprites"): NETWORK,
    ("docs/results/heads.md", "python -m recipes.mini voc"): RECORD,
    ("docs/results/heads.md", "ovamgen heads train"): RECORD,
    ("docs/results/heads.md", "ovamgen heads import"): RECORD,
    ("docs/results/heads.md", "ovamgen evaluate compare"): RECORD,
    ("docs/results/downstream/README.md", "python -m recipes.mini sprites"): NETWORK,
    ("docs/results/downstream/README.md", "python -m recipes.mini voc"): RECORD,
    ("docs/results/downstream/README.md", "ovamgen evaluate table-s1"): RECORD,
    ("docs/results/downstream/README.md", "python -m recipes.mini downstream"): RECORD,
}
"""The commands that no test here runs, by document and beginning."""
TOO_LONG = {
    "train --shards pets --size small --steps 600": "--steps 20",
    "train --shards selected --size small --steps 2000": "--steps 20",
    "evaluate compare": "--limit 10 --steps 5",
    "evaluate masks": "--limit 10 --steps 5",
    "evaluate recipe": "--limit 10 --steps 5",
    "bench attention --rounds 15": "--rounds 2 --steps 2 --memory-steps 1,2",
    "bench attention --classes 20,80,160,320": "--rounds 2",
    "recipes.mini consistency": "--limit 4",
    "bench stages": "--rounds 2 --steps 2 --crf-sides 128",
    "bench gpu --device cpu": "--rounds 2 --try fp32",
    "bench driver --workers 1,8,64": "--workers 1,2 --batch-seconds 0.1 --repeats 1 --no-recovery",
    "bench plan --captions 100000,1000000,10000000": "--captions 1000 --shards 100",
    "tokens optimize --model mini --samples recipes/mini/annotated": "--steps 2",
}
"""Options added to a command that holds the text, also in the slow test: minutes to hours else."""
SMALLER = {
    "--set shards.heatmaps=true": "--limit 4 --steps 2 --runner local",
    "generate --captions demo": "--limit 14 --steps 2 --runner local",
    # every sample is the smallest or largest of its class where there are so few
    "select corpus": "--area-quantiles none",
    "train --shards": "--steps 2",
    "tokens optimize": "--steps 3",
    "recipes/mini/annotated --classes cat,dog": "--classes cat",
    "samples --model mini": "--steps 2",
    "evaluate masks": "--limit 2 --steps 2 --draws 10",
    "evaluate compare": "--limit 4 --steps 2 --draws 10 --presets daam-ovam",
    "evaluate recipe": "--limit 3 --steps 2 --draws 10",
    "attribute": "--steps 2",
    "label --pictures": "--limit 2 --runner local",
}
"""Options added by default: the last one given counts."""
SMALLER_PYTHON = {
    '"limit": 8': '"limit": 2',
    '"model": {"id": "mini"}': '"model": {"id": "mini"}, "synthesis": {"steps": 2}, '
    '"runtime": {"runner": "local"}',
}
"""What stands by default instead of a text of a block of Python."""
NO_INSTALL = (
    "make demo",
    "ovamgen generate --config jobs/configs/demo.yaml --limit 4 --steps 2 --runner local "
    "--out demo-output",
)
"""By default in its place, what the Makefile runs once it has installed everything."""


def blocks(document, language):
    """The texts of a document's blocks in a language, in order."""
    text = (REPOSITORY / document).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(document):
    """What is typed at the prompts of a document, output left out."""
    found, open_line = [], False
    for line in "".join(blocks(document, "console")).splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif open_line:
            found[-1] += "\n" + line
        open_line = line.endswith("\\") and (open_line or line.startswith("$ "))
    return found


def reason_not_run(document, command):
    return next(
        (why for (d, start), why in NOT_RUN.items() if d == document and command.startswith(start)),
        None,
    )


def with_more(command, table):
    """The command with the options of the table, before a comment."""
    for text, options in table.items():
        if text in command:
            words = shlex.split(command, comments=True)
            return f"{shlex.join(words)} {options}"
    return command


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The folder that is typed in: a clone in which `make` has installed everything."""
    for name in IN_THE_CLONE:
        (tmp_path / name).symlink_to(REPOSITORY / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, start in (("python", ""), ("ovamgen", " -m ovamgen")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{start} "$@"\n')
        (programs / name).chmod(0o755)
    (tmp_path / ".venv" / ".run").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return tmp_path


def type_in_a_shell(command):
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def type_here(command):
    """The same in this process, whose imports are paid for."""
    program, *words = shlex.split(command, comments=True)
    assert program == "ovamgen", command
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{command}\n{done.output[-3000:]}{done.exception!r}"
    return done.output


def paint(command):
    """Starts the server as it is written, paints the last picture of each class, and ends it."""
    words = shlex.split(command, comments=True)
    server = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        url = urlsplit(server.stdout.readline().strip())
        with contextlib.closing(http.client.HTTPConnection(url.netloc, timeout=30)) as connection:

            def ask(method, path, body=None, **headers):
                connection.request(method, url.path + path, body, headers)
                answer = connection.getresponse()
                assert answer.status in (200, 204), (answer.status, path)
                return answer.headers, answer.read()

            samples = json.loads(ask("GET", "samples")[1])["samples"]
            for key in {sample["phrase"]: sample["key"] for sample in samples}.values():
                picture = Image.open(io.BytesIO(ask("GET", f"images/{key}")[1]))
                side = np.arange(picture.width) - picture.width / 2
                disc = np.hypot(side[:, None], side) < picture.width / 3
                png = io.BytesIO()
                Image.fromarray(np.where(disc, 255, 0).astype(np.uint8)).save(png, "PNG")
                version = ask("GET", f"annotations/{key}")[0]["ETag"]
                kind = {"Content-Type": "image/png", "If-Match": version}
                ask("PUT", f"annotations/{key}", png.getvalue(), **kind)
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        return server.stdout.read()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def follow(document, run, *tables):
    """Runs what can be run of a document; what was said, by command."""
    said = {}
    for command in commands(document):
        if reason_not_run(document, command) is not None:
            continue
        typed = command
        for table in tables:
            typed = with_more(typed, table)
        said[command] = paint(typed) if "annotate --samples" in typed else run(typed)
    return said


def run_python(document, table=MappingProxyType({})):
    """Runs the blocks of Python of a document, with what the table has instead of its texts."""
    for code in blocks(document, "python"):
        for text, smaller in table.items():
            code = code.replace(text, smaller)
        exec(compile(code, document, "exec"), {})


def test_what_is_not_run_is_in_the_documents():
    every = [(document, command) for document in DOCUMENTS for command in commands(document)]
    for document, start in NOT_RUN:
        assert any(d == document and c.startswith(start) for d, c in every), (document, start)
    for text in (*TOO_LONG, *SMALLER, NO_INSTALL[0]):
        assert any(text in command for _, command in every), text
    for text in SMALLER_PYTHON:
        assert any(text in code for code in blocks(README, "python")), text


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_stand_in_console_blocks(document):
    """Where a block has no language, or another one, nobody would run it."""
    text = (REPOSITORY / document).read_text("utf-8")
    fences = re.findall(r"^```(.*)$", text, re.MULTILINE)
    assert set(fences[::2]) <= {"console", "python", "text", "json", "yaml"}
    for block in blocks(document, "(?:text|json|yaml)"):
        assert not re.search(r"^\$ ", block, re.MULTILINE)
    for block in blocks(document, "console"):
        assert block.startswith("$ "), block


@pytest.mark.timeout(600)
def test_the_readme_smaller(reader):
    def run(command):
        return type_here(NO_INSTALL[1] if command == NO_INSTALL[0] else command)

    said = follow(README, run, SMALLER)
    laptop = next(text for command, text in said.items() if "generate --captions demo" in command)
    assert "threshold tau 0.55, of the tokens" in laptop
    run_python(README, SMALLER_PYTHON)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", DAILY)
def test_a_document_smaller(document, reader):
    follow(document, type_here, SMALLER)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_as_it_is_written(document, reader):
    if document == "docs/verify.md":
        # the README's, as the page says
        wanted = "ovamgen generate --captions demo --model mini --limit 40 --out corpus"
        assert wanted in commands(README)
        type_in_a_shell(wanted)
    follow(document, type_in_a_shell, TOO_LONG)
    run_python(document)
