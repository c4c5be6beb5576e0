"""The published selection against pandas, row by row, and its rules on captions made by hand."""

import itertools
import random

import numpy as np
import pandas as pd
import pytest

from ovamgen.classes.loading import built_in
from ovamgen.plan.captions import Caption, Instance, InstanceFile, read_captions, read_instances
from ovamgen.plan.coco_cap import clean_published, select_coco_cap
from ovamgen.plan.prompts import Reason
from tests.voc import VOC_CLASSES, class_by_id

VOC = built_in("voc")


def joined(left, right, on):
    """An inner join whose rows are grouped by the key in its order in `left`.

    pandas before 2.2 gave inner joins this order, and the published notebook depends on it.
    """
    order = {value: place for place, value in enumerate(left[on].unique())}
    both = left.merge(right, on=on, how="inner")
    both = both.assign(_group=both[on].map(order)).sort_values("_group", kind="stable")
    return both.drop(columns="_group").reset_index(drop=True)


def drawn(frame):
    """At most 30 rows a class, by one RandomState(42) for all classes."""
    state = np.random.RandomState(42)
    parts = []
    for class_id in frame["class_id"].unique():
        rows = frame[frame["class_id"] == class_id]
        parts.append(rows.sample(30, random_state=state) if len(rows) >= 30 else rows)
    return pd.concat(parts) if parts else frame


def select_with_pandas(captions, instances):
    """Methods 7.2 step by step, written with the operations that the notebook uses."""
    objects = pd.DataFrame(
        [(i.image_id, i.class_id, i.area) for i in instances],
        columns=["image_id", "class_id", "area"],
    )
    large = objects[objects["area"] > 5000]["image_id"].unique()
    sizes = objects[objects["image_id"].isin(large)].groupby("image_id").size()
    images = sizes[sizes <= 2].index
    frame = pd.DataFrame(
        [(c.caption_id, c.image_id, c.text) for c in captions],
        columns=["caption_id", "image_id", "caption"],
    )
    frame = frame[frame["image_id"].isin(images)]
    frame = joined(frame, objects, "image_id")
    names = pd.DataFrame([(v.id, v.phrase) for v in VOC_CLASSES], columns=["class_id", "name"])
    frame = joined(frame, names, "class_id")
    frame = frame.drop_duplicates(["caption_id", "class_id"])
    text = frame["caption"].str.lower().str.replace("\n", " ", regex=False)
    text = text.str.strip().str.strip(",").str.strip(".")
    for old, new in [
        ("motorcycle", "motorbike"),
        ("airplane", "aeroplane"),
        ("couch ", "sofa "),
        (" couch", " sofa"),
    ]:
        text = text.str.replace(old, new, regex=False)
    frame["caption"] = text
    frame["included"] = [n in c for n, c in zip(frame["name"], frame["caption"], strict=True)]
    together = (
        frame.groupby("caption_id")["name"]
        .agg("-".join)
        .reset_index()
        .rename(columns={"name": "categories"})
    )
    frame = joined(frame, together, "caption_id")
    without = drawn(frame[~frame["included"]]).drop_duplicates("caption_id")
    chosen = pd.concat([drawn(frame[frame["included"]]), without]).drop_duplicates("caption_id")
    return chosen.reset_index(drop=True)


def assert_equals_pandas(captions, instances):
    expected = select_with_pandas(captions, instances.instances)
    prompts, rejections = select_coco_cap(captions, instances, VOC)
    assert [p.caption.caption_id for p in prompts] == expected["caption_id"].tolist()
    assert [p.prompt for p in prompts] == expected["caption"].tolist()
    assert [p.targets[0].phrase for p in prompts] == expected["name"].tolist()
    assert [p.word_included_published for p in prompts] == expected["included"].tolist()
    for prompt, categories in zip(prompts, expected["categories"], strict=True):
        assert sorted(t.phrase for t in prompt.targets) == sorted(categories.split("-"))
    ids = [p.caption.caption_id for p in prompts] + [r.caption_id for r in rejections]
    assert sorted(ids) == sorted(caption.caption_id for caption in captions)
    return prompts


