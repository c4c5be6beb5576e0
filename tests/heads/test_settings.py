import pytest

from ovamgen.attribution.heads.datasetdm import DatasetDmShape
from ovamgen.attribution.heads.grounded import GroundedShape
from ovamgen.config import preset_names
from ovamgen.errors import ConfigError
from ovamgen.heads.settings import build_head_settings, load_head_preset


def test_published_presets_make_the_published_networks():
    grounded = load_head_preset("grounded-published")
    assert grounded.shape((15360, 14080, 8320, 5120), 768) == GroundedShape()
    assert (grounded.total_steps(3), grounded.rate(10**5, 3)) == (500_000, 1e-5)
    datasetdm = load_head_preset("datasetdm-published")
    assert datasetdm.shape((18536, 19720, 12680, 8200), 768) == DatasetDmShape()
    assert datasetdm.total_steps(200) == 10**6
    assert datasetdm.rate(350 * 200 - 1, 200) == pytest.approx(1e-4)
    assert datasetdm.rate(350 * 200, 200) == pytest.approx(1e-5)


def test_every_preset_can_be_changed():
    for name in preset_names("heads"):
        settings = load_head_preset(name, steps=7, seed=3, learning_rate=None)
        assert (settings.steps, settings.epochs, settings.seed) == (7, None, 3)
        assert load_head_preset(name, epochs=2).total_steps(10) == 20 // settings.batch_size


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"step": 3}, "unknown setting of a head 'step': did you mean 'steps'"),
        ({"epochs": 3}, "one of steps and epochs"),
        ({"width": 90}, "multiple of 4 and of heads"),
        ({"prompt": "a photo"}, "must have {class} in it"),
        ({"augment": True}, "augment is of datasetdm's"),
        ({"asked_for": "aeroplane"}, "asked_for is of datasetdm's"),
        ({"learning_rate": 0}, "learning_rate"),
    ],
)
def test_what_does_not_fit_is_refused(changes, told):
    values = {"kind": "grounded", "steps": 3, "learning_rate": 0.1} | changes
    with pytest.raises(ConfigError, match=told):
        build_head_settings(values)


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'grounded-mini'"):
        load_head_preset("grounded-minni")


def test_a_model_with_more_levels_than_widths_is_refused():
    settings = load_head_preset("grounded-mini", widths=(4, 4))
    with pytest.raises(ConfigError, match="widths must be 3 numbers"):
        settings.shape((1, 2, 3), 8)
