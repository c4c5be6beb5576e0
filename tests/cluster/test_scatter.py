"""Independent tasks on Ray: workers that die, tasks that fail, workers that cannot start.

What the workers import is little, so that starting many of them is quick.
"""

import os
import signal

import pytest

from ovamgen.cluster.scatter import scatter
from ovamgen.config import build_config
from ovamgen.errors import ClusterError, ConfigError, SampleError

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_session")]


class Fragile:
    """Runs numbers: negative ones raise, 13 takes the process down, 7 only once."""

    note = "ready"

    def __init__(self, mark):
        self.mark = mark

    def __call__(self, task):
        if task < 0:
            raise SampleError(f"{task} is negative")
        if task == 13 or (task == 7 and not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task * task


class Opening:
    """Opens fragile workers, or fails as it is told."""

    def __init__(self, mark, kind="well"):
        self.mark, self.kind = mark, kind

    def __call__(self, count):
        if self.kind == "error":
            raise ConfigError("no such model")
        if self.kind == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        return Fragile(self.mark)


def test_workers_that_die_are_replaced_and_tasks_tried_again(tmp_path):
    config = build_config({"model": {"id": "mini"}, "runtime": {"workers": 2}})
    said = []
    tasks = [2, 13, -1, 7, 5]
    found = dict(scatter(config, Opening(tmp_path / "mark"), tasks, said.append))
    assert (found[0], found[3], found[4]) == (4, 49, 25)
    assert isinstance(found[2], SampleError)
    assert "its worker died 2 times" in str(found[1])
    assert said.count("ready") == 1
    assert any("starting another" in line for line in said)


@pytest.mark.slow  # test_driver.py has both for a run's workers
def test_workers_that_cannot_start_end_it(tmp_path):
    config = build_config({"model": {"id": "mini"}, "runtime": {"workers": 1, "crash_budget": 1}})
    with pytest.raises(ConfigError, match="no such model"):
        list(scatter(config, Opening(tmp_path / "mark", "error"), [1], print))
    with pytest.raises(ClusterError, match="2 workers died before they were ready"):
        list(scatter(config, Opening(tmp_path / "mark", "death"), [1], print))
