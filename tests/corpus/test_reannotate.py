"""`ovamgen reannotate`: masks made again from stored heatmaps."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import ClassVar

import numpy as np
import pytest
import yaml

from ovamgen.config import build_config
from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.reannotate import new_config, reannotate
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.errors import ConfigError, OvamgenError, ShardError
from ovamgen.masks.binarise import make_label_map
from ovamgen.run.local import generate_local
from ovamgen.run.run import open_run
from ovamgen.shards.output_files import record_name
from ovamgen.status.status import run_status
from ovamgen.storage.store import LocalStore
from tests.corpus.corpora import plain_samples, write_corpus
from tests.fakes import DiscEngine
from tests.hostile.forging import change_samples
from tests.hostile.world import CORPUS
from tests.runs import digests, make, run_config

TEXTS = ["a cat on a sofa", "two dogs in the snow", "a bus in the street", "a horse and a cow"]
STORED = {"heatmaps": True}


class Kept(DiscEngine):
    """Remembers what it drew, before anything was rounded."""

    batches: ClassVar[list] = []

    def synthesise(self, specs):
        batch = super().synthesise(specs)
        self.batches.append(batch)
        return batch


def make_run(folder, count=12, **sections):
    config = run_config(folder, count=count, texts=TEXTS * (count // 4), shards=STORED, **sections)
    make(config, generate_local, Kept)
    return str(folder / "out")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Shards of 8 and 4 samples of 64 x 64 pixels, one or two discs each."""
    Kept.batches.clear()
    return make_run(tmp_path_factory.mktemp("corpus"))


def test_the_same_settings_give_the_same_masks_up_to_the_roundings(corpus, tmp_path):
    """Heatmaps are stored in 8 bits, and the dense CRF sees the image as JPEG left it.

    Measured here, 12 masks of 4096 pixels: 0.07 % of the pixels differ, at most 0.85 % of a mask's.
    """
    reannotate(corpus, str(tmp_path / "out"))
    shares = []
    for old, new in zip(read_samples(corpus), read_samples(str(tmp_path / "out")), strict=True):
        assert set(np.unique(old.labels)) > {0}
        shares.append(float((old.labels != new.labels).mean()))
    print(f"\npixels that differ: mean {np.mean(shares):.5f}, largest {max(shares):.5f}")
    assert max(shares) < 0.02
    assert np.mean(shares) < 0.003


def test_without_a_crf_only_the_8_bits_are_left(corpus):
    """Values move by half a step of 1/255: only pixels that near to the threshold may differ."""
    settings = build_config({"masks": {"crf": {"enabled": False}, "tau": 0.6}}).masks
    compared = 0
    for batch in Kept.batches:
        for spec, image, heatmaps in zip(batch.specs, batch.images, batch.heatmaps, strict=True):
            ids = [target.class_id for target in spec.targets]
            exact = heatmaps[[i - 1 for i in ids]]
            rounded = (np.rint(exact.astype(np.float32) * 255) / np.float32(255)).astype(np.float32)
            labels = make_label_map(exact, ids, image, settings).labels
            remade = make_label_map(rounded, ids, image, settings).labels
            low, high = (
                make_label_map(exact, ids, image, settings.model_copy(update={"tau": tau})).labels
                for tau in (0.6 - 1 / 255, 0.6 + 1 / 255)
            )
            surely = (low > 0) == (high > 0)
            assert surely.mean() > 0.95
            np.testing.assert_array_equal((labels > 0)[surely], (remade > 0)[surely])
            if len(ids) == 1:
                np.testing.assert_array_equal(labels[surely], remade[surely])
            compared += 1
    assert compared == 12


