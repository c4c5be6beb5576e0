import io
import json

import pytest
from rich.console import Console

from ovamgen.bench.stage_costs import STAGES
from ovamgen.bench.stages import bench_stages
from ovamgen.config import build_config
from ovamgen.errors import ConfigError
from ovamgen.storage.local import LocalStore


def config(**sections):
    synthesis = {"steps": 1, "height": 64, "width": 64}
    return build_config({"model": {"id": "mini"}, "synthesis": synthesis} | sections)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    store = LocalStore(tmp_path_factory.mktemp("stages"))
    said = []
    found = bench_stages(
        config(), store, batch_size=2, rounds=2, crf_sides=(32, 48), say=said.append
    )
    return found, store, said


def test_every_stage_is_there(measured):
    found, store, said = measured
    costs = {cost.stage: cost for cost in found.stages}
    assert tuple(costs) == STAGES
    # dense CRF is a difference of two times, which may be anything on a busy machine
    for stage in set(STAGES) - {"dense CRF"}:
        assert costs[stage].seconds_per_image.median > 0, stage
    assert costs["synthesis"].bytes_per_image == 64 * 64 * 3
    assert costs["maps"].bytes_per_image == 20 * 8 * 8 * 2
    assert costs["masks"].bytes_per_image == 64 * 64
    members = sum(costs[name].bytes_per_image for name in ("jpg", "mask png", "json"))
    # headers, padding to 512 bytes and to the tar's record of 10,240
    assert members < costs["tar"].bytes_per_image <= members + 2 * 10_240
    assert costs["publish"].bytes_per_image == pytest.approx(
        costs["tar"].bytes_per_image + costs["metadata"].bytes_per_image
    )
    assert not costs["heatmaps npz"].counted
    assert [rate.side_px for rate in found.crf] == [32, 48]
    assert store.list() == []
    assert said[0] == "loading mini"
    assert said[-2:] == ["dense CRF at 32, 48 pixels", "steps beside the plain way at 48 pixels"]


def test_the_sum_is_of_what_the_run_has(measured):
    found, _, _ = measured
    counted = sum(c.seconds_per_image.median for c in found.stages if c.stage != "heatmaps npz")
    assert found.images_per_second == pytest.approx(1 / counted)
    assert json.loads(json.dumps(found.to_json()))["seconds_per_image"] == pytest.approx(counted)
    text = io.StringIO()
    Console(file=text, width=80).print(found.table())
    for stage in STAGES:
        assert stage in text.getvalue()
    assert "48x48" in text.getvalue()
    pairs = {(pair.step, pair.beside): pair.ratio for pair in found.pairs}
    assert len(pairs) == 7
    for (step, _), ratio in pairs.items():
        assert 0 < ratio.low <= ratio.median <= ratio.high, step
        assert step.split()[0] in text.getvalue()


def test_switches_of_the_run(tmp_path):
    sections = {"shards": {"heatmaps": True}, "masks": {"crf": {"enabled": False}}}
    found = bench_stages(config(**sections), LocalStore(tmp_path), batch_size=1, rounds=2)
    costs = {cost.stage: cost for cost in found.stages}
    assert costs["heatmaps npz"].counted
    assert not costs["dense CRF"].counted
    assert costs["tar"].bytes_per_image >= costs["heatmaps npz"].bytes_per_image > 0
    assert found.crf == ()
    assert found.pairs[-1].step == "dense CRF at half resolution"


def test_a_place_with_files_is_refused(tmp_path):
    store = LocalStore(tmp_path)
    store.put("train-000001.tar", b"somebody's shard")
    with pytest.raises(ConfigError, match=r"holds train-000001.tar.*another folder"):
        bench_stages(config(), store, batch_size=1, rounds=2)
    assert store.read("train-000001.tar") == b"somebody's shard"
