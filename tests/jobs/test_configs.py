"""The configurations that ship: they build, and the cluster launcher accepts its file offline."""

from pathlib import Path

import pytest
import yaml

from ovamgen.config import DEFAULT_MODEL, DEFAULT_REVISION, build_config, read_config_file
from ovamgen.evaluate.reproduction.settings import build_reproduction_settings
from ovamgen.evaluate.table_s1_settings import build_table_settings
from ovamgen.segmentor.settings import build_settings
from recipes.mini.downstream import read_study

CONFIGS = sorted((Path(__file__).parents[2] / "jobs" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_builds(path, tmp_path):
    if path.name == "runtime_env.yaml":
        assert set(yaml.safe_load(path.read_text())) == {"env_vars", "excludes"}
    elif path.name == "train-segmentor.yaml":
        build_settings(read_config_file(path))
    elif path.name.startswith("reproduce-"):
        build_reproduction_settings(read_config_file(path))
    elif path.name == "table-s1-mini.yaml":
        table = build_table_settings(read_config_file(path))
        for row in table.rows:
            table.run_config(row, tmp_path)
    elif path.name == "downstream-mini.yaml":
        study = read_study(read_config_file(path))
        for row in study.rows:
            study.trainings(row, seed=0)
    else:
        build_config(read_config_file(path))


def test_the_cluster_configuration_names_the_pinned_model(repository):
    config = build_config(read_config_file(repository / "jobs/configs/sd15-cluster.yaml"))
    assert (config.model.id, config.model.revision) == (DEFAULT_MODEL, DEFAULT_REVISION)
    assert config.runtime.gpu_wait_seconds > 60  # the cluster starts at 0 GPUs


@pytest.fixture
def cluster(repository):
    return yaml.safe_load((repository / "cluster.yaml").read_text())


def test_rays_launcher_accepts_the_cluster_file(cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_a_broken_cluster_file_would_not_pass(cluster):
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster["available_node_types"]["gpu"]["max_wrokers"] = 3
    with pytest.raises(ValidationError, match="max_wrokers"):
        validate_config(prepare_config(cluster))


def test_the_head_has_no_gpu_and_workers_scale_from_none(cluster):
    types = cluster["available_node_types"]
    assert "GPU" not in types[cluster["head_node_type"]]["resources"]
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu"]["min_workers"] == 0 < types["gpu"]["max_workers"]


def test_the_cluster_caches_the_pinned_weights_once_a_node(cluster):
    (command,) = cluster["worker_setup_commands"]
    assert DEFAULT_MODEL in command
    assert DEFAULT_REVISION in command


def test_jobs_are_short(repository):
    for path in (repository / "jobs").glob("*.py"):
        assert len(path.read_text().splitlines()) < 60
