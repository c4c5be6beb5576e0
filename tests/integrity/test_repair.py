"""What repair restores from where, what it refuses, and that it leaves alone what is whole."""

import shutil

import pytest

from ovamgen.errors import ConfigError
from ovamgen.integrity.repair import repair
from ovamgen.integrity.verify import verify
from ovamgen.shards.output_files import record_name
from ovamgen.storage.store import LocalStore
from tests.fakes import DiscEngine
from tests.integrity.conftest import DEAD, TEXTS
from tests.integrity.corruption import files_of
from tests.runs import run_config

LOCAL = {"runtime": {"runner": "local"}}


def _repair(out, *overrides, factory=DiscEngine, **options):
    return repair(str(out), overrides=(LOCAL, *overrides), factory=factory, **options)


def _no_engine(config):
    raise AssertionError("nothing needs to be drawn")


def _times(out):
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}


def test_much_damage_at_once_is_mended_and_then_there_is_nothing_to_do(out, pristine):
    before = _times(out)
    (out / "train-000001.tar").write_bytes(b"")
    (out / record_name(2)).unlink()
    (out / "README.md").write_text("mine")
    (out / "plan.parquet").unlink()
    done = _repair(out)
    assert files_of(out) == files_of(pristine)
    assert done.shards_made == (1,)
    assert set(done.files_restored) == {"plan.parquet", record_name(2)}
    now = _times(out)
    assert {name for name in now if now[name] != before[name]} == {"train-000001.tar"}
    again = _repair(out, factory=_no_engine)
    assert again.lines() == [f"{out}: nothing to repair"]
    assert again.left.ok


def test_an_unfinished_run_is_finished(out, pristine):
    for name in ("manifest.json", "index.json", "README.md", "contact_sheet.png"):
        (out / name).unlink()
    for name in (record_name(1), "train-000001.tar", "train-000002.tar"):
        (out / name).unlink()
    done = _repair(out)
    assert done.shards_made == (1, 2)
    assert done.other_bytes == ()
    assert files_of(out) == files_of(pristine)


def test_records_and_papers_come_back_without_drawing(out, pristine):
    for name in (record_name(0), "run.yaml", "index.json", "contact_sheet.png"):
        (out / name).write_bytes(b"\0")
    _repair(out, factory=_no_engine)
    assert files_of(out) == files_of(pristine)


@pytest.mark.parametrize("other", ["plan.parquet", "train-000001.tar"])
def test_papers_under_each_others_names_are_put_back(out, pristine, other):
    files = files_of(out)
    (out / "run.yaml").write_bytes(files[other])
    (out / other).write_bytes(files["run.yaml"])
    _repair(out)
    assert files_of(out) == files_of(pristine)


def test_a_manifest_and_a_run_file_that_are_both_gone_are_not_guessed(out):
    files = files_of(out)
    (out / "run.yaml").write_bytes(files["manifest.json"])
    (out / "manifest.json").write_bytes(files["run.yaml"])
    with pytest.raises(ConfigError, match="give the settings of the run again"):
        repair(str(out), factory=DiscEngine)


def test_the_plan_is_made_again_from_captions_or_asked_for(out, pristine, tmp_path):
    (out / "plan.parquet").write_bytes(b"PAR1")
    captions = run_config(tmp_path, texts=TEXTS).plan.captions
    moved = str(shutil.copy(captions, tmp_path / "moved.csv"))
    gone = {"plan": {"captions": str(tmp_path / "gone.csv")}}
    with pytest.raises(ConfigError, match=r"--set plan.captions=FILE; .*gone.csv"):
        _repair(out, gone)
    (tmp_path / "others.csv").write_text("id,caption\n1,a cat\n")
    with pytest.raises(ConfigError, match="those that are there now are others"):
        _repair(out, {"plan": {"captions": str(tmp_path / "others.csv")}})
    _repair(out, {"plan": {"captions": moved}}, factory=_no_engine)
    assert files_of(out) == files_of(pristine)


def test_settings_that_nothing_holds_any_more_are_asked_for(out, pristine, tmp_path):
    (out / "run.yaml").write_bytes(b"{}")
    (out / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"give the settings of the run again"):
        repair(str(out), factory=DiscEngine)
    given = run_config(tmp_path, texts=TEXTS, shards={"heatmaps": True}, runtime=LOCAL["runtime"])
    wrong = given.model_dump(mode="json") | {"shards": {"heatmaps": False}}
    with pytest.raises(ConfigError, match="not those that the shards"):
        _repair(out, wrong)
    assert (out / "run.yaml").read_bytes() == b"{}"
    done = _repair(out, given.model_dump(mode="json"))
    assert done.shards_made == (2,)
    assert files_of(out) == files_of(pristine)


def test_captions_that_have_moved_do_not_matter_where_the_plan_is_there(out, pristine):
    gone = {"plan": {"captions": "/nowhere/captions.csv"}}
    (out / "train-000000.tar").unlink()
    _repair(out, gone)
    assert files_of(out) == files_of(pristine)


def test_what_nobody_knows_is_removed_only_after_it_was_agreed_to(out, pristine):
    (out / "notes.txt").write_text("mine")
    (out / DEAD).mkdir(parents=True)
    left = _repair(out).left
    assert {finding.file for finding in left.findings} == {"notes.txt", DEAD}
    asked = []
    left = _repair(out, gc=True, agree=lambda findings: asked.extend(findings)).left
    assert [finding.file for finding in asked] == ["notes.txt", DEAD]
    assert (out / "notes.txt").exists()
    done = _repair(out, gc=True)
    assert done.removed == ("notes.txt", DEAD)
    assert done.left.ok
    assert files_of(out) == files_of(pristine)
    assert not (out / ".scratch").exists()


def test_a_shard_that_comes_out_otherwise_is_whole_and_said_so(out):
    class Newer(DiscEngine):
        def synthesise(self, specs):
            batch = super().synthesise(specs)
            batch.images[:, 0, 0, 1] += 1
            return batch

    (out / "train-000001.tar").unlink()
    done = _repair(out, factory=Newer)
    assert done.other_bytes == (1,)
    assert done.left.ok
    assert "not byte for byte" in "\n".join(done.lines())
    assert verify(str(out)).ok


def test_a_run_that_is_going_on_is_left_alone(out):
    with LocalStore(out).lock(), pytest.raises(ConfigError, match="another run is writing"):
        _repair(out)
