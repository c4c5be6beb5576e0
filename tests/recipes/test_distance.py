import numpy as np
import pytest
import torch

from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import Sample, SampleFolder
from ovamgen.segmentor.network import ARCHITECTURES, Segmentor, build_network
from recipes.mini.distance import distances, squared_discrepancy


@pytest.fixture(scope="module")
def annotator():
    shape = ARCHITECTURES["small"]
    return Segmentor(build_network(shape, seed=0), shape, torch.device("cpu"))


def folder_of(root, images):
    samples = [
        Sample(key=f"{name}-{i}", class_name=name, prompt=f"a {name}", seed=i)
        for name, pictures in images.items()
        for i in range(len(pictures))
    ]
    folder = SampleFolder.create(root, samples, {"model": {"id": "mini"}})
    pictures = [picture for each in images.values() for picture in each]
    for sample, picture in zip(samples, pictures, strict=True):
        folder.add_image(sample, picture)
    return folder


def test_the_discrepancy_by_hand():
    """One feature, values 0 and 2 against 1 and 1, kernel (x y + 1)^3."""
    some, others = np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]])
    # k(0, 2) = 1; k(1, 1) = 8; mean of k(0, 1) = 1 and k(2, 1) = 27 is 14
    assert squared_discrepancy(some, others) == 1 + 8 - 2 * 14


def test_sets_of_one_kind_are_at_zero_in_the_mean():
    rng = np.random.default_rng(0)
    found = [squared_discrepancy(*rng.normal(size=(2, 10, 16))) for _ in range(300)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 300**0.5
    apart = [
        squared_discrepancy(rng.normal(size=(10, 16)), rng.normal(size=(10, 16)) + 1)
        for _ in range(20)
    ]
    assert np.mean(apart) > 20 * np.std(found)


def test_composites_are_near_and_noise_is_far(annotator, composer, tmp_path):
    cats = [composer.compose(1000 + i, class_id=8).image for i in range(8)]
    noise = list(np.random.default_rng(1).integers(0, 256, (8, 128, 128, 3), np.uint8))
    found = distances(
        folder_of(tmp_path, {"cat": cats, "dog": noise}), annotator, composer, per_class=12
    )
    by_class = found["by_class"]
    assert set(by_class) == {"cat", "dog"}
    assert by_class["dog"]["drawings"] > 10 * abs(by_class["cat"]["drawings"])
    assert by_class["dog"]["drawings"] > 10 * abs(by_class["dog"]["composites"])
    assert by_class["dog"]["count"] == 8


def test_one_drawing_has_no_distance(annotator, composer, tmp_path):
    folder = folder_of(tmp_path, {"cat": [composer.compose(0).image]})
    with pytest.raises(ConfigError, match="two drawings of a class, cat has one"):
        distances(folder, annotator, composer, per_class=4)
