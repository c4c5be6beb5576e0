"""Samples without any class: as many as were asked for, of captions that have no word of any."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.classes.loading import built_in
from ovamgen.config import PlanConfig
from ovamgen.errors import ConfigError
from ovamgen.plan.empty_samples import places_of_empty
from ovamgen.plan.plan import Plan
from ovamgen.plan.planning import make_plan
from ovamgen.plan.summary import PlanSummary
from tests.runs import captions_file

NAMED = ["a cat on a sofa", "two dogs in the snow", "a bird above the sea"] * 8
SILENT = ["a bowl of soup", "an empty room", "snow on a hill", "a green door"] * 3
NEARLY = ["a hot dog with mustard", "a toy car in a box", "a horse statue"]
"""No class is meant, and what is drawn looks like one."""


@pytest.fixture
def config(tmp_path):
    def of(share, texts=(*NAMED, *SILENT, *NEARLY), **plan):
        file = captions_file(tmp_path / f"{len(texts)}.csv", texts)
        plan = {"shard_size": 8, "batch_size": 3, "empty_share": share} | plan
        return PlanConfig(captions=str(file), **plan)

    return of


def empty_of(plan: Plan) -> list[bool]:
    return [not spec.targets for spec in plan.specs]


@given(
    share=st.decimals(0, 1, places=2).map(float),
    targets=st.integers(0, 30),
    empty=st.integers(0, 30),
    limit=st.integers(1, 40) | st.none(),
    first=st.integers(0, 40),
)
def test_every_beginning_has_its_share(share, targets, empty, limit, first):
    whole = places_of_empty(share=share, limit=limit, targets=targets, empty=empty)
    assert len(whole) == min(limit or 60, len(whole))
    assert whole.sum() <= empty
    assert (~whole).sum() <= targets
    for count in range(1, len(whole) + 1):
        asked = int(count * Fraction(str(share)))
        assert whole[:count].sum() == min(asked, empty)
    # and what goes on from a beginning ends as the whole
    done = whole[:first]
    rest = places_of_empty(
        share=share,
        limit=limit,
        targets=targets - int((~done).sum()),
        empty=empty - int(done.sum()),
        samples_before=len(done),
        empty_before=int(done.sum()),
    )
    assert np.array_equal(np.concatenate([done, rest]), whole)


def test_a_plan_with_a_share(config):
    plan = make_plan(config(0.25, limit=16))
    assert empty_of(plan) == [False, False, False, True] * 4
    taken = [spec for spec in plan.specs if not spec.targets]
    assert {spec.caption.rpartition(" number")[0] for spec in taken} <= set(SILENT)
    assert not any(spec.word_included or spec.word_included_published for spec in taken)
    again = Plan.from_parquet(plan.to_parquet())
    assert again == plan
    left = {rejection.caption for rejection in plan.rejections}
    assert len(left) + plan.samples == len(NAMED + SILENT + NEARLY)
    assert not left & {spec.caption for spec in plan.specs}


def test_words_that_draw_something_like_a_class_are_left_out(config):
    plan = make_plan(config(0.5))
    left = [r.caption for r in plan.rejections if r.reason == "no target"]
    assert sorted(text.rpartition(" number")[0] for text in left) == sorted(NEARLY)
    voc = built_in("voc")
    assert not any(voc.is_silent(text) for text in (*NAMED, *NEARLY))
    assert all(voc.is_silent(text) for text in SILENT)


def test_without_a_share_nothing_is_different(config):
    assert (
        make_plan(config(0.0)).to_parquet()
        == make_plan(PlanConfig(**config(0.0).model_dump(exclude={"empty_share"}))).to_parquet()
    )
    assert "empty_share" not in make_plan(config(0.0)).settings


def test_too_few_captions_are_told(config, caplog):
    plan = make_plan(config(0.4, limit=36))
    assert sum(empty_of(plan)) == len(SILENT)
    assert plan.samples == 36
    assert "asks for 14 of 36 samples without any class" in caplog.text
    assert "gave 12: give more of them" in caplog.text


def test_nothing_but_empty_samples(config):
    plan = make_plan(config(1.0))
    assert empty_of(plan) == [True] * len(SILENT)


def test_quotas_are_of_classes(config):
    plan = make_plan(config(0.4, per_class=3))
    assert empty_of(plan).count(False) == 9
    assert empty_of(plan).count(True) == 6


def test_a_smaller_limit_and_an_extension_give_the_same(config):
    whole = make_plan(config(0.3, limit=20))
    part = make_plan(config(0.3, limit=9))
    more = make_plan(config(0.3, limit=20), after=part)
    assert [s.caption for s in whole.specs][:9] == [s.caption for s in part.specs]
    joined = Plan.joined((part, more))
    assert [s.caption for s in joined.specs] == [s.caption for s in whole.specs]
    assert joined.tasks[2].specs[0].key == "00000200000"


def test_class_words_are_not_appended_to_nothing(config):
    plan = make_plan(config(0.5, limit=2), append_class_words=True)
    assert [spec.prompt.count(";") for spec in plan.specs] == [1, 0]


def test_they_are_counted(config):
    summary = PlanSummary.of(make_plan(config(0.25, limit=16)))
    assert summary.unclassed.taken == 4
    assert summary.total.taken == 16


def test_the_published_selection_has_none(config, tmp_path):
    instances = tmp_path / "instances.json"
    instances.write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(ConfigError, match=r"coco-cap decides plan\.empty_share itself"):
        make_plan(config(0.5, preset="coco-cap", instances=str(instances)))
