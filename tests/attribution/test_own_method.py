"""A method that is added as CONTRIBUTING says it: a file, a line in the registry, nothing else."""

import numpy as np
import pytest

from ovamgen.config import METHODS, Method
from ovamgen.config.describe import run_keys
from ovamgen.corpus.dataset import read_samples
from ovamgen.generation import generate
from tests.runs import run_config


@pytest.fixture
def toy(monkeypatch):
    method = Method(summary="where queries are long", made_by="tests.attribution.toy:QueryLengths")
    monkeypatch.setitem(METHODS, "query-lengths", method)


def test_it_makes_a_corpus(toy, tmp_path):
    config = run_config(
        tmp_path,
        texts=["a cat on a sofa", "a bus in the street"],
        attribution={"method": "query-lengths"},
        synthesis={"steps": 1},
        runtime={"runner": "local"},
    )
    outcome = generate(config)
    assert (outcome.summary.samples, outcome.summary.failed) == (2, 0)
    for sample in read_samples(config.out):
        assert sample.metadata["method"] == "query-lengths"
        # all classes have one map: equal scores go to the lowest id
        assert set(np.unique(sample.labels)) - {0, 255} == {min(sample.metadata["class_ids"])}


def test_help_lists_it(toy):
    key = run_keys()["attribution.method"]
    assert "query-lengths" in key.choices
    assert "``query-lengths``: where queries are long" in key.description
