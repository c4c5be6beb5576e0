"""`ovamgen doctor`: what it finds, with what mends it, and that nothing is left behind."""

import json
import os
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from ovamgen import mini
from ovamgen.config import build_config
from ovamgen.config.models import DEFAULT_MODEL
from ovamgen.doctor import inputs, machine
from ovamgen.doctor.examine import examine
from ovamgen.doctor.findings import Finding, guarded
from ovamgen.errors import ConfigError
from ovamgen.run.local import generate_local
from ovamgen.run.run import open_run, write_plan
from ovamgen.storage.local import LocalStore
from tests.command_line import ovamgen, ovamgen_alone
from tests.fakes import DiscEngine
from tests.runs import digests, make, run_config


def config(**sections):
    return build_config({"model": {"id": "mini"}, "runtime": {"runner": "local"}}, sections)


def files(folder):
    return sorted(path for path in Path(folder).rglob("*"))


def test_a_sound_machine_is_found_sound_and_left_as_it_was(tmp_path):
    done = ovamgen("doctor", "--model", "mini", "--out", tmp_path / "deep" / "out", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is True
    levels = {check["check"]: check["level"] for check in found["checks"]}
    checks = "versions cores gpu|dense crf|temporary|ray|model|tokens|output|room"
    assert set(levels) == set(checks.replace(" ", "|").replace("dense|crf", "dense crf").split("|"))
    assert "problem" not in levels.values()
    assert all(bool(c["fix"]) == (c["level"] != "ok") for c in found["checks"])
    assert files(tmp_path) == []


def test_problems_have_a_fix_and_exit_code_1(tmp_path):
    with socket.socket() as bound:
        # bound and not listening: nobody else takes the port, and nothing answers there
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        (tmp_path / "file").write_text("")
        done = ovamgen_alone(
            "doctor", "--model", "mini", "--out", tmp_path / "file", "--tokens", tmp_path / "none",
            RAY_ADDRESS=address,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"PROBLEM ray           nothing answers at {address}" in done.stdout
    assert "PROBLEM tokens" in done.stdout
    assert "PROBLEM output" in done.stdout
    assert done.stdout.count("fix: ") >= 3
    assert done.stdout.splitlines()[-1] == "3 problems"


def test_a_wrong_configuration_is_a_usage_error(tmp_path):
    done = ovamgen("doctor", "--set", "plan.sed=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'seed'" in done.stderr


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "http://127.0.0.1:8265"])
def test_addresses_that_runs_cannot_use_are_told_at_once(monkeypatch, address):
    import ray

    if ray.is_initialized():
        pytest.skip("a Ray is connected: it is the one that is told of")
    monkeypatch.setenv("RAY_ADDRESS", address)
    (finding,) = [f for f in examine(config(runtime={"runner": "ray"})) if f.check == "ray"]
    assert finding.level == "problem"
    assert "must be HOST:PORT" in finding.message


@pytest.mark.cluster
def test_a_ray_that_is_connected_is_told_of(ray_session):
    (finding,) = [f for f in examine(config(runtime={"runner": "ray"})) if f.check == "ray"]
    assert (finding.level, finding.message) == ("ok", "the cluster has 1 node, 2 CPUs, 0 GPUs")
    assert ray_session.is_initialized(), "and it stays connected"


def test_a_library_of_another_version_is_named(monkeypatch):
    monkeypatch.setattr(
        machine.metadata, "requires", lambda name: ["numpy<1.0", "nonesuch>=1", 'x; extra == "s3"']
    )
    (finding,) = machine.versions()
    assert finding.level == "problem"
    assert "numpy must be <1.0, " in finding.message
    assert "nonesuch is not installed" in finding.message
    assert "x is" not in finding.message
    assert "constraints.txt" in finding.fix


def test_a_gpu_that_is_not_here_is_no_trouble_where_none_is_asked_for(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert [f.level for f in machine.gpu(config())] == ["ok"]
    (finding,) = machine.gpu(config(model={"device": "cuda"}))
    assert finding.level == "problem"
    assert "--device cpu" in finding.fix


def test_without_options_it_looks_at_what_generate_would_use():
    """On a machine without a GPU: nothing is well with the default model."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here, and the default model would run")
    done = ovamgen("doctor", "--json")
    found = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert found["gpu"]["level"] == "problem"
    assert f"{DEFAULT_MODEL} is to run on cuda" in found["gpu"]["message"]


@pytest.mark.parametrize("runner", ["local", "ray"])
@pytest.mark.parametrize("address", ["", "local"])
def test_a_gpu_is_looked_for_where_the_run_would_be(monkeypatch, runner, address):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cuda = config(model={"device": "cuda"}, runtime={"runner": runner})
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert [f.level for f in machine.gpu(on_cuda)] == ["problem"]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    levels = {"local": "problem", "ray": "ok"}
    assert [f.level for f in machine.gpu(on_cuda)] == [levels[runner]]


@pytest.mark.cluster
@pytest.mark.parametrize(("wait", "level"), [(20.0, "problem"), (600.0, "warning")])
def test_a_cluster_without_a_gpu_is_a_problem_unless_it_grows(
    ray_session, monkeypatch, wait, level
):
    monkeypatch.setenv("RAY_ADDRESS", ray_session.get_runtime_context().gcs_address)
    runtime = {"runner": "ray", "gpu_wait_seconds": wait}
    asked = config(model={"device": "cuda"}, runtime=runtime)
    (finding,) = [f for f in examine(asked) if f.check == "ray"]
    assert finding.level == level
    assert "0 GPUs, and mini is to run on cuda" in finding.message


def test_more_threads_than_cores_are_told():
    (finding,) = machine.cores(config(runtime={"workers": 64, "cpu_threads": 64}))
    assert finding.level == "warning"
    assert "64 workers of 64 threads" in finding.message


def test_a_hub_model_that_is_not_cached_is_a_warning_with_the_command(monkeypatch, tmp_path):
    # the cache's place is read when the library is imported: another process has another one
    done = ovamgen_alone(
        *["doctor", "--model", "stable-diffusion-v1-5/stable-diffusion-v1-5@0123abc"],
        *["--device", "cpu"],
        HF_HOME=str(tmp_path),
        HF_HUB_OFFLINE="0",
    )
    assert done.returncode == 0, done.stdout
    assert "warning model" in done.stdout
    assert "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --revision 0123abc" in (
        done.stdout
    )


def test_a_bank_of_another_width_is_a_problem():
    other = config(model={"id": "random:sd15", "device": "cpu"})
    found = list(
        guarded(
            "tokens",
            "x",
            lambda: inputs.tokens(
                other.model_copy(
                    update={
                        "attribution": other.attribution.model_copy(
                            update={"tokens": str(mini.TOKENS)}
                        )
                    }
                )
            ),
        )
    )
    assert [finding.level for finding in found] == ["problem"]
    assert "128" in found[0].message


def test_a_store_that_overwrites_is_found_out(tmp_path):
    class Careless(LocalStore):
        def create(self, name, data):
            self.put(name, data)
            return True

    assert "replaces it" in inputs._try_out(Careless(tmp_path))
    assert inputs._try_out(LocalStore(tmp_path)) == ""
    assert [p for p in files(tmp_path) if p.is_file()] == []


def test_an_output_in_use_is_looked_at_without_harm(tmp_path):
    run_settings = run_config(tmp_path)
    make(run_settings, generate_local, DiscEngine)
    before = digests(run_settings.out), files(run_settings.out)
    with open_run(run_settings):
        found = list(inputs.output(run_settings))
    assert [finding.level for finding in found] == ["warning", "ok"]
    assert f"process {os.getpid()}" in found[0].message
    assert (digests(run_settings.out), files(run_settings.out)) == before


def test_room_is_measured_against_the_rest_of_the_plan(tmp_path, monkeypatch):
    run_settings = run_config(tmp_path)
    (finding,) = inputs.room(run_settings)
    assert "there is no plan yet" in finding.message
    write_plan(run_settings)
    (finding,) = inputs.room(run_settings)
    assert finding.level == "ok"
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(inputs.shutil, "disk_usage", lambda place: usage(10**9, 10**9, 1000))
    (finding,) = inputs.room(run_settings)
    assert finding.level == "problem"
    assert "make room" in finding.fix
    make(run_settings, generate_local, DiscEngine)
    (finding,) = inputs.room(run_settings)
    assert finding.level == "ok", "nothing more will be written"


@pytest.mark.parametrize("error", [ConfigError("no"), ImportError("lib.so"), OSError("disk")])
def test_a_check_that_breaks_is_a_finding(error):
    def broken():
        yield Finding(check="x", level="ok", message="so far")
        raise error

    first, second = guarded("x", "mend it", broken)
    assert (first.level, second.level, second.fix) == ("ok", "problem", "mend it")
    assert str(error) in second.message
