"""What has made no shard gives way to the corrected command, and nothing else does."""

import signal
from functools import partial

import pytest

from ovamgen.config import build_config
from ovamgen.errors import ConfigError
from ovamgen.generation import generate
from ovamgen.integrity.verify import verify
from ovamgen.run.files import read_plan, read_run_file
from ovamgen.run.local import generate_local
from ovamgen.run.run import open_run, write_plan
from ovamgen.shards.output_files import metadata_name, record_name, shard_name
from ovamgen.status.status import run_status
from ovamgen.storage.store import open_store
from tests.fakes import DiscEngine
from tests.faults.command import Command
from tests.runs import PROMPTS, digests, make, run_config

LOCAL = {"runner": "local"}


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def place(request, tmp_path):
    """Where runs of `config_of` write: a folder, or a bucket of a real S3 server."""
    return (
        str(tmp_path / "out")
        if request.param == "folder"
        else request.getfixturevalue("bucket").url
    )


def config_of(place, folder, count=22, **sections):
    config = run_config(folder, count, runtime=LOCAL, **sections)
    return config.model_copy(update={"out": place})


def begin(config):
    """Leaves a plan and ``run.yaml``, and no shard."""
    with open_run(config) as run:
        run.confirm_model(DiscEngine(config).info, "1" * 64)
    assert read_run_file(open_store(config.out)) is not None


def test_settings_of_which_no_shard_was_made_are_replaced(place, tmp_path, caplog):
    begin(config_of(place, tmp_path, synthesis={"steps": 5}))
    right = config_of(place, tmp_path, synthesis={"steps": 7})
    assert generate(right, DiscEngine).summary.samples == 22
    assert "was begun with another configuration (synthesis.steps: 5 -> 7)" in caplog.text
    assert "no shard was made of it: it is replaced" in caplog.text
    assert verify(place).state == "complete"
    with pytest.raises(ConfigError, match="belongs to another configuration"):
        generate(config_of(place, tmp_path, synthesis={"steps": 5}), DiscEngine)


def test_a_plan_of_which_no_shard_was_made_is_replaced(place, tmp_path, caplog):
    begin(config_of(place, tmp_path))
    right = config_of(place, tmp_path, plan={"limit": 5})
    assert generate(right, DiscEngine).summary.samples == 5
    assert "(limit: None -> 5)" in caplog.text
    assert read_plan(open_store(place)).samples == 5


def test_plan_replaces_a_plan_alone_and_refuses_shards(tmp_path, caplog):
    write_plan(run_config(tmp_path, plan={"limit": 5}))
    config = run_config(tmp_path, plan={"limit": 9})
    write_plan(config)
    assert "(limit: 5 -> 9)" in caplog.text
    make(config, generate_local, DiscEngine)
    before = digests(config.out)
    with pytest.raises(ConfigError, match=r"another configuration \(limit: 9 -> 5\)"):
        write_plan(run_config(tmp_path, plan={"limit": 5}))
    assert digests(config.out) == before


def test_without_captions_there_is_nothing_to_replace_a_plan_with(tmp_path):
    config = run_config(tmp_path, plan={"limit": 5})
    write_plan(config)
    other = build_config(config.model_dump(), {"plan": {"captions": "", "limit": 9}})
    with pytest.raises(ConfigError, match=r"another configuration \(limit: 5 -> 9\)"):
        generate(other, DiscEngine)


def test_one_shard_or_the_manifest_of_an_ended_run_is_enough_to_keep_the_plan(tmp_path):
    config = run_config(tmp_path, 5, runtime=LOCAL)
    make(config, generate_local, DiscEngine)
    store = open_store(config.out)
    store.delete(record_name(0))
    other = run_config(tmp_path, 5, runtime=LOCAL, synthesis={"steps": 3})
    with pytest.raises(ConfigError, match="belongs to another configuration"):
        generate(other, DiscEngine)
    assert store.exists(shard_name("train", 0))


