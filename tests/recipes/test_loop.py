import csv
import os
import signal

import pytest
import torch

from ovamgen.errors import ConfigError, OvamgenError
from recipes.mini.journal import append_row, forget_after
from recipes.mini.loop import only_one, run, step_generator, stop_signals
from recipes.mini.settings import TrainSettings


class Counting:
    """Trains nothing: the loss of a step is its number."""

    def __init__(self, settings=None, bad_step=None):
        self.state = self
        self.settings = settings or TrainSettings(batch_size=10)
        self.step = self.samples = 0
        self.saved = []
        self.bad_step = bad_step

    def take_step(self):
        self.step += 1
        self.samples += 10
        loss = float("nan") if self.step == self.bad_step else float(self.step)
        return torch.tensor(loss), torch.tensor(2.0)

    def save(self, folder):
        self.saved.append(self.step)


def test_reports_are_means_and_the_end_is_saved(tmp_path):
    trainer = Counting()
    reports = list(run(trainer, tmp_path, until_step=5, report_every=2))
    assert [(r.step, r.samples, r.loss, r.gradient_norm) for r in reports] == [
        (2, 20, 1.5, 2.0),
        (4, 40, 3.5, 2.0),
        (5, 50, 5.0, 2.0),
    ]
    assert trainer.saved == [5]


def test_saved_every_so_often(tmp_path):
    trainer = Counting()
    list(run(trainer, tmp_path, until_step=3, report_every=100, save_every_seconds=0))
    assert trainer.saved == [1, 2, 3]


def test_a_decay_ends_the_run(tmp_path):
    trainer = Counting(TrainSettings(decay_from=2, decay_steps=3))
    assert list(run(trainer, tmp_path, until_step=100))[-1].step == 5


def test_a_loss_that_is_no_number_stops_before_the_checkpoint(tmp_path):
    trainer = Counting(bad_step=3)
    with pytest.raises(OvamgenError, match="got nan at step 4"):
        list(run(trainer, tmp_path, until_step=9, report_every=4))
    assert trainer.saved == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGXCPU])
def test_a_signal_stops_in_order(tmp_path, number):
    """Also that of the end of CPU time, which short trials are compared in equal amounts of."""
    trainer = Counting()
    handler = signal.getsignal(number)
    with stop_signals() as stopped:
        for report in run(trainer, tmp_path, until_step=100, report_every=1, should_stop=stopped):
            if report.step == 3:
                os.kill(os.getpid(), number)
    assert trainer.saved == [4]
    if number == signal.SIGTERM:
        assert signal.getsignal(number) is handler
        return
    try:
        # the kernel sends it every second from then on, which would end the process
        os.kill(os.getpid(), number)
    finally:
        signal.signal(number, handler)


def test_a_run_has_one_training_at_a_time(tmp_path):
    with only_one(tmp_path / "run"):
        with (
            pytest.raises(ConfigError, match="another process has it"),
            only_one(tmp_path / "run"),
        ):
            pass
        with only_one(tmp_path / "other"):
            pass
    with only_one(tmp_path / "run"):
        pass


def test_numbers_of_a_step_depend_on_seed_and_step_only():
    def draw(seed, step):
        generator = step_generator(seed, step, torch.device("cpu"))
        return torch.rand(4, generator=generator).tolist()

    assert draw(1, 2) == draw(1, 2)
    assert len({tuple(draw(seed, step)) for seed in range(3) for step in range(3)}) == 9


def test_rows_of_lost_steps_are_forgotten(tmp_path):
    log = tmp_path / "train.csv"
    for step in (50, 100, 150):
        append_row(log, {"step": step, "loss": f"{1 / step:.3f}"})
    forget_after(log, 100)
    append_row(log, {"step": 150, "loss": "0.5"})
    with log.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["step", "loss"], ["50", "0.020"], ["100", "0.010"], ["150", "0.5"]]


def test_a_log_that_is_not_there_is_left_alone(tmp_path):
    forget_after(tmp_path / "train.csv", 5)
    assert list(tmp_path.iterdir()) == []
