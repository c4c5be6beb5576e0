"""The line that a run prints where there is no terminal."""

from ovamgen.console import progress as module
from ovamgen.console.progress import RunProgress


def test_the_line_counts_what_was_there_before(monkeypatch):
    now = iter([100.0, 110.0, 110.0, 110.0, 110.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    progress = RunProgress(total_samples=100, done_samples=20, total_shards=8)
    progress._images, progress._failed, progress._shards = 18, 2, 3
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
