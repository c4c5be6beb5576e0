"""Whole runs in buckets: the bytes of a local run, through faults, kills and rivals."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from ovamgen import mini
from ovamgen.config import build_config
from ovamgen.corpus.dataset import segmentation_dataset
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.hf import export_hf
from ovamgen.corpus.export.voc import VocFormat
from ovamgen.corpus.reannotate import reannotate
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.errors import ConfigError, PlanError, ShardError
from ovamgen.generation import generate
from ovamgen.integrity.verify import verify
from ovamgen.report.write import write_report
from ovamgen.run.local import generate_local
from ovamgen.run.run import open_run, write_plan
from ovamgen.segmentor.examples import ShardExamples
from ovamgen.segmentor.settings import TrainSettings
from ovamgen.segmentor.training import train
from ovamgen.status.status import run_status
from ovamgen.storage.store import open_store
from tests.fakes import DiscEngine
from tests.runs import PROMPTS, captions_file, digests, make, run_config
from tests.storage.faulty import TWENTY_PERCENT, Faults

pytestmark = pytest.mark.timeout(500)

OTHERS = [pytest.param(store, marks=pytest.mark.slow) for store in ("gs", "az")]
every_store = pytest.mark.parametrize("bucket", ["s3", *OTHERS], indirect=True)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """What the same configuration makes in a folder, undisturbed."""
    folder = tmp_path_factory.mktemp("local")
    make(run_config(folder, shards={"heatmaps": True}), generate_local, DiscEngine)
    return folder / "out"


def bucket_config(tmp_path, url):
    config = run_config(tmp_path, shards={"heatmaps": True})
    return config.model_copy(update={"out": url})


def without_logs(found):
    return {name: digest for name, digest in found.items() if not name.startswith("logs/")}


@pytest.mark.parametrize(
    ("bucket", "faults"),
    [
        pytest.param("s3", Faults(), id="s3-well"),
        pytest.param("gs", Faults(), id="gs-well", marks=pytest.mark.slow),
        pytest.param("az", Faults(), id="az-well", marks=pytest.mark.slow),
        pytest.param("s3", TWENTY_PERCENT, id="s3-faulty"),
        pytest.param("gs", TWENTY_PERCENT, id="gs-faulty"),
        pytest.param("az", TWENTY_PERCENT, id="az-faulty"),
    ],
    indirect=["bucket"],
)
def test_a_run_has_the_bytes_of_a_local_one(local, tmp_path, bucket, short_pauses, faults):
    config = bucket_config(tmp_path, bucket.url)
    with bucket.faulty(faults) as proxy:
        make(config, generate_local, DiscEngine)
        status = run_status(bucket.url)
        again = make(config, generate_local, DiscEngine)
    assert without_logs(bucket.digests()) == digests(local)
    assert (status.state, status.samples_made, status.running) == ("complete", 22, False)
    assert again.made_now == []
    assert faults == Faults() or sum(proxy.met.values()) > 1.1 * proxy.met["requests"]
    everything = b"".join(bucket.get(key) for key in bucket.names())
    assert not [secret for secret in bucket.secrets if secret.encode() in everything]


@every_store
def test_a_bucket_that_is_full_is_told_and_the_same_run_goes_on_later(local, tmp_path, bucket):
    config = bucket_config(tmp_path, bucket.url)
    with (
        bucket.faulty(Faults(full_after_bytes=300_000)),
        pytest.raises(ShardError, match=r"cannot write .*; make room or raise the quota"),
    ):
        make(config, generate_local, DiscEngine)
    assert run_status(bucket.url).state == "partial"
    make(config, generate_local, DiscEngine)
    assert without_logs(bucket.digests()) == digests(local)


@pytest.mark.parametrize(
    "lost", ["manifests/000002.json", pytest.param("manifests/000001.json", marks=pytest.mark.slow)]
)
def test_a_store_that_keeps_nothing_is_found_before_complete_is_said(
    local, tmp_path, bucket, short_pauses, lost
):
    config = bucket_config(tmp_path, bucket.url)
    with (
        bucket.faulty(Faults(forget=lost)) as proxy,
        pytest.raises(ShardError, match=f"took {lost} .*does not have it"),
    ):
        make(config, generate_local, DiscEngine)
    assert proxy.met["forget"]
    assert run_status(bucket.url).state == "partial"
    make(config, generate_local, DiscEngine)
    assert without_logs(bucket.digests()) == digests(local)


@every_store
def test_everything_that_takes_a_corpus_takes_one_in_a_bucket(local, tmp_path, bucket):
    """Each command's function, once, from and to the bucket where it can; equal to local ones."""
    for name, digest in digests(local).items():
        bucket.put(f"corpora/out/{name}", (local / name).read_bytes())
        assert digest
    url, base = bucket.url, f"{bucket.store}://{bucket.name}/corpora"
    settings = SelectionSettings(area_quantiles=None)

    def same(folder, place):
        assert bucket.digests(f"corpora/{place}") == digests(folder)

    assert verify(url).samples == verify(str(local)).samples == 22
    assert write_report(url).samples == write_report(str(local)).samples == 22
    assert bucket.get("corpora/out/report.html") == (local / "report.html").read_bytes()
    assert write_report(str(local), f"{base}/pages/local.html").out == f"{base}/pages/local.html"
    assert bucket.get("corpora/pages/local.html") == (local / "report.html").read_bytes()
    with pytest.raises(ConfigError, match=f"a file such as {base}/pages/report.html"):
        write_report(str(local), f"{base}/pages/")

    assert select(url, f"{base}/view", settings).samples == 22
    assert json.loads(bucket.get("corpora/view/selection.json"))["source"] == url
    assert select(url, f"{base}/copy", settings, copy=True).samples == 22
    select(str(local), str(tmp_path / "copy"), settings, copy=True)
    same(tmp_path / "copy", "copy")
    # a view in a folder of a corpus in a bucket, and the other way round
    assert select(url, str(tmp_path / "view"), settings).samples == 22
    assert len(ShardExamples(str(tmp_path / "view"), url)) == 22
    assert select(str(local), f"{base}/other", settings).samples == 22
    assert len(ShardExamples(f"{base}/other", str(local))) == 22

    reannotate(url, f"{base}/again", overrides={"tau": 0.5})
    reannotate(str(local), str(tmp_path / "again"), overrides={"tau": 0.5})
    same(tmp_path / "again", "again")
    # in processes of their own, which get the store by pickle
    assert reannotate(url, f"{base}/twice", overrides={"tau": 0.5}, workers=2).samples == 22
    same(tmp_path / "again", "twice")

    export_hf(url, f"{base}/hf")
    export_hf(str(local), str(tmp_path / "hf"))
    same(tmp_path / "hf", "hf")
    export_folder(f"{base}/view", str(tmp_path / "voc"), VocFormat())
    export_folder(str(local), str(tmp_path / "voc-local"), VocFormat())
    made = [name for name in digests(tmp_path / "voc") if name.endswith((".jpg", ".png", ".txt"))]
    assert len(made) == 2 * 22 + 3
    for name in made:
        assert (tmp_path / "voc" / name).read_bytes() == (
            tmp_path / "voc-local" / name
        ).read_bytes()
    with pytest.raises(ConfigError, match="writes to a local folder"):
        export_folder(url, f"{base}/voc", VocFormat())

    pairs, others = list(segmentation_dataset(url)), list(segmentation_dataset(str(local)))
    assert len(pairs) == len(others) == 22
    for (image, mask), (other_image, other_mask) in zip(pairs, others, strict=True):
        assert image.equal(other_image)
        assert mask.equal(other_mask)
    assert len(list(segmentation_dataset(f"{url}/train-{{000000..000002}}.tar"))) == 22


