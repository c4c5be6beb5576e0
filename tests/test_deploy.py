"""The files under ``deploy/``: the dashboard's metrics exist, the manifest is in order."""

import json
import re
from typing import get_args

import pytest
import yaml

from ovamgen.cluster.metrics import METRICS
from ovamgen.config import build_config, parse_overrides, read_config_file
from ovamgen.run.timing import WORK_STAGES
from ovamgen.status.activity import Activity


@pytest.fixture(scope="module")
def dashboard(repository):
    return json.loads((repository / "deploy" / "grafana" / "ovamgen.json").read_text())


@pytest.fixture(scope="module")
def manifest(repository):
    text = (repository / "deploy" / "rayjob.yaml").read_text()
    assert "UNTESTED" in text.split("apiVersion")[0], "it says so as long as it is so"
    return yaml.safe_load(text)


def queries(dashboard):
    found = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    return [*found, *(v["query"]["query"] for v in dashboard["templating"]["list"][1:])]


def test_every_query_of_the_dashboard_names_a_metric_with_its_tags(dashboard):
    asked = set()
    for query in queries(dashboard):
        names = re.findall(r"\bray_(\w+)", query)
        assert names, query
        asked.update(names)
        for name, labels in re.findall(r"ray_(\w+)\{([^}]*)\}", query):
            tags = {label.split("=")[0].strip(" ~!") for label in labels.split(",")}
            assert tags <= {"SessionName", *METRICS[name].tags}, query
        for group in re.findall(r"by \(([^)]*)\)", query):
            known = {tag for name in names for tag in METRICS[name].tags}
            assert {tag.strip() for tag in group.split(",")} <= known, query
        rated = re.findall(r"(?:rate|increase)\(ray_(\w+)", query)
        assert all(METRICS[name].kind == "counter" for name in rated), query
    assert asked == set(METRICS), "every metric is drawn, and nothing else"


def test_the_dashboard_is_laid_out_without_overlaps(dashboard):
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_counters_end_in_total_and_gauges_do_not():
    """Ray adds the ending to counters that lack it: the dashboard's names would be others."""
    for name, spec in METRICS.items():
        assert name.startswith("ovamgen_")
        assert name.endswith("_total") == (spec.kind == "counter")


def test_the_rayjob_stops_in_order(manifest, repository):
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    spec = manifest["spec"]
    words = spec["entrypoint"].split()
    assert words[0] == "ovamgen"
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    file = repository / "jobs" / "configs" / "sd15-cluster.yaml"
    config = build_config(read_config_file(file), parse_overrides(sets))
    assert config.out.startswith("s3://")
    waits = int(yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert config.runtime.drain_seconds < waits < head["terminationGracePeriodSeconds"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] >= 1, "a lost head goes on where the run stopped"


def test_the_rayjob_takes_secrets_from_a_secret_and_gpus_for_workers(manifest, repository):
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    head = cluster["headGroupSpec"]["template"]["spec"]
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in (head, group["template"]["spec"]):
        assert pod["terminationGracePeriodSeconds"] >= 30
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert [list(source) for source in container["envFrom"]] == [["secretRef"]]
        names = {entry["name"] for entry in container["env"]}
        assert not [name for name in names if "SECRET" in name or "KEY" in name]
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
        limits = container["resources"]["limits"]
        assert limits == container["resources"]["requests"]
    assert "nvidia.com/gpu" in group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    pinned = re.search(r"^ray==(\S+)", (repository / "constraints.txt").read_text(), re.MULTILINE)
    assert cluster["rayVersion"] == pinned[1], "client and cluster must be of one version"


def test_the_page_on_operations_names_every_metric_and_activity(repository):
    page = (repository / "docs" / "operations.md").read_text("utf-8")
    for name, spec in METRICS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert re.findall(r"`(\w+)`", row.split("|")[2]) == list(spec.tags)
    for activity in get_args(Activity):
        assert f"`{activity}`" in page
    assert all(f"| `{stage}` |" in page for stage in WORK_STAGES)
