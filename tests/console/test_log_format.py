"""Lines on stderr as JSON, end to end: a run, mistakes of the user, defects, signals."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ovamgen.console import log_format
from ovamgen.console import progress as progress_module
from ovamgen.console.log_format import say, use_log_format, use_log_format_of_environment
from ovamgen.console.progress import RunProgress
from tests.runs import PROMPTS, captions_file

RUN = ("generate", "--model", "mini", "--steps", 1, "--shard-size", 4, "--runner", "local")


@pytest.fixture
def as_json():
    """The format alone: handlers of the log and of exceptions stay pytest's."""
    log_format._is_json = True
    yield
    log_format._is_json = False


def ovamgen(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "ovamgen", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=110,
    )


def parsed(text):
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert {"time", "level", "event", "message"} <= set(line)
        assert line["level"] in ("info", "warning", "error")
        assert "\x1b" not in line["message"]
    return lines


@pytest.mark.slow  # the signal's test reads the lines of a run, too
def test_a_run_whose_every_line_is_json(tmp_path):
    captions = captions_file(tmp_path / "captions.csv", PROMPTS)
    words = (*RUN, "--captions", captions, "--out", tmp_path / "out")
    done = ovamgen("--log-format", "json", *words, FORCE_COLOR="1")
    assert done.returncode == 0, done.stderr
    lines = parsed(done.stderr)
    assert lines[0]["message"].startswith("plan: 7 samples, 2 shards")
    assert "loading mini on cpu" in [line["message"] for line in lines]
    assert done.stdout.startswith("shards  "), "results are no log"
    again = ovamgen(*words, OVAMGEN_LOG_FORMAT="json")
    assert parsed(again.stderr)[-1]["message"] == "every shard is there already"
    assert again.stdout.startswith("shards  ")


def test_progress_lines_hold_numbers(as_json, capsys, monkeypatch):
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    with RunProgress(total_samples=10, done_samples=2, total_shards=3) as progress:
        progress.count(images=3, failed=1)
    (line,) = parsed(capsys.readouterr().err)
    assert line["event"] == "progress"
    assert (line["what"], line["done"], line["total"]) == ("samples", 6, 10)
    assert (line["images"], line["failed"], line["shards_total"]) == (3, 1, 3)
    assert line["images_per_second"] > 0
    assert line["message"].startswith("6/10 samples, 1 failed")


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["status"], 2, "UsageError"),
        pytest.param(["nonsense"], 2, "UsageError", marks=pytest.mark.slow),
        pytest.param(["status", "--nonsense"], 2, "UsageError", marks=pytest.mark.slow),
        (["status", "/nowhere"], 2, "NotBegunError"),
        (["generate", "--captions", "demo", "--out", "x", "--set", "plan.sed=1"], 2, "ConfigError"),
    ],
)
def test_mistakes_are_told_as_json_with_their_exit_code(words, code, kind):
    done = ovamgen("--log-format", "json", *words)
    (line,) = parsed(done.stderr)
    assert done.returncode == line["exit_code"] == code
    assert (line["level"], line["event"], line["kind"]) == ("error", "error", kind)
    assert done.stdout == ""


def test_an_unknown_format_is_a_mistake_in_text():
    done = ovamgen("status", "x", OVAMGEN_LOG_FORMAT="xml")
    assert done.returncode == 2
    assert "OVAMGEN_LOG_FORMAT" in done.stderr


def test_a_signal_is_told_as_json(tmp_path):
    captions = captions_file(tmp_path / "captions.csv", PROMPTS * 40)
    more = ("--set", "runtime.drain_seconds=0", "--captions", captions, "--out", tmp_path / "out")
    child = subprocess.Popen(
        [sys.executable, "-m", "ovamgen", "--log-format", "json", *map(str, RUN), *more],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 90
    while not (tmp_path / "out" / "run.yaml").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 143
    first, *_, last = parsed(errors)
    assert first["message"].startswith("plan: ")
    assert (last["kind"], last["exit_code"]) == ("Interrupted", 143)


def test_warnings_logs_and_defects_are_lines_too():
    script = (
        "import logging, warnings\n"
        "from ovamgen.console.log_format import use_log_format\n"
        "use_log_format('json')\n"
        "logging.getLogger('somebody').warning('look %s', 'out')\n"
        "warnings.warn('old', DeprecationWarning)\n"
        "try:\n    1 / 0\n"
        "except ZeroDivisionError:\n    logging.getLogger('x').exception('failed')\n"
        "raise RuntimeError('a defect\\nin two lines')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", script], capture_output=True, text=True, timeout=60
    )
    log, warned, failed, defect = parsed(done.stderr)
    assert (log["message"], log["logger"], log["level"]) == ("look out", "somebody", "warning")
    assert "DeprecationWarning: old" in warned["message"]
    assert "ZeroDivisionError" in failed["traceback"]
    assert (defect["event"], defect["level"]) == ("defect", "error")
    assert "Traceback" in defect["traceback"]
    assert done.returncode == 1


def test_fields_of_any_kind_and_colours(as_json, capsys, tmp_path):
    say("\x1b[31mred\x1b[0m", event="test", place=tmp_path, number=float("inf"))
    (line,) = parsed(capsys.readouterr().err)
    assert (line["message"], line["place"]) == ("red", str(tmp_path))
    assert line["number"] == "inf", "Infinity is no JSON"


@pytest.mark.parametrize("kind", ["text", "json"])
def test_nothing_in_a_message_controls_the_terminal(kind, capsys, monkeypatch):
    monkeypatch.setattr(log_format, "_is_json", kind == "json")
    say("a\x1b]0;title\x07\x1b[2Jb\r\x9bc\tst\u00e4dte", event="test", field="\x1b[31m")
    told = capsys.readouterr().err
    assert set(told) & {chr(i) for i in [*range(9), *range(11, 32), *range(127, 160)]} == set()
    assert told.count("\n") == 1
    assert "st\u00e4dte" in told


def test_text_shows_the_text_alone(capsys, monkeypatch):
    say("hello", level="warning", event="test", number=3)
    assert capsys.readouterr().err == "hello\n"
    with pytest.raises(ValueError, match="expected text or json"):
        use_log_format("xml")
    monkeypatch.setenv(log_format.VARIABLE, "xml")
    use_log_format_of_environment()
    assert not log_format.is_json()