@pytest.mark.slow
@every_store
def test_training_reads_from_a_bucket(local, tmp_path, bucket):
    for name in digests(local):
        bucket.put(f"corpora/out/{name}", (local / name).read_bytes())
    settings = TrainSettings(shards=bucket.url, steps=2, batch_size=2, crop_px=32)
    assert train(settings, tmp_path / "train").steps == 2


@every_store
def test_plan_captions_and_tokens_come_from_a_bucket(tmp_path, bucket, short_pauses):
    captions = captions_file(tmp_path / "captions.csv", PROMPTS)
    bucket.put("in/captions.csv", captions.read_bytes())
    bucket.put("in/bank.safetensors", mini.TOKENS.read_bytes())
    place = f"{bucket.store}://{bucket.name}/in"
    base = {
        "plan": {"captions": f"{place}/captions.csv", "shard_size": 4},
        "model": {"id": "mini"},
        "attribution": {"tokens": f"{place}/bank.safetensors"},
        "out": bucket.url,
    }
    config = build_config(base, {})
    with bucket.faulty(TWENTY_PERCENT):
        plan = write_plan(config)
    assert sum(len(task.specs) for task in plan.tasks) == len(PROMPTS)
    assert run_status(bucket.url).state == "planned"
    with open_run(config) as run:
        assert set(run.inputs) == {"captions", "tokens"}
    assert bucket.names("corpora/") == ["corpora/out/plan.parquet"]
    for change, error in (
        ({"plan": {"captions": f"{place}/nothing.csv"}}, ConfigError),
        ({"attribution": {"tokens": f"{place}/nothing.safetensors"}}, ConfigError),
    ):
        with pytest.raises(error, match="nothing"), open_run(build_config(base, change)):
            pass


