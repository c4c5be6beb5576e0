"""Finished runs of the disc engine that the tests of this folder damage copies of."""

import shutil
from pathlib import Path

import pytest

from ovamgen.generation import generate
from tests.fakes import DiscEngine
from tests.runs import PROMPTS, run_config

DEAD = f".scratch/{'d' * 32}"
"""What an attempt that was killed leaves behind."""
TEXTS = [PROMPTS[i % len(PROMPTS)] for i in range(22)]
TEXTS[5] = "a cat with poison"


def settings(folder: Path, **sections):
    """A run in shards of 8, 8 and 6 samples, one of which fails; heatmaps are stored."""
    runtime = {"runner": "local"}
    return run_config(folder, texts=TEXTS, runtime=runtime, shards={"heatmaps": True}, **sections)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """The output of a run that nothing disturbed."""
    config = settings(tmp_path_factory.mktemp("pristine"))
    generate(config, DiscEngine)
    return Path(config.out)


@pytest.fixture
def out(tmp_path, pristine):
    """A copy of it for one test."""
    return Path(shutil.copytree(pristine, tmp_path / "out"))
