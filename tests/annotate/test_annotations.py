"""States, versions and files of annotations."""

from __future__ import annotations

import numpy as np
import pytest

from ovamgen.annotate.annotations import Annotations, StaleVersionError, State, UnknownKeyError
from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import save_mask
from tests.annotate.conftest import CAT, DOG, HEIGHT, TABLE, WIDTH, disc


@pytest.fixture
def annotations(folder):
    return Annotations(folder)


def save(annotations, sample, mask):
    annotations.save(sample, mask, annotations.version(sample))


def test_a_saved_mask_is_what_readers_of_the_folder_get(annotations, folder):
    save(annotations, CAT, disc(40, 150, 20))
    assert np.array_equal(folder.annotation(CAT), disc(40, 150, 20))
    assert annotations.state(CAT) is State.ANNOTATED
    assert (annotations.counts().annotated, annotations.counts().to_do) == (1, 2)


def test_an_empty_mask_makes_the_sample_to_do_again(annotations, folder):
    save(annotations, CAT, disc(40, 150, 20))
    save(annotations, CAT, np.zeros((HEIGHT, WIDTH), bool))
    assert annotations.state(CAT) is State.TO_DO
    assert not folder.annotation_path(CAT).exists()


def test_what_is_left_out_has_no_annotation_and_comes_back_as_it_was(annotations, folder):
    save(annotations, CAT, disc(40, 150, 20))
    for sample in (CAT, DOG):
        annotations.leave_out(sample, annotations.version(sample))
        assert annotations.state(sample) is State.LEFT_OUT
        with pytest.raises(ConfigError, match="does not exist"):
            folder.annotation(sample)
    assert np.array_equal(annotations.mask(CAT), disc(40, 150, 20))
    assert annotations.mask(DOG) is None
    for sample in (CAT, DOG):
        annotations.take_in(sample, annotations.version(sample))
    assert np.array_equal(folder.annotation(CAT), disc(40, 150, 20))
    assert annotations.state(DOG) is State.TO_DO
    assert [path.name for path in folder.annotation_path(CAT).parent.rglob("*.png")] == [
        "cat-0.png"
    ]


def test_painting_a_sample_that_is_left_out_takes_it_in(annotations):
    annotations.leave_out(CAT, annotations.version(CAT))
    save(annotations, CAT, disc(40, 150, 20))
    assert annotations.state(CAT) is State.ANNOTATED
    assert annotations.counts().left_out == 0


@pytest.mark.parametrize("change", ["save", "leave_out", "take_in", "another program"])
def test_a_change_to_a_version_that_is_gone_is_refused(annotations, folder, change):
    version = annotations.version(CAT)
    if change == "another program":
        save_mask(disc(40, 150, 10), folder.annotation_path(CAT))
        change = "save"
    else:
        save(annotations, CAT, disc(40, 150, 10))
    arguments = (disc(10, 10, 5), version) if change == "save" else (version,)
    with pytest.raises(StaleVersionError, match="changed elsewhere"):
        getattr(annotations, change)(CAT, *arguments)
    assert np.array_equal(folder.annotation(CAT), disc(40, 150, 10))


def test_samples_do_not_share_versions(annotations):
    save(annotations, CAT, disc(40, 150, 10))
    annotations.save(TABLE, disc(40, 150, 20), annotations.version(TABLE))
    assert annotations.version(CAT) != annotations.version(TABLE)
    assert annotations.changed == {"cat-0", "table_1"}


@pytest.mark.parametrize("key", ["", "..", "../cat-0", "cat-0.png", "/etc/passwd", "CAT-0"])
def test_only_keys_of_the_list_are_known(annotations, key):
    with pytest.raises(UnknownKeyError, match="no sample"):
        annotations.sample(key)


def test_a_mask_of_another_size_is_refused(annotations, folder):
    with pytest.raises(ConfigError, match="must be 120x200 pixels"):
        save(annotations, CAT, disc(10, 10, 5, WIDTH, HEIGHT))
    save_mask(np.ones((4, 4), bool), folder.annotation_path(CAT))
    with pytest.raises(ConfigError, match="got 4x4"):
        annotations.mask(CAT)
