from ovamgen.console import counting
from ovamgen.console.counting import Counting
from ovamgen.console.terminal import LINE_SECONDS


def test_a_line_every_ten_seconds_where_there_is_no_terminal(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(counting.time, "monotonic", lambda: now[0])
    with Counting("pictures") as count:
        count.start(10, done=4)
        now[0] += LINE_SECONDS - 1
        count.add()
        assert capsys.readouterr().err == ""
        now[0] += 1
        count.add()
        # two pictures in ten seconds, four are left; those of before do not count for the rate
        assert capsys.readouterr().err == "6/10 pictures, about 20 s left\n"
        count.say("scoring ovam")
    captured = capsys.readouterr()
    assert captured.err == "scoring ovam\n"
    assert captured.out == ""
