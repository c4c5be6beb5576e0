"""Verify, repair and replay where the corpus is in a bucket, through faults as well."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from ovamgen.errors import VerificationError
from ovamgen.integrity.repair import repair
from ovamgen.integrity.replay import replay
from ovamgen.integrity.verify import verify
from tests.fakes import DiscEngine
from tests.integrity.corruption import files_of
from tests.storage.faulty import NOTHING, TWENTY_PERCENT
from tests.storage.fixtures import KEY_ID, SECRET

LOCAL = ({"runtime": {"runner": "local"}},)
START = "corpora/out/"


@pytest.fixture
def uploaded(bucket, pristine):
    """The corpus that nothing disturbed, copied to the bucket; digests of its files."""
    for name, data in files_of(pristine).items():
        bucket.put(START + name, data)
    return objects(bucket)


def objects(bucket):
    """sha256 of every object that is part of the corpus."""
    found = bucket.digests()
    return {name: digest for name, digest in found.items() if not name.startswith("logs/")}


def damage(bucket):
    """One of each kind, to files that are found in different ways."""
    tar = bytearray(bucket.get(START + "train-000001.tar"))
    tar[5000] ^= 1
    bucket.put(START + "train-000001.tar", bytes(tar))
    bucket.put(START + "index.json", bucket.get(START + "index.json")[:-7])
    bucket.put(START + "a/notes.txt", b"mine")
    for name in ("manifests/000000.json", "metadata/000002.parquet", "plan.parquet"):
        bucket.client.delete_object(Bucket=bucket.name, Key=START + name)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(NOTHING, id="well"),
        pytest.param(TWENTY_PERCENT, id="faulty", marks=pytest.mark.slow),
    ],
)
def test_damage_is_found_and_the_original_bytes_come_back(bucket, uploaded, short_pauses, faults):
    with bucket.faulty(faults):
        assert verify(bucket.url).ok
        assert objects(bucket) == uploaded
        damage(bucket)
        found = verify(bucket.url)
        assert {(finding.file, finding.kind) for finding in found.findings} == {
            ("train-000001.tar", "damaged"),
            ("index.json", "damaged"),
            ("a/notes.txt", "orphan"),
            ("manifests/000000.json", "missing"),
            ("metadata/000002.parquet", "missing"),
            ("plan.parquet", "missing"),
        }
        with pytest.raises(VerificationError, match=f"run: ovamgen repair {bucket.url} --gc"):
            found.check()
        done = repair(bucket.url, gc=True, overrides=LOCAL, factory=DiscEngine)
    assert done.shards_made == (1, 2)
    assert set(done.files_restored) == {"plan.parquet", "manifests/000000.json"}
    assert (done.other_bytes, done.removed, done.left.ok) == ((), ("a/notes.txt",), True)
    assert objects(bucket) == uploaded
    assert bucket.names(START + ".") == []


def test_a_sample_is_made_again_from_a_bucket(bucket, uploaded, tmp_path):
    done = replay(bucket.url, "00000100002", out=str(tmp_path / "both"), factory=DiscEngine)
    values = asdict(done)
    assert (values["image_max_abs_diff"], values["mask_pixels_different"]) == (0, 0)
    assert objects(bucket) == uploaded


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_on_a_bucket(bucket, tmp_path):
    """The real model, and processes that read shards side by side; no secret is said."""
    said = []

    def ovamgen(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "ovamgen", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        said.append(done.stdout + done.stderr)
        return done

    run = ["--model", "mini", "--steps", 2, "--shard-size", 4, "--runner", "local"]
    made = ovamgen("generate", "--captions", "demo", "--limit", 10, *run, "--out", bucket.url)
    assert made.returncode == 0, made.stderr
    whole = objects(bucket)
    assert ovamgen("verify", bucket.url, "--jobs", 2).returncode == 0
    bucket.put(START + "train-000002.tar", b"")
    damaged = ovamgen("verify", bucket.url, "--json")
    assert damaged.returncode == 4
    assert json.loads(damaged.stdout)["damaged_shards"] == [2]
    mended = ovamgen("repair", bucket.url, "--set", "runtime.runner=local", "--json")
    assert mended.returncode == 0, mended.stderr
    assert json.loads(mended.stdout)["shards_made"] == [2]
    assert objects(bucket) == whole
    again = ovamgen("replay", bucket.url, "00000200001", "--json", "--out", tmp_path / "both")
    assert json.loads(again.stdout)["members_equal"] is True, again.stderr
    assert (tmp_path / "both" / "00000200001.stored.mask.png").is_file()
    for secret in (SECRET, KEY_ID):
        assert secret not in "".join(said)
