"""A run in which nothing can be made stops at once, whichever stage it is that fails."""

import dataclasses

import numpy as np
import pytest

from ovamgen.errors import OvamgenError
from ovamgen.run.bad_samples import EARLY_STOP_SAMPLES
from ovamgen.run.local import generate_local
from tests.fakes import DiscEngine
from tests.runs import make, run_config


class Faulty(DiscEngine):
    """Draws, and what it hands over cannot be used."""

    drawn = 0

    def __init__(self, config, **others):
        super().__init__(config, **others)
        Faulty.drawn = 0

    def synthesise(self, specs):
        Faulty.drawn += len(specs)
        return self.spoil(super().synthesise(specs))


class NoNumbers(Faulty):
    """As half precision that overflows, where nothing looks at it before the masks are made."""

    def spoil(self, batch):
        return dataclasses.replace(batch, heatmaps=np.full_like(batch.heatmaps, np.nan))


class Flat(Faulty):
    """Images of a wrong shape: nothing of them is left."""

    def spoil(self, batch):
        return dataclasses.replace(batch, images=batch.images[:, :0])


class NoMaxima(Faulty):
    """Maxima that no table takes: masks can be made, and samples cannot be encoded."""

    def spoil(self, batch):
        rows = [(float("nan"),) * len(row) for row in batch.heatmap_max]
        return dataclasses.replace(batch, heatmap_max=tuple(rows))


STAGES = {NoNumbers: "masks", Flat: "masks", NoMaxima: "encoding"}


@pytest.mark.parametrize("engine", STAGES)
def test_failures_after_the_drawing_stop_the_run_like_those_of_the_drawing(tmp_path, engine):
    config = run_config(tmp_path, count=60, plan={"shard_size": 30})
    with pytest.raises(
        OvamgenError, match=f"the first 18 samples all failed.* in {STAGES[engine]}"
    ):
        make(config, generate_local, engine)
    # the batch that the count is full in is the last one
    assert EARLY_STOP_SAMPLES <= Faulty.drawn < EARLY_STOP_SAMPLES + config.plan.batch_size
    assert not [*(tmp_path / "out").glob("*.tar")]


class LastIsWell(NoNumbers):
    """Of each batch, the last sample can be used."""

    def spoil(self, batch):
        heatmaps = batch.heatmaps.copy()
        heatmaps[:-1] = np.nan
        return dataclasses.replace(batch, heatmaps=heatmaps)


def test_one_sample_that_is_well_lets_the_run_go_on(tmp_path):
    run = make(run_config(tmp_path), generate_local, LastIsWell)
    assert (run.summary().samples, run.summary().failed) == (8, 14)
