"""The lines that long work prints where there is no terminal."""

from ovamgen.console import progress as module
from ovamgen.console.progress import LINE_SECONDS, Progress, RunProgress


def test_the_line_counts_what_was_there_before(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with RunProgress(total_samples=100, done_samples=20, total_shards=8) as progress:
        now[0] += 10
        progress.count(images=18, failed=2, shards=3)
        assert progress.line() == (
            "40/100 samples, 2 failed, 3 of 8 shards written, 1.80 images/s, 0:00:30 left"
        )


def test_one_line_per_ten_seconds_on_stderr(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with RunProgress(total_samples=10, done_samples=0, total_shards=1) as progress:
        for second in range(25):
            clock[0] = float(second)
            progress.tick()
        progress.say("a word")
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("waiting for the first batch")
    assert lines[-1] == "a word"


def test_things_of_any_kind_are_counted(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with Progress("pictures") as progress:
        progress.start(10, done=4)
        now[0] += LINE_SECONDS - 1
        progress.add()
        assert capsys.readouterr().err == ""
        now[0] += 1
        progress.add()
        # two pictures in ten seconds, four are left; those of before do not count for the rate
        assert capsys.readouterr().err == "6/10 pictures, 0:00:20 left\n"
        progress.say("scoring ovam")
    captured = capsys.readouterr()
    assert captured.err == "scoring ovam\n"
    assert captured.out == ""