@pytest.fixture(scope="module")
def synthetic():
    """A COCO of 1,600 images with five captions each, interleaved as in the real file."""
    generator = random.Random(7)
    names = {voc.id: voc.coco_names[-1] for voc in VOC_CLASSES}
    coco_words = {v.id: [names[v.id], v.phrase, f"{names[v.id]}s", "thing"] for v in VOC_CLASSES}
    instances, captions = [], []
    for image_id in range(1, 1601):
        present = generator.choices(range(1, 21), weights=range(1, 21), k=generator.randint(0, 3))
        for class_id in present:
            area = generator.choice([100.0, 4999.9, 5000.0, 5000.1, 9e4])
            instances.append(Instance(image_id=image_id, class_id=class_id, area=area))
        for _ in range(5):
            words = [generator.choice(coco_words[c]) for c in present if generator.random() < 0.8]
            text = f" A scene of {' and '.join(words) or 'nothing'} number {generator.random()}.\n"
            captions.append((image_id, text.title() if generator.random() < 0.3 else text))
    generator.shuffle(instances)
    # Captions of one image stand near each other, but not together.
    captions.sort(key=lambda row: row[0] + generator.uniform(0, 15))
    numbers = list(range(len(captions)))
    generator.shuffle(numbers)
    rows = tuple(
        Caption(caption_id=number, image_id=image_id, text=text)
        for number, (image_id, text) in zip(numbers, captions, strict=True)
    )
    return rows, InstanceFile(
        instances=tuple(instances), image_ids=frozenset(range(1, 1601)), sha256=""
    )


def test_synthetic_coco_equals_pandas(synthetic):
    prompts = assert_equals_pandas(*synthetic)
    assert len(prompts) > 600
    # Both pools of some class were drawn from, and some captions have two classes.
    assert {len(prompt.targets) for prompt in prompts} == {1, 2}


def test_real_images_equal_pandas(shared):
    captions = read_captions(str(shared / "data/coco/captions_val2017.json")).captions
    instances = read_instances(str(shared / "data/coco/instances_val2017_79images.json"), VOC)
    assert len(assert_equals_pandas(captions, instances)) == 88


