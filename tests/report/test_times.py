"""Throughput and time per stage: sums by hand, words for durations, what stands on the page."""

import shutil

import pytest

from ovamgen.generation import generate
from ovamgen.report.times import duration, times_of
from ovamgen.report.write import write_report
from ovamgen.status.logs import ProcessTimes
from tests.report.corpora import SceneEngine
from tests.report.test_page import Page
from tests.runs import PROMPTS, run_config


def process(**changes):
    usual = {
        "process": "process 7 on secret-host",
        "state": "complete",
        "began_at": "2026-11-22T12:00:00+00:00",
        "runner": "ray",
        "device": "cuda",
        "workers": 4,
        "images": 100,
        "failed": 2,
        "shards": 3,
        "wall_seconds": 50.0,
        "seconds": {"loading": 20.0, "synthesis": 120.0, "masks": 40.0, "writing": 20.0},
    }
    return ProcessTimes(**(usual | changes))


def test_several_processes_add_up():
    second = process(state="running", images=20, wall_seconds=10.0, seconds={"synthesis": 80.0})
    found = times_of([process(), second], illegible=1, samples=150)
    assert (found.images, found.failed, found.processes, found.ended_early) == (120, 4, 2, 1)
    assert (found.rate, found.wall, found.workers, found.device) == ("2", "60 s", 4, "cuda")
    assert found.busy == pytest.approx(200 / 240)
    rows = {row.label: row for row in found.rows}
    assert list(rows) == ["loading", "synthesis", "masks", "encoding", "writing"]
    assert rows["synthesis"].share == pytest.approx(200 / 280)
    assert (rows["synthesis"].seconds, rows["synthesis"].each) == ("3 min 20 s", "1.67 s")
    assert (rows["loading"].each, rows["encoding"].seconds) == ("", "0 ms")
    assert (found.missing, found.illegible) == (30, 1)


def test_nothing_recorded_is_none():
    assert times_of([], illegible=3, samples=10) is None


def test_a_process_that_made_nothing_divides_by_nothing():
    found = times_of([process(images=0, workers=0, wall_seconds=0.0, seconds={})], 0, 0)
    assert (found.rate, found.busy) == ("0", None)
    assert all(row.share == 0 and row.each == "" for row in found.rows)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"),
        (0.00825, "8.25 ms"),
        (0.9999, "1 s"),
        (99.94, "99.9 s"),
        (99.96, "1 min 40 s"),
        (200.0, "3 min 20 s"),
        (3600.0, "1 h 0 min"),
        (90_000.0, "1 d 1 h"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def page_of(folder, tmp_path):
    write_report(str(folder), str(tmp_path / "page.html"))
    return (tmp_path / "page.html").read_text("utf-8")


def test_the_times_of_a_real_run_stand_on_its_page(tmp_path):
    config = run_config(tmp_path, texts=PROMPTS, runtime={"runner": "local"})
    generate(config, SceneEngine)
    html = page_of(config.out, tmp_path)
    rows = {row[0].split()[0]: row for row in Page(html).table("stage")}
    assert list(rows) == ["loading", "synthesis", "masks", "encoding", "writing"]
    shares = [float(row[2].strip("< %")) for row in rows.values()]
    assert sum(shares) == pytest.approx(100, abs=3)
    assert "images per second" in Page(html).text
    assert html.count('class="rail"') > 5
    assert html == page_of(config.out, tmp_path)


def test_what_cannot_be_known_is_said(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "out")
    text = Page(page_of(copy, tmp_path)).text
    assert "Not recorded: the runs that made this corpus left no logs/time-*.json" in text
    logs = copy / "logs"
    logs.mkdir()
    (logs / "time-000001.json").write_bytes(process(images=30, state="failed").to_bytes())
    (logs / "time-000002.json").write_text("{")
    html = page_of(copy, tmp_path)
    text = Page(html).text
    assert "28 samples were made by runs that recorded no times." in text
    assert "1 of the runs did not reach the end" in text
    assert "1 files of times cannot be read" in text
    assert "secret-host" not in html
    (logs / "time-000002.json").write_bytes(process(images=40).to_bytes())
    text = Page(page_of(copy, tmp_path)).text
    assert "12 images were lost with a process before their shard was written" in text


def test_untrusted_words_of_a_log_are_no_markup(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "out")
    (copy / "logs").mkdir()
    hostile = process(device="<script>alert(1)</script>", runner="<b>", process="<i>")
    (copy / "logs" / "time-000001.json").write_bytes(hostile.to_bytes())
    page = Page(page_of(copy, tmp_path))
    assert page.tags.count("script") == 1
    assert "i" not in page.tags[page.tags.index("main") :] or "<script>alert(1)" in page.text