def test_what_is_kept_and_what_is_new(corpus, tmp_path):
    out = str(tmp_path / "out")
    done = reannotate(corpus, out, overrides={"tau": 0.5})
    assert (done.samples, done.shards, done.shards_made_now, done.failed_now) == (12, 2, 2, 0)
    old, new = open_corpus(corpus), open_corpus(out)
    source = old.fingerprint
    changed = 0
    for before, after in zip(old.records, new.records, strict=True):
        assert before.name == after.name
        for (key, was), (same, now) in zip(old.read(before), new.read(after), strict=True):
            assert key == same
            assert list(was) == list(now)
            for member in ("jpg", "txt", "heatmaps.npz"):
                assert was[member] == now[member]
            changed += was["mask.png"] != now["mask.png"]
            a, b = json.loads(was["json"]), json.loads(now["json"])
            differing = {name for name in a if a[name] != b[name]}
            assert {"fingerprint", "mask_preset", "tau"} <= differing
            assert differing <= {
                *("fingerprint", "mask_preset", "tau", "scores", "areas", "mask_sha256"),
                "ovamgen_version",
            }
            assert b["mask_preset"] == f"paper (reannotated from {source})"
            assert b["tau"] == 0.5
            assert b["fingerprint"] == done.fingerprint == new.fingerprint != source
    assert changed > 0
    for sample in read_samples(out):
        found = [float((sample.labels == i).mean()) for i in sample.metadata["class_ids"]]
        assert sample.metadata["areas"] == pytest.approx(found, abs=1e-6)
    run = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert run["config"]["masks"]["tau"] == 0.5
    assert run["derived"]["from_fingerprint"] == source
    assert run["derived"]["from_masks"]["tau"] == 0.55
    assert "derived from fingerprint" in (tmp_path / "out" / "README.md").read_text()
    assert run_status(out).state == "complete"


def test_ignore_band(corpus, tmp_path):
    reannotate(
        corpus,
        str(tmp_path / "out"),
        overrides={"ignore_low": 0.3, "ignore_high": 0.7, "crf": {"enabled": False}},
    )
    shares = [float((s.labels == 255).mean()) for s in read_samples(str(tmp_path / "out"))]
    assert all(share > 0 for share in shares)


def test_processes_and_resuming_give_the_same_bytes(corpus, tmp_path):
    reannotate(corpus, str(tmp_path / "one"), overrides={"tau": 0.6})
    done = reannotate(corpus, str(tmp_path / "two"), overrides={"tau": 0.6}, workers=2)
    assert done.shards_made_now == 2
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    # as if killed with one shard published and the other's tar, but not its record
    for name in (record_name(1), "manifest.json"):
        LocalStore(tmp_path / "two").delete(name)
    done = reannotate(corpus, str(tmp_path / "two"), overrides={"tau": 0.6})
    assert done.shards_made_now == 1
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert reannotate(corpus, str(tmp_path / "two"), overrides={"tau": 0.6}).shards_made_now == 0


