"""Metrics of a run: what is told to Ray, and what Prometheus then reads from Ray's agent."""

import re
import time
import urllib.error
import urllib.request

import pytest

from ovamgen.cluster.driver import generate_on_ray
from ovamgen.cluster.metrics import METRICS, RunMetrics
from ovamgen.records import SampleFailure
from ovamgen.run.journal import RunJournal
from tests.fakes import DiscEngine
from tests.runs import PROMPTS, make, run_config

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_session")]


class Told(RunMetrics):
    """Keeps what is told beside telling it."""

    def __init__(self):
        super().__init__()
        self.counted = []
        for name, metric in self._metrics.items():
            if METRICS[name].kind == "counter":
                metric.inc = lambda value, tags, name=name: self.counted.append(
                    (name, value, *tags.values())
                )


def test_counters_grow_by_what_has_changed_and_never_fall():
    journal, metrics = RunJournal(), Told()
    journal.shard_begun(0, 8)
    journal.ended(0, 3, [SampleFailure(key="1", stage="masks", reason="ValueError: x")])
    metrics.follow(journal)
    assert metrics.counted == [
        ("ovamgen_samples_total", 3, "made"),
        ("ovamgen_samples_total", 1, "failed"),
        ("ovamgen_failures_total", 1, "masks", "ValueError"),
    ]
    metrics.counted.clear()
    journal.shard_lost(0, 3, 1)
    metrics.follow(journal)
    assert metrics.counted == [], "not yet: at most once a second"
    metrics.follow(journal, at_once=True)
    assert metrics.counted == [("ovamgen_restarts_total", 1, "shard")]
    metrics.counted.clear()
    journal.ended(0, 5)
    metrics.follow(journal, at_once=True)
    assert metrics.counted == [("ovamgen_samples_total", 2, "made")], "three were told before"


@pytest.mark.slow
def test_prometheus_reads_the_metrics_of_a_run_from_rays_agent(tmp_path, ray_session):
    """The agent of this node serves them without a dashboard; Ray reports every 10 s."""
    texts = [PROMPTS[i % len(PROMPTS)] for i in range(22)]
    texts[4] = "a cat with poison"
    make(run_config(tmp_path, texts=texts, runtime={"workers": 2}), generate_on_ray, DiscEngine)
    node = ray_session.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    expected = set(METRICS) - {"ovamgen_restarts_total"}
    deadline = time.monotonic() + 90
    while True:
        try:
            text = urllib.request.urlopen(url, timeout=10).read().decode()
        except urllib.error.URLError:
            text = ""
        types = dict(re.findall(r"^# TYPE ray_(ovamgen_\w+) (\w+)$", text, re.MULTILINE))
        if expected <= set(types) or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert types.items() >= {name: METRICS[name].kind for name in expected}.items()
    found = re.findall(r"^ray_(ovamgen_\w+)\{([^}]*)\} (\S+)$", text, re.MULTILINE)
    labels = {name: set(re.findall(r"(\w+)=", text)) for name, text, _ in found}
    for name in expected:
        assert {"SessionName", *METRICS[name].tags} <= labels[name]
    assert any(n == "ovamgen_failures_total" and 'kind="RuntimeError"' in t for n, t, _ in found)
    stages = {re.search(r'stage="(\w+)"', t)[1] for n, t, _ in found if "stage_seconds" in n}
    assert stages == {"loading", "synthesis", "masks", "encoding", "writing"}
