"""Cleaning, targets and reasons, each on captions small enough to judge by eye."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.classes.loading import built_in
from ovamgen.config import PlanConfig
from ovamgen.errors import ConfigError, PlanError
from ovamgen.plan.captions import Caption, Instance, InstanceFile
from ovamgen.plan.prompts import PromptSpec, Reason, clean_caption, collect_prompts
from ovamgen.tokenizer import clip_tokenizer

VOC = built_in("voc")


@pytest.fixture(scope="module")
def collect():
    tokenizer = clip_tokenizer()

    def run(*texts, instances=None, max_length=77, classes=(), **settings):
        captions = [
            text
            if isinstance(text, Caption)
            else Caption(caption_id=100 + index, image_id=index, text=text, classes=tuple(classes))
            for index, text in enumerate(texts)
        ]
        config = PlanConfig(**settings)
        return list(collect_prompts(captions, instances, config, VOC, tokenizer, max_length))

    return run


def outcome(item):
    """The targets' names of a prompt, or the reason of a rejection."""
    if isinstance(item, PromptSpec):
        return [target.name for target in item.targets]
    return item.reason


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("A cat.", "A cat"),
        ("  A\n cat\t\x00 sits , . ", "A cat sits"),
        ("\ufeffA cat, a dog.", "A cat, a dog"),
        ("U.S. cat", "U.S. cat"),
        ("...", ""),
        ("Café №1", "Café №1"),
    ],
)
def test_cleaning(text, prompt):
    assert clean_caption(text) == prompt


@given(st.text())
def test_cleaning_is_done_once(text):
    cleaned = clean_caption(text)
    assert clean_caption(cleaned) == cleaned
    assert "\n" not in cleaned


def test_targets_come_in_the_order_of_the_words(collect):
    [item] = collect("A dog and two men, a cat and another dog.")
    assert outcome(item) == ["dog", "person", "cat"]
    assert item.prompt == "A dog and two men, a cat and another dog"
    assert item.caption.text == "A dog and two men, a cat and another dog."


def test_every_reason(collect):
    items = collect(
        "A cat",
        " . ",
        "a CAT.",
        "A hot dog",
        "A dog on a sofa",
        "A cat, a dog, a man and a horse",
        Caption(caption_id=100, image_id=9, text="another cat"),
        max_targets=3,
    )
    assert [outcome(item) for item in items] == [
        ["cat"],
        Reason.EMPTY,
        Reason.DUPLICATE,
        Reason.NO_TARGET,
        ["dog", "sofa"],
        Reason.TOO_MANY_TARGETS,
        Reason.DUPLICATE_ID,
    ]
    rejected = items[5]
    assert (rejected.caption_id, rejected.image_id) == (105, 5)
    assert rejected.class_names == ("cat", "dog", "person", "horse")
    assert items[3].class_names == ()


def test_only_the_classes_asked_for():
    tokenizer = clip_tokenizer()
    captions = [
        Caption(caption_id=index, image_id=-1, text=text)
        for index, text in enumerate(["a dog and a man", "a cat", "a dog, a cat and a cow"])
    ]
    config = PlanConfig(classes=("Dogs", "couch"), max_targets=2)
    items = list(collect_prompts(captions, None, config, VOC, tokenizer, 77))
    # Classes that are not asked for count for max_targets.
    assert [outcome(item) for item in items] == [
        ["dog"],
        Reason.NOT_ASKED,
        Reason.TOO_MANY_TARGETS,
    ]
    with pytest.raises(ConfigError, match=r"'dgo'.*'dog'"):
        next(collect_prompts(captions, None, PlanConfig(classes=("dgo",)), VOC, tokenizer, 77))


def test_a_class_word_must_be_read_by_the_model(collect):
    # <SoT> and 74 words before "cat" put it at position 75, the last that is not <EoT>.
    fits, late = "red " * 74 + "cat", "red " * 75 + "cat"
    first_mention_counts = "cat " + "red " * 80 + "cat"
    both_needed = "dog " + "red " * 80 + "cat"
    items = collect(fits, late, first_mention_counts, both_needed)
    assert [outcome(item) for item in items] == [
        ["cat"],
        Reason.BEYOND_TOKENS,
        ["cat"],
        Reason.BEYOND_TOKENS,
    ]
    assert outcome(collect("a big cat", max_length=5)[0]) == ["cat"]
    assert outcome(collect("a big cat", max_length=4)[0]) == Reason.BEYOND_TOKENS


def test_targets_not_asked_for_may_be_cut_off():
    text = "dog " + "red " * 80 + "cat"
    captions = [Caption(caption_id=1, image_id=-1, text=text)]
    config = PlanConfig(classes=("dog",))
    [item] = collect_prompts(captions, None, config, VOC, clip_tokenizer(), 77)
    assert outcome(item) == ["dog"]


def test_stated_classes_win(collect):
    [item] = collect("a cat far away " + "red " * 90, classes=["TV", "dining-table", "tvmonitor"])
    assert outcome(item) == ["tvmonitor", "diningtable"]
    assert not item.word_included
    with pytest.raises(PlanError, match=r"caption 100: unknown class 'doog'.*'dog'"):
        collect("a dog", classes=["doog"])


def test_instances_decide_for_the_images_they_list(collect):
    instances = InstanceFile(
        instances=tuple(
            Instance(image_id=image, class_id=voc, area=area)
            for image, voc, area in [
                (0, 8, 50.0),
                (0, 12, 30.0),
                (0, 12, 30.0),
                (0, 15, 9.0),
                (2, 8, 10.0),
            ]
        ),
        image_ids=frozenset({0, 1, 2}),
        sha256="",
    )
    texts = ["nothing named", "a cat on an empty picture", "a tiny cat", "a bird not listed"]
    items = collect(*texts, instances=instances, min_area=10)
    # Largest total area first; an area equal to the bound is too small.
    assert [outcome(item) for item in items] == [
        ["dog", "cat"],
        Reason.NO_TARGET,
        Reason.NO_TARGET,
        ["bird"],
    ]


def test_a_prompt_that_was_left_out_is_no_original(collect):
    instances = InstanceFile(
        instances=(Instance(image_id=1, class_id=8, area=50.0),),
        image_ids=frozenset({0, 1}),
        sha256="",
    )
    items = collect("it sleeps", "it sleeps", instances=instances)
    assert [outcome(item) for item in items] == [Reason.NO_TARGET, ["cat"]]


@pytest.mark.parametrize(
    ("text", "stated", "ours", "published"),
    [
        ("a dog", ["dog"], True, True),
        ("a hotdog", ["dog"], False, True),
        ("a hot dog", ["dog"], False, True),
        ("a puppy", ["dog"], True, False),
        ("a television", ["tv"], True, False),
        ("a TV", ["tv"], True, True),
        ("a dog", ["dog", "cat"], False, True),
        ("a dog", ["cat", "dog"], False, False),
        ("dining at a table", ["diningtable"], False, False),
        ("Dining tables", ["diningtable"], True, True),
    ],
)
def test_both_rules_of_word_included(collect, text, stated, ours, published):
    [item] = collect(text, classes=stated)
    assert (item.word_included, item.word_included_published) == (ours, published)
