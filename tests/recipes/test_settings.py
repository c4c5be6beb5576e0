import pytest

from recipes.mini.settings import TrainSettings


def test_the_rate_warms_up_and_stays():
    settings = TrainSettings(learning_rate=0.01, warmup_steps=4)
    assert [settings.rate(step) for step in (0, 1, 3, 4, 10**6)] == pytest.approx(
        [0.0025, 0.005, 0.01, 0.01, 0.01]
    )
    assert settings.last_step() is None


def test_a_branch_decays_to_zero_with_the_square_root():
    settings = TrainSettings(learning_rate=0.01, warmup_steps=4, decay_from=100, decay_steps=400)
    # 1 - sqrt of 0, 1/400, 1/4, 1
    assert [settings.rate(step) for step in (99, 100, 101, 200, 500)] == pytest.approx(
        [0.01, 0.01, 0.0095, 0.005, 0.0]
    )
    assert settings.last_step() == 500


def test_differences_are_named():
    old, new = TrainSettings(batch_size=8), TrainSettings(batch_size=16, seed=2)
    assert old.differences(new) == ["batch_size 8 -> 16", "seed 0 -> 2"]
    assert old.differences(old) == []