@pytest.mark.parametrize("place", ["captions", "tokens", "out"])
def test_credentials_are_refused_wherever_a_url_is_given(tmp_path, place):
    url = "s3://AKIAIOSFODNN7:very/secret@bucket/x"
    changes = {
        "captions": {"plan": {"captions": url}},
        "tokens": {"attribution": {"tokens": url}},
        "out": {"out": url},
    }
    config = run_config(tmp_path, **changes[place])
    with pytest.raises((ConfigError, PlanError), match="without credentials") as info:
        generate(config)
    assert "very" not in str(info.value)
    assert "AKIAIOSFODNN7" not in str(info.value)
    assert not (tmp_path / "out").exists()


@every_store
def test_a_missing_bucket_or_permission_stops_a_run_before_any_model(tmp_path, bucket):
    start = time.monotonic()
    config = bucket_config(tmp_path, f"{bucket.store}://not-{bucket.name}/out")
    with pytest.raises(ConfigError, match="there is no such bucket"):
        generate(config)
    with (
        bucket.faulty(Faults(deny=True)),
        pytest.raises(ConfigError, match=r"(Forbidden|Denied).*; check the credentials"),
    ):
        generate(bucket_config(tmp_path, bucket.url))
    assert time.monotonic() - start < 60


# ---- the real command


def command(captions, out, *more):
    options = ["--captions", captions, "--model", "mini", "--steps", 2, "--shard-size", 6]
    options += ["--batch-size", 3, "--out", out, *more]
    return [sys.executable, "-m", "ovamgen", "generate", *map(str, options)]


@pytest.fixture
def captions(tmp_path):
    texts = [PROMPTS[i % len(PROMPTS)] for i in range(24)]
    return captions_file(tmp_path / "captions.csv", texts)


def wait_for_records(out, count, process):
    store, deadline = open_store(out), time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if len(store.list("manifests/")) >= count:
            return
        time.sleep(0.1)
    pytest.fail(f"{count} shards expected before the command ended")


@pytest.mark.slow
@every_store
@pytest.mark.parametrize("step", ["remote.uploaded:kill:3", "remote.record_begun:kill:2"])
def test_kill_9_in_a_publication_and_the_same_command_again(tmp_path, captions, bucket, step):
    folder = tmp_path / "out"
    killed = subprocess.run(
        command(captions, bucket.url, "--runner", "local"),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OVAMGEN_FAULT_POINTS": step},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "corpora/out/.lock" in bucket.names()
    said = [killed.stdout, killed.stderr]
    for place in (bucket.url, folder):
        done = subprocess.run(
            command(captions, place, "--runner", "local"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said += [done.stdout, done.stderr]
    assert without_logs(bucket.digests()) == digests(folder)
    everything = b"".join(bucket.get(key) for key in bucket.names())
    for secret in bucket.secrets:
        assert secret.encode() not in everything
        assert secret not in "".join(said)


@pytest.mark.slow
@pytest.mark.cluster
@every_store
def test_kill_9_and_the_same_command_again_on_ray_under_faults(tmp_path, captions, bucket):
    folder = tmp_path / "out"
    done = subprocess.run(
        command(captions, folder, "--runner", "local"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = []
    with bucket.faulty(TWENTY_PERCENT) as proxy:
        process = subprocess.Popen(
            command(captions, bucket.url, "--workers", 1),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        wait_for_records(bucket.url, 1, process)
        process.kill()
        said.append(process.communicate()[0])
        time.sleep(5)  # Ray's processes end by themselves
        started = time.monotonic()
        done = subprocess.run(
            command(captions, bucket.url, "--workers", 1),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "taking over the lock" in done.stderr
        assert time.monotonic() - started < 400
        said += [done.stdout, done.stderr]
        assert sum(proxy.met.values()) > 1.1 * proxy.met["requests"]
    assert without_logs(bucket.digests()) == digests(folder)
    everything = b"".join(bucket.get(key) for key in bucket.names())
    for secret in bucket.secrets:
        assert secret.encode() not in everything
        assert secret not in "".join(said)


@pytest.mark.slow
@every_store
def test_a_second_command_is_refused_while_the_first_runs(tmp_path, captions, bucket):
    # one batch takes so long that the first command lives through the whole second one
    faults = {"OVAMGEN_FAULT_POINTS": "batch.begun:sleep=60:3"}
    first = subprocess.Popen(
        command(captions, bucket.url, "--runner", "local"),
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | faults,
    )
    wait_for_records(bucket.url, 1, first)
    second = subprocess.run(
        command(captions, bucket.url, "--runner", "local"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2, second.stderr
    named = f"another run is writing to {bucket.url} (process {first.pid} on {os.uname().nodename})"
    assert re.search(re.escape(named), second.stderr)
    first.send_signal(signal.SIGTERM)
    assert "Traceback" not in first.communicate(timeout=300)[1]
    assert open_store(bucket.url).holder() is None
