"""The main job on real input: COCO captions through Ray, and every sample read back."""

import hashlib
import json
import sys
import tarfile

import numpy as np
import pytest
import yaml

from jobs import generate as generate_job
from ovamgen.cluster.driver import generate_on_ray
from ovamgen.config import build_config
from ovamgen.corpus.dataset import read_samples
from ovamgen.generation import generate
from tests.runs import digests, make
from tests.voc import VOC_CLASSES

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_session")]


def config_for(captions, out, **sections):
    base = {
        "plan": {"captions": str(captions), "limit": 64, "shard_size": 24, "batch_size": 8},
        "model": {"id": "mini"},
        "synthesis": {"steps": 2},
        "runtime": {"workers": 2, "cpu_threads": 1},
        "out": str(out),
    }
    return build_config(base, sections)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_64_captions_of_coco_become_64_samples_that_read_back(tmp_path, shared):
    path = shared / "data/coco/captions_val2017.json"
    config = config_for(path, tmp_path / "out")
    run = make(config, generate_on_ray, None)
    assert (run.summary().samples, run.summary().failed, run.summary().shards) == (64, 0, 3)
    source = {a["id"]: a["caption"] for a in json.loads(path.read_text())["annotations"]}
    specs = {spec.key: spec for task in run.plan.tasks for spec in task.specs}
    names = {c.id: c.name for c in VOC_CLASSES}
    seen = set()
    for sample in read_samples(config.out):
        spec = specs[sample.key]
        meta = sample.metadata
        assert sample.image.shape == (128, 128, 3)
        assert sample.labels.shape == (128, 128)
        ids = [target.class_id for target in spec.targets]
        assert set(np.unique(sample.labels)) <= {0, *ids}
        assert meta["class_ids"] == ids
        assert meta["class_names"] == [names[i] for i in ids]
        assert meta["caption"] == source[meta["caption_id"]] == spec.caption
        assert meta["seed"] == spec.seed
        assert meta["mask_sha256"] == hashlib.sha256(sample.labels.tobytes()).hexdigest()
        assert meta["model_trained"] is True
        seen.add(sample.key)
    assert seen == set(specs)
    classes = {c for spec in specs.values() for c in (t.class_id for t in spec.targets)}
    assert len(classes) == 20


@pytest.mark.timeout(400)
def test_the_real_pipeline_gives_equal_bytes_in_one_process_and_on_ray(
    tmp_path, monkeypatch, capsys
):
    """On Ray by the entry point of ``ray job submit``, in this process."""
    outs = []
    for name, workers in [("a", 1), ("b", 2)]:
        config = config_for(
            "demo",
            tmp_path / name,
            plan={"limit": 7, "shard_size": 4, "batch_size": 2},
            synthesis={"steps": 1},
            runtime={"workers": workers},
            shards={"heatmaps": True},
        )
        if name == "a":
            local = config.runtime.model_copy(update={"runner": "local"})
            generate(config.model_copy(update={"runtime": local}))
        else:
            asked = tmp_path / "job.yaml"
            asked.write_text(yaml.safe_dump(config.model_dump(mode="json")))
            monkeypatch.setattr(sys, "argv", ["generate.py", "--config", str(asked)])
            assert generate_job.main() == 0
            assert "7 made, 0 failed" in capsys.readouterr().out
        outs.append(digests(config.out))
    assert outs[0] == outs[1]
    with tarfile.open(tmp_path / "a" / "train-000000.tar") as tar:
        names = [member.name for member in tar][:5]
    assert [n.split(".", 1)[1] for n in names] == [
        "heatmaps.npz",
        "jpg",
        "json",
        "mask.png",
        "txt",
    ]
