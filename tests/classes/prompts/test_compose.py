"""Prompts of templates: of every class as many as asked, no two alike, decided by the seed."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import BUILT_IN, built_in, load_class_set
from ovamgen.classes.prompts.compose import compose_prompts
from ovamgen.classes.prompts.templates import Templates, load_templates
from ovamgen.errors import ConfigError
from tests.classes.class_sets import records

TEMPLATES = load_templates()


def texts(prompts):
    return [prompt.text for prompt in prompts]


def counts(prompts):
    return Counter(entry.id for prompt in prompts for entry in prompt.targets)


@settings(deadline=None, max_examples=20)
@given(
    record=records(keys=("synonyms", "phrases", "article")),
    per_class=st.integers(1, 12),
    max_classes=st.integers(1, 3),
    seed=st.integers(0, 2**64),
)
def test_every_class_has_the_same_number_and_no_two_are_alike(record, per_class, max_classes, seed):
    classes = ClassSet.from_record(record)
    wanted = {"per_class": per_class, "max_classes": max_classes, "seed": seed}
    prompts = compose_prompts(classes, TEMPLATES, **wanted)
    assert counts(prompts) == dict.fromkeys((entry.id for entry in classes.classes), per_class)
    assert len({text.lower() for text in texts(prompts)}) == len(prompts)
    for prompt in prompts:
        ids = [entry.id for entry in prompt.targets]
        assert 1 <= len(ids) == len(set(ids)) <= max_classes
        assert {mention.entry.id for mention in classes.find(prompt.text)} <= set(ids)
    assert compose_prompts(classes, TEMPLATES, **wanted) == prompts


@pytest.mark.parametrize("name", BUILT_IN)
def test_prompts_name_their_targets_and_nothing_else(name):
    classes = built_in(name)
    prompts = compose_prompts(classes, TEMPLATES, per_class=2)
    assert counts(prompts) == dict.fromkeys(range(1, len(classes) + 1), 2)
    for prompt in prompts:
        named = {mention.entry.id for mention in classes.find(prompt.text)}
        targets = {entry.id for entry in prompt.targets}
        assert named <= targets
        for entry in prompt.targets:
            # the bare word is a colour in captions
            assert entry.id in named or entry.name == "orange"
            assert any(phrase in prompt.text for phrase in entry.attributed)


def test_another_seed_gives_others():
    classes = load_class_set("cat,dog")
    one, other = (
        texts(compose_prompts(classes, TEMPLATES, per_class=20, seed=seed)) for seed in (1, 2)
    )
    assert len(set(one) & set(other)) < 5


def test_the_texts_of_a_seed():
    prompts = compose_prompts(load_class_set("cat,dog,horse"), TEMPLATES, per_class=2, seed=3)
    assert texts(prompts) == GOLDEN


GOLDEN = [
    "a picture of an old horse near an old dog in summer",
    "a wide shot of a cat at the market",
    "a photograph of a single dog and a typical horse to the right of a typical cat",
]


def small(**fields):
    words = {"place": ["here", "there", "beside the dog"]}
    return Templates(**{"sentences": ["a photo of {class} {place}"], "words": words} | fields)


def test_all_texts_of_a_template_are_found_before_it_gives_up():
    classes = load_class_set("cat,dog")
    prompts = compose_prompts(classes, small(), per_class=2)
    assert sorted(texts(prompts))[:2] == ["a photo of a cat here", "a photo of a cat there"]
    with pytest.raises(ConfigError, match=r"too few different prompts about cat: 2 of 3"):
        compose_prompts(classes, small(), per_class=3)


def test_articles_agree_with_what_follows():
    record = {
        "name": "own",
        "classes": [{"name": "apple"}, {"name": "sky", "article": "the"}, {"name": "elk"}],
    }
    templates = Templates(sentences=["{class}"], attributes=["", "old", "big"])
    prompts = compose_prompts(ClassSet.from_record(record), templates, per_class=3)
    assert set(texts(prompts)) == {
        *("an apple", "an old apple", "a big apple", "the sky", "the old sky", "the big sky"),
        *("an elk", "an old elk", "a big elk"),
    }


def test_a_super_class_is_written_as_each_of_its_phrases():
    record = {"name": "own", "classes": [{"name": "vehicle", "phrases": ["car", "bus", "train"]}]}
    templates = Templates(sentences=["{class} at night"])
    prompts = compose_prompts(ClassSet.from_record(record), templates, per_class=3)
    assert sorted(texts(prompts)) == ["a bus at night", "a car at night", "a train at night"]


@pytest.mark.parametrize(("per_class", "max_classes"), [(0, 1), (1, 0), (1, 4)])
def test_numbers_that_make_no_sense(per_class, max_classes):
    with pytest.raises(ConfigError, match=r"at least 1 prompt a class and 1 to 3 classes a prompt"):
        compose_prompts(built_in("voc"), TEMPLATES, per_class=per_class, max_classes=max_classes)
