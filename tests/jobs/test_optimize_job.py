"""Token optimisation on Ray: the bytes of one process, and failures that stay alone."""

import shutil
import sys

import numpy as np
import pytest

from jobs import optimize_tokens
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.pictures.sample_folder import SampleFolder
from ovamgen.tokens.optimise import OptimiseRequest, optimise_tokens
from tests.tokens.conftest import draw_folder, sample

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("ray_session"),
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    drawn = [sample("cat", 1), sample("dog", 2), sample("train", 3)]
    return draw_folder(tmp_path_factory.mktemp("job") / "samples", drawn)


def run_job(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["optimize_tokens.py", *map(str, arguments)])
    return optimize_tokens.main()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_job_makes_the_bank_that_one_process_makes(
    samples, tmp_path, monkeypatch, capfd, workers
):
    alone, job = tmp_path / "alone.safetensors", tmp_path / "job.safetensors"
    optimise_tokens(OptimiseRequest(samples=str(samples.root), out=str(alone), steps=3))
    code = run_job(
        monkeypatch, "--samples", samples.root, "--out", job, "--steps", 3, "--workers", workers
    )
    assert code == 0
    assert job.read_bytes() == alone.read_bytes()
    said = capfd.readouterr()
    assert f"3 tasks on {workers} worker" in said.err
    assert "3/3" in said.err
    assert str(job) in said.out


@pytest.mark.slow
def test_a_class_that_fails_is_reported_and_the_others_are_kept(
    samples, tmp_path, monkeypatch, capfd
):
    folder = SampleFolder.open(shutil.copytree(samples.root, tmp_path / "samples"))
    dog = next(entry for entry in folder.samples if entry.class_name == "dog")
    folder.add_image(dog, np.zeros_like(folder.image(dog)))
    out = tmp_path / "bank.safetensors"
    arguments = ("--samples", folder.root, "--out", out, "--steps", 2)
    assert run_job(monkeypatch, *arguments) == 3
    said = capfd.readouterr()
    assert "dog            FAILED: sample dog-2 drawn again" in said.out
    assert "1 of 3 classes failed" in said.err
    kept = sorted(path.name for path in (tmp_path / "bank.safetensors.partial").iterdir())
    assert kept == ["cat.safetensors", "train.safetensors"]
    assert not out.exists()
    folder.add_image(dog, samples.image(dog))
    assert run_job(monkeypatch, *arguments) == 0
    assert "2 of 3 classes are kept" in capfd.readouterr().err
    assert TokenBank.load(out).class_names == ("cat", "dog", "train")


@pytest.mark.slow
def test_bad_input_ends_the_job_with_its_code(samples, tmp_path, monkeypatch, capfd):
    out = tmp_path / "bank.safetensors"
    few = ("--samples", samples.root, "--out", out, "--max-memory", 1e-6)
    assert run_job(monkeypatch, *few) == 2
    assert "the queries of a class take" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
