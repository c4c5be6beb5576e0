"""Plans of classes that are not VOC's."""

import csv

import pytest

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import built_in, load_class_set
from ovamgen.config import PlanConfig, build_config, fingerprint
from ovamgen.errors import ConfigError, PlanError
from ovamgen.plan.plan import Plan
from ovamgen.plan.planning import make_plan, plan_settings
from ovamgen.plan.summary import PlanSummary

YARD = ClassSet.from_record(
    {
        "name": "yard",
        "classes": [
            {"id": 3, "name": "forklift", "synonyms": ["lift truck"]},
            {"id": 40, "name": "vehicle", "phrases": ["car", "bus"], "synonyms": ["car", "bus"]},
            {"id": 254, "name": "person", "synonyms": ["worker"]},
        ],
    }
)


def captions(tmp_path, *rows):
    path = tmp_path / "captions.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["caption", "targets"])
        writer.writerows(rows)
    return str(path)


def test_targets_are_of_the_set(tmp_path):
    url = captions(
        tmp_path,
        ["two lift trucks and a bus", ""],
        ["a worker", ""],
        ["an empty yard", "vehicle;person"],
        ["a zebra", ""],
    )
    plan = make_plan(PlanConfig(captions=url), classes=YARD)
    found = {
        spec.caption: [(t.class_id, t.class_name) for t in spec.targets] for spec in plan.specs
    }
    assert found == {
        "two lift trucks and a bus": [(3, "forklift"), (40, "vehicle")],
        "a worker": [(254, "person")],
        "an empty yard": [(40, "vehicle"), (254, "person")],
    }
    again = Plan.from_parquet(plan.to_parquet())
    assert again == plan
    assert again.classes == YARD
    summary = PlanSummary.of(plan)
    assert {name: tally.taken for name, tally in summary.classes.items()} == {
        "forklift": 1,
        "vehicle": 2,
        "person": 2,
    }


def test_a_choice_of_the_classes_keeps_their_ids(tmp_path):
    url = captions(tmp_path, ["a worker", ""], ["a bus", ""])
    plan = make_plan(PlanConfig(captions=url, classes=("worker",)), classes=YARD)
    assert [t.class_id for spec in plan.specs for t in spec.targets] == [254]
    with pytest.raises(ConfigError, match="unknown class 'dog'"):
        make_plan(PlanConfig(captions=url, classes=("dog",)), classes=YARD)


def test_a_stated_class_of_another_set_is_named(tmp_path):
    url = captions(tmp_path, ["a cat", "cat"])
    with pytest.raises(PlanError, match="unknown class 'cat'"):
        make_plan(PlanConfig(captions=url), classes=YARD)


def test_plans_of_two_sets_differ(tmp_path):
    url = captions(tmp_path, ["a person in a car", ""])
    config = PlanConfig(captions=url)
    plan = make_plan(config)
    other = plan.differences(plan_settings(config), plan.inputs, load_class_set("person,car"))
    assert len(other) == 1
    assert other[0].startswith("class set: voc (sha256 ")
    assert " -> person-car (sha256 " in other[0]


def test_instances_make_targets_of_any_set_that_names_categories(write_captions, write_instances):
    url = write_captions([(1, 1, "A nice place"), (2, 2, "Another")])
    instances = write_instances([(1, "zebra", 900.0, 0), (1, "cat", 400.0, 0), (2, "cat", 9.0, 0)])
    config = PlanConfig(captions=url, instances=instances)
    plan = make_plan(config, classes=load_class_set("cat,zebra"))
    found = {spec.caption: [t.class_name for t in spec.targets] for spec in plan.specs}
    assert found == {"A nice place": ["zebra", "cat"], "Another": ["cat"]}


def test_the_words_of_targets_behind_the_prompt(tmp_path):
    url = captions(tmp_path, ["A busy road", "bus;person"], ["word " * 74, "bus"])
    config = PlanConfig(captions=url)
    plan = make_plan(config, append_class_words=True)
    (spec,) = plan.specs
    assert spec.prompt == "A busy road; bus person"
    assert spec.caption == "A busy road"
    assert spec.word_included
    # a prompt whose words would be cut off is left out, though its caption alone would fit
    assert [r.reason.value for r in plan.rejections] == ["class word beyond token limit"]
    assert len(list(make_plan(config).specs)) == 2
    assert plan.differences(plan_settings(config), plan.inputs, plan.classes) == [
        "append_class_words: True -> None"
    ]


def test_coco_cap_is_for_voc(write_captions, write_instances):
    config = PlanConfig(
        captions=write_captions([(1, 1, "A cat.")]),
        instances=write_instances([(1, "cat", 6000.0, 0)]),
        preset="coco-cap",
    )
    with pytest.raises(ConfigError, match="a selection for VOC's classes, got the set coco"):
        make_plan(config, classes=built_in("coco"))


def test_voc_adds_nothing_to_what_is_written():
    written = {"model": {"id": "mini"}}
    plain = build_config(written)
    assert "classes" not in plain.model_dump(mode="json")
    named = build_config({**written, "classes": "voc"})
    assert fingerprint(named, {}) == fingerprint(plain, {})
    other = build_config({**written, "classes": "cat,dog"})
    assert fingerprint(other, {}) != fingerprint(plain, {})
    assert build_config(other.model_dump(mode="json")) == other
