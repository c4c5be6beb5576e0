"""Folders of samples drawn by the golden pipeline, with discs for annotations."""

import numpy as np
import pytest

from ovamgen.config import build_config
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.pictures.sample_folder import Sample, SampleFolder, save_mask
from tests.golden.reference import TINY_SD, tiny_sd

HEIGHT, WIDTH = 64, 128
SYNTHESIS = {"steps": 2, "height": HEIGHT, "width": WIDTH}


def disc(x, y, radius=18):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def draw_folder(root, samples):
    """Few steps on one thread; an annotation a sample, each at another place."""
    config = build_config({"model": {"id": str(TINY_SD), "device": "cpu"}, "synthesis": SYNTHESIS})
    settings = {
        "model": config.model.model_dump(mode="json"),
        "synthesis": config.synthesis.model_dump(mode="json"),
    }
    folder = SampleFolder.create(root, samples, settings)
    synthesiser = Synthesiser(tiny_sd(), config.synthesis)
    for number, sample in enumerate(folder.samples):
        folder.add_image(sample, synthesiser.draw([sample.prompt], [sample.seed]).images[0])
        save_mask(disc(40 + 25 * (number % 3), 30), folder.annotation_path(sample))
    return folder


def sample(name, seed, phrase=None):
    prompt = f"A photograph of a {phrase or name}"
    return Sample(key=f"{name}-{seed}", class_name=name, prompt=prompt, seed=seed)


@pytest.fixture(scope="session")
def training(tmp_path_factory):
    samples = [sample("cat", 1), sample("cat", 2), sample("diningtable", 3, "dining table")]
    return draw_folder(tmp_path_factory.mktemp("training") / "samples", samples)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory):
    samples = [sample("cat", 11), sample("cat", 12), sample("diningtable", 13, "dining table")]
    return draw_folder(tmp_path_factory.mktemp("held_out") / "samples", samples)