@pytest.mark.slow
def test_sigterm_stops_the_processes_and_the_command_goes_on(tmp_path):
    source = make_run(tmp_path / "run", count=160)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "ovamgen", "reannotate", source, "--out", str(out)]
    process = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, text=True)
    while not list(out.glob("manifests/*.json")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 143, messages
    assert not (out / "manifest.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    reannotate(source, str(tmp_path / "whole"))
    assert digests(out) == digests(tmp_path / "whole")


def test_a_killed_worker_is_said(corpus, tmp_path):
    """A process that is gone for good ends the command with a reason, not with a hang."""

    def strike():
        # CPython's pool has a race of its own where one dies while the next is being started
        while len(children := multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(children[0].pid, signal.SIGKILL)

    thread = threading.Thread(target=strike)
    thread.start()
    with pytest.raises(ShardError, match="was killed, perhaps for want of memory"):
        reannotate(corpus, str(tmp_path / "out"), workers=2)
    thread.join()


def test_another_preset(corpus):
    before = open_corpus(corpus)
    config = new_config(before, "ovam-cvpr24", {})
    assert (config.masks.tau, config.masks.interpolation) == (0.75, "bicubic")
    assert new_config(before, "ovam-cvpr24", {"tau": 0.4}).masks.tau == 0.4
    assert new_config(before, None, {}).masks == build_config(before.run_info["config"]).masks
    with pytest.raises(ConfigError, match=r"unknown preset 'papper'.*'paper'"):
        new_config(before, "papper", {})
    with pytest.raises(ConfigError, match=r"unknown configuration key 'masks\.tua'"):
        new_config(before, None, {"tua": 0.4})


def test_a_preset_file_changes_masks_alone(corpus, tmp_path):
    before = open_corpus(corpus)
    was = build_config(before.run_info["config"])
    file = tmp_path / "mine.yaml"
    file.write_text(
        "synthesis: {append_class_words: true, steps: 7}\nmasks: {word_tau: 0.3, token_tau: 0.7}\n"
    )
    config = new_config(before, str(file), {})
    assert config.masks.preset == "mine (file)"
    assert config.masks.tau in (0.3, 0.7)
    assert (config.synthesis, config.attribution) == (was.synthesis, was.attribution)


def test_what_stored_heatmaps_cannot_give_is_refused(corpus):
    before = open_corpus(corpus)
    with pytest.raises(ConfigError, match="self_attention received cannot be had"):
        new_config(before, None, {"self_attention": "received"})
    with pytest.raises(ConfigError, match="self_attention iterated cannot be had"):
        new_config(before, None, {"self_attention": "iterated"})
    with pytest.raises(ConfigError, match="is for heatmaps of attn2mask"):
        new_config(before, "attn2mask-supplementary", {})
    with pytest.raises(ConfigError, match=r"heatmaps of attribution\.resolutions \[16\]"):
        new_config(before, "ovam-words", {})


def test_generate_does_not_take_the_new_corpus_for_its_own(tmp_path):
    config = run_config(tmp_path, count=4, texts=TEXTS, shards=STORED)
    make(config, generate_local, DiscEngine)
    reannotate(config.out, str(tmp_path / "new"))
    same = config.model_copy(update={"out": str(tmp_path / "new")})
    with (
        pytest.raises(ConfigError, match=r"belongs to another configuration.*reannotated"),
        open_run(same),
    ):
        pass


def test_a_view_is_reannotated_in_part(corpus, tmp_path):
    view = str(tmp_path / "view")
    settings = SelectionSettings(area_quantiles=None, drop_uniform=False, max_per_class=2)
    kept = select(corpus, view, settings).samples
    reannotate(view, str(tmp_path / "part"), overrides={"tau": 0.5}, source=corpus)
    reannotate(corpus, str(tmp_path / "all"), overrides={"tau": 0.5})
    whole = {s.key: s for s in read_samples(str(tmp_path / "all"))}
    part = list(read_samples(str(tmp_path / "part")))
    assert [s.key for s in part] == (tmp_path / "view" / "keys.txt").read_text().split()
    assert 0 < len(part) == kept < 12
    for sample in part:
        np.testing.assert_array_equal(sample.labels, whole[sample.key].labels)


def test_corpora_without_heatmaps_are_told_how_to_get_them(tmp_path):
    config = run_config(tmp_path, count=4, texts=TEXTS)
    make(config, generate_local, DiscEngine)
    with pytest.raises(ConfigError, match=r"stored no heatmaps.*shards\.heatmaps=true"):
        reannotate(config.out, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    store, _ = write_corpus(tmp_path / "bare", (4,), plain_samples)
    with pytest.raises(ConfigError, match=r"with its run\.yaml"):
        reannotate(store.url, str(tmp_path / "new"))


def test_outputs_that_hold_something_else_are_refused(corpus, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=r"holds notes\.txt"):
        reannotate(corpus, str(tmp_path / "full"))
    with pytest.raises(ConfigError, match="another corpus or to other mask settings"):
        reannotate(corpus, corpus)
    reannotate(corpus, str(tmp_path / "new"))
    with pytest.raises(ConfigError, match=r"masks\.tau: 0\.55 -> 0\.5"):
        reannotate(corpus, str(tmp_path / "new"), overrides={"tau": 0.5})


OF_TARGETS = ("class_ids", "class_names", "phrases", "scores", "areas", "heatmap_max")


@pytest.mark.parametrize("healthy", [0, 1])
def test_where_the_first_samples_all_fail_no_shard_of_failures_is_written(
    corpus, tmp_path, healthy
):
    def say_twice(row):
        if int(row["key"]) >= healthy:
            row.update({name: [*row[name]] * 2 for name in OF_TARGETS})

    shutil.copytree(corpus, tmp_path / CORPUS)
    change_samples(say_twice)(tmp_path)
    out = tmp_path / "new"
    if healthy:
        done = reannotate(str(tmp_path / CORPUS), str(out))
        assert (done.shards_made_now, done.samples, done.failed_now) == (2, 5, 7)
        return
    for _ in range(2):
        with pytest.raises(OvamgenError, match=r"first 8 samples all failed.* in masks: .*differ"):
            reannotate(str(tmp_path / CORPUS), str(out))
        assert sorted(digests(out)) == ["run.yaml"]