def test_a_run_that_goes_on_is_not_replaced(place, tmp_path):
    config = config_of(place, tmp_path)
    with open_run(config) as run:
        run.confirm_model(DiscEngine(config).info, "1" * 64)
        with pytest.raises(ConfigError, match="another run is writing to"):
            generate(config_of(place, tmp_path, synthesis={"steps": 7}), DiscEngine)
        assert read_run_file(run.store) is not None


def test_other_weights_replace_those_of_which_no_shard_was_made(tmp_path, caplog):
    config = run_config(tmp_path, runtime=LOCAL)
    begin(config)
    with open_run(config) as run:
        run.confirm_model(DiscEngine(config).info, "2" * 64)
        assert "tokens_sha256" in caplog.text
        with pytest.raises(ConfigError, match="begun with another model"):
            run.confirm_model(DiscEngine(config).info, "3" * 64)


@pytest.mark.parametrize(
    "step",
    [
        "run.run_file_removed",
        pytest.param("local.renamed", marks=pytest.mark.slow),
        pytest.param("run.plan_put", marks=pytest.mark.slow),
        pytest.param("run.run_file_put", marks=pytest.mark.slow),
    ],
)
def test_kill_9_while_a_plan_is_replaced(tmp_path, step):
    """With a tar whose writer was killed, which the next plan does not have."""
    begin(run_config(tmp_path, runtime=LOCAL))
    store = open_store(str(tmp_path / "out"))
    store.put(shard_name("train", 2), b"a tar without a record")
    store.put(metadata_name(2), b"its metadata")
    right = run_config(tmp_path, runtime=LOCAL, plan={"limit": 5})
    command = Command(right, tmp_path / "log", faults=f"{step}:kill")
    assert command.end() == -signal.SIGKILL, command.text
    again = Command(right, tmp_path / "again")
    assert again.end() == 0, again.text
    found = verify(right.out)
    assert (found.state, found.findings) == ("complete", ())
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    generate(run_config(fresh, runtime=LOCAL, plan={"limit": 5}), DiscEngine)
    assert digests(right.out) == digests(fresh / "out")


class Hungry(DiscEngine):
    """Memory is enough for the model, and for no batch; or for the first one alone."""

    def __init__(self, config, fed=0):
        super().__init__(config)
        self.fed = fed

    def synthesise(self, specs):
        if not self.fed:
            raise ConfigError("does not fit the memory: make plan.batch_size smaller")
        self.fed -= 1
        return super().synthesise(specs)


def test_what_cannot_make_one_sample_leaves_no_plan(place, tmp_path):
    with pytest.raises(ConfigError, match="does not fit the memory"):
        generate(config_of(place, tmp_path), Hungry)
    with pytest.raises(
        ConfigError, match=r"holds no plan.*the last run there failed: .*batch_size"
    ):
        run_status(place)
    assert [n for n in open_store(place).list() if not n.startswith("logs/")] == []


@pytest.mark.slow
@pytest.mark.cluster
def test_nor_does_it_on_ray(ray_session, tmp_path):
    config = run_config(tmp_path, runtime={"workers": 1})
    with pytest.raises(ConfigError, match="does not fit the memory"):
        generate(config, Hungry)
    assert [n for n in open_store(config.out).list() if not n.startswith("logs/")] == []


def test_what_has_made_samples_keeps_its_plan(tmp_path):
    config = run_config(tmp_path, runtime=LOCAL)
    with pytest.raises(ConfigError, match="does not fit the memory"):
        generate(config, partial(Hungry, fed=1))
    assert read_plan(open_store(config.out)).samples == 22


def test_a_plan_of_the_plan_command_is_not_taken_back(tmp_path):
    config = run_config(tmp_path, texts=PROMPTS, runtime=LOCAL)
    write_plan(config)
    with pytest.raises(ConfigError, match="does not fit the memory"):
        generate(config, Hungry)
    assert read_run_file(open_store(config.out)) is None
    assert read_plan(open_store(config.out)).samples == 7
