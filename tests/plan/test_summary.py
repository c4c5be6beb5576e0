"""The summary's numbers against a count by hand, and its table as text."""

import io
import json

from rich.console import Console

from ovamgen.config import PlanConfig
from ovamgen.plan.planning import Plan, make_plan
from ovamgen.plan.prompts import Reason, Rejection
from ovamgen.plan.summary import PlanSummary


def printed(summary, width=100):
    output = io.StringIO()
    summary.render(Console(file=output, width=width))
    return output.getvalue()


def small_plan(write_captions):
    rows = [
        "a cat",
        "a cat and a dog",
        "a dog",
        "a horse",
        "A cat.",
        "nothing",
        "...",
        "a man, a cow, a car, a bus and a bird",
    ]
    url = write_captions([(number, number, text) for number, text in enumerate(rows)])
    return make_plan(PlanConfig(captions=url, classes=("cat", "dog", "bus"), per_class=1))


def test_numbers(write_captions):
    summary = PlanSummary.of(small_plan(write_captions))
    numbers = summary.to_json()
    assert list(numbers["classes"])[:2] == ["aeroplane", "bicycle"]
    assert len(numbers["classes"]) == 20
    assert numbers["classes"]["horse"] == {
        "available": 1,
        "taken": 0,
        "rejected": {"class not asked for": 1},
    }
    assert numbers["classes"]["bus"] == {
        "available": 1,
        "taken": 0,
        "rejected": {"too many targets": 1},
    }
    assert numbers["classes"]["cat"]["available"] == 3
    assert numbers["classes"]["cat"]["taken"] == 1
    assert numbers["classes"]["cat"]["rejected"]["duplicate"] == 1
    assert numbers["without_class"] == {
        "available": 2,
        "taken": 0,
        "rejected": {"empty": 1, "no target": 1},
    }
    total = numbers["total"]
    assert total["available"] == 8 == total["taken"] + sum(total["rejected"].values())
    assert numbers["estimate"]["images"] == total["taken"]
    assert json.loads(json.dumps(numbers)) == numbers


def test_table_is_plain_text_when_piped(write_captions):
    summary = PlanSummary.of(small_plan(write_captions))
    text = printed(summary)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    cat, *_ = [line.split() for line in text.splitlines() if line.split()[:1] == ["cat"]]
    # The first table's columns: available, taken, empty, duplicate, no target, ...
    assert cat[1:5] == ["3", "1", ".", "1"]
    assert "8" in next(line for line in text.splitlines() if "captions " in line).split()
    assert "To make: 1 image in 1 shard, about " in text


def test_every_column_is_whole_at_any_width():
    rejections = tuple(
        Rejection(caption_id=n, image_id=-1, caption="", reason=reason, class_names=("cat",))
        for n, reason in enumerate(Reason)
    )
    plan = Plan(tasks=(), rejections=rejections, inputs={}, settings={})
    for width in (60, 80, 100, 160):
        text = printed(PlanSummary.of(plan), width)
        rows = [line.split() for line in text.splitlines() if line.split()[:1] == ["cat"]]
        # available, taken, and one for each reason, none cut off
        assert sum(len(row) - 1 for row in rows) == 2 + len(Reason)
        assert sum(row[1:].count("1") for row in rows) == len(Reason)
        assert "…" not in text
        words = set(text.split())
        assert all(word in words for reason in Reason for word in reason.value.split())


def test_an_empty_plan_has_a_table():
    text = printed(PlanSummary.of(Plan(tasks=(), rejections=(), inputs={}, settings={})))
    assert "0 images in 0 shards, about 0 bytes" in text
