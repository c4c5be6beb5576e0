"""Bad samples: found by probing, recorded by name, and without effect on their neighbours."""

import numpy as np
import pytest

from ovamgen.config import build_config
from ovamgen.errors import OvamgenError
from ovamgen.records import SampleFailure, SampleSpec, Target
from ovamgen.run.bad_samples import EarlyStop, one_line, synthesise_surviving
from tests.fakes import DiscEngine

CAT = Target(class_id=8, class_name="cat", phrase="cat")


def specs(*prompts):
    return [
        SampleSpec(
            key=f"{i:011d}",
            prompt=prompt,
            caption=prompt,
            targets=(CAT,),
            seed=i,
            caption_id=i,
            image_id=-1,
            word_included=True,
            word_included_published=True,
        )
        for i, prompt in enumerate(prompts)
    ]


@pytest.fixture
def engine():
    return DiscEngine(build_config({"model": {"id": "mini"}}))


@pytest.mark.parametrize("bad", [(), (0,), (4,), (1, 2), (0, 1, 2, 3, 4)])
def test_neighbours_keep_every_bit(engine, bad):
    whole = engine.synthesise(specs(*["a cat"] * 5))
    mixed = synthesise_surviving(
        engine, specs(*["poison" if i in bad else "a cat" for i in range(5)])
    )
    good = [i for i in range(5) if i not in bad]
    assert [spec.key for spec in mixed.specs] == [f"{i:011d}" for i in good]
    assert sorted(f.key for f in mixed.failures) == [f"{i:011d}" for i in bad]
    for failure in mixed.failures:
        assert failure.reason == f"RuntimeError: bad luck with {failure.key}"
    for place, index in enumerate(good):
        np.testing.assert_array_equal(mixed.images[place], whole.images[index])
        np.testing.assert_array_equal(mixed.heatmaps[place], whole.heatmaps[index])


def test_known_culprits_are_left_out_without_being_tried(engine):
    batch = specs("a cat", "poison", "a cat")
    made = synthesise_surviving(engine, batch, {batch[1].key: "it took workers down"})
    assert [spec.key for spec in made.specs] == [batch[0].key, batch[2].key]
    assert made.failures[0].reason == "it took workers down"


class _FailsInCompany(DiscEngine):
    def synthesise(self, specs):
        if len(specs) > 1:
            raise RuntimeError("too crowded")
        return super().synthesise(specs)


def test_a_batch_that_fails_only_together_says_so():
    engine = _FailsInCompany(build_config({"model": {"id": "mini"}}))
    made = synthesise_surviving(engine, specs("a cat", "a cat"))
    assert made.specs == ()
    reasons = {failure.reason for failure in made.failures}
    assert reasons == {"fails only together with its batch: RuntimeError: too crowded"}


def test_an_error_of_the_run_is_not_taken_for_one_of_a_sample():
    class Broken(DiscEngine):
        def synthesise(self, specs):
            raise OvamgenError("the disk is full")

    engine = Broken(build_config({"model": {"id": "mini"}}))
    with pytest.raises(OvamgenError, match="disk is full"):
        synthesise_surviving(engine, specs("a cat", "a cat"))


def failures(count, stage="synthesis"):
    return [SampleFailure(key=str(i), stage=stage, reason="no luck") for i in range(count)]


def test_a_run_stops_only_when_nothing_at_all_was_made():
    stop = EarlyStop()
    stop.count(0, failures(15))
    with pytest.raises(OvamgenError, match=r"first 16 samples all failed.*no luck"):
        stop.count(0, failures(1))
    stop = EarlyStop()
    stop.count(1, failures(15))
    stop.count(0, failures(50))
    EarlyStop(made_before=1).count(0, failures(50))
    EarlyStop().count(0, failures(50, "safety"))


def test_a_small_shard_of_failures_alone_is_not_waited_for():
    stop = EarlyStop(largest_shard=4)
    stop.count(0, failures(3))
    with pytest.raises(OvamgenError, match=r"first 4 samples all failed"):
        stop.count(0, failures(1))


def test_reasons_fit_on_one_line():
    text = one_line(ValueError("a\n  b" + "c" * 1000))
    assert text.startswith("ValueError: a b")
    assert len(text) == 300