def test_published_draw_falls_on_the_published_rows():
    """The first five rows that the notebook prints, out of the pool of its first class.

    Its printed row numbers are 74, 4, 84, 72 and 12, in an order where image follows image with
    five captions each. Of a pool of 117 captions RandomState(42) picks places that fit: 4 is the
    fifth caption of the first image, and 42 and 44 are the third and fifth of a later one.
    """
    captions = [
        Caption(caption_id=number, image_id=number // 5, text=f"motorcycle {number}")
        for number in range(117)
    ]
    instances = InstanceFile(
        instances=tuple(Instance(image_id=i, class_id=14, area=6e3) for i in range(24)),
        image_ids=frozenset(range(24)),
        sha256="",
    )
    prompts, _ = select_coco_cap(captions, instances, VOC)
    assert [prompt.caption.caption_id for prompt in prompts][:5] == [44, 4, 53, 42, 10]


def captions_of(*rows):
    numbers = itertools.count(1)
    return [Caption(caption_id=next(numbers), image_id=i, text=text) for i, text in rows]


def instances_of(*rows):
    return InstanceFile(
        instances=tuple(Instance(image_id=i, class_id=c, area=a) for i, c, a in rows),
        image_ids=frozenset(i for i, _, _ in rows),
        sha256="",
    )


def test_images_are_chosen_by_area_and_number():
    instances = instances_of(
        (1, 8, 5000.1),
        (2, 8, 5000.0),
        (3, 8, 6e3),
        (3, 8, 1.0),
        (4, 8, 6e3),
        (4, 12, 1.0),
        (4, 8, 1.0),
    )
    captions = captions_of((1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"))
    prompts, rejections = select_coco_cap(captions, instances, VOC)
    assert [prompt.caption.text for prompt in prompts] == ["a", "c"]
    assert [(r.caption, r.reason, r.class_names) for r in rejections] == [
        ("b", Reason.TOO_SMALL, ("cat",)),
        ("d", Reason.TOO_MANY_INSTANCES, ("cat", "dog")),
        ("e", Reason.NO_INSTANCE, ()),
    ]


def test_two_classes_make_two_rows_but_one_sample():
    captions = captions_of((1, "a dog"), (1, "it"))
    prompts, rejections = select_coco_cap(captions, instances_of((1, 8, 6e3), (1, 12, 10.0)), VOC)
    # Included comes first: the dog's row of the first caption, not the cat's.
    assert [[t.name for t in p.targets] for p in prompts] == [["dog", "cat"], ["cat", "dog"]]
    assert [p.word_included_published for p in prompts] == [True, False]
    assert [p.word_included for p in prompts] == [False, False]
    assert rejections == []


def test_thirty_of_each_pool():
    texts = [(i, f"a cat {i}") for i in range(40)] + [(i, f"it {i}") for i in range(29)]
    instances = instances_of(*((i, 8, 6e3) for i in range(40)))
    prompts, rejections = select_coco_cap(captions_of(*texts), instances, VOC)
    assert [p.word_included_published for p in prompts] == [True] * 30 + [False] * 29
    # Fewer than thirty are taken as they stand; thirty or more are drawn, in the order drawn.
    assert [p.prompt for p in prompts[30:]] == [f"it {i}" for i in range(29)]
    picks = np.random.RandomState(42).choice(40, size=30, replace=False)
    assert [p.prompt for p in prompts[:30]] == [f"a cat {pick}" for pick in picks]
    assert {r.reason for r in rejections} == {Reason.NOT_DRAWN}


def test_limit_keeps_the_first():
    captions = captions_of(*((i, f"a cat {i}") for i in range(5)))
    instances = instances_of(*((i, 8, 6e3) for i in range(5)))
    prompts, rejections = select_coco_cap(captions, instances, VOC, limit=2)
    assert [p.prompt for p in prompts] == ["a cat 0", "a cat 1"]
    assert [(r.caption_id, r.reason) for r in rejections] == [
        (number, Reason.LIMIT_REACHED) for number in (3, 4, 5)
    ]


def test_second_caption_with_an_id_is_left_out():
    captions = [Caption(caption_id=1, image_id=1, text=text) for text in ("a", "b")]
    prompts, rejections = select_coco_cap(captions, instances_of((1, 8, 6e3)), VOC)
    assert [p.prompt for p in prompts] == ["a"]
    assert [r.reason for r in rejections] == [Reason.DUPLICATE_ID]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A Motorcycle.", "a motorbike"),
        ("two airplanes,\nflying ", "two aeroplanes, flying"),
        ("a cat on a couch", "a cat on a sofa"),
        ("Couch potato", "sofa potato"),
        ("couch", "couch"),
        ("red couches", "red sofaes"),
        ("couches", "couches"),
        ("a cat .", "a cat "),
        (" .a cat,. ", "a cat,"),
        ("a cat.,", "a cat"),
    ],
)
def test_published_cleaning(text, cleaned):
    assert clean_published(text) == cleaned


def test_published_words_are_substrings():
    texts = ["a cart", "a car", "a catch", "a hotdog", "a television"]
    captions = captions_of(*enumerate(texts))
    classes = [7, 7, 8, 12, 20]
    instances = instances_of(*((i, c, 6e3) for i, c in enumerate(classes)))
    prompts, _ = select_coco_cap(captions, instances, VOC)
    ours = {p.prompt: (p.word_included_published, p.word_included) for p in prompts}
    assert ours == {
        "a cart": (True, False),
        "a car": (True, True),
        "a catch": (True, False),
        "a hotdog": (True, False),
        "a television": (False, True),
    }
    assert class_by_id(20).phrase == "tv"
