"""What select, reannotate and export wrote is verified as far as its records go."""

import json

import pytest

from ovamgen.corpus.export.hf import export_hf
from ovamgen.corpus.reannotate import reannotate
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.errors import ConfigError
from ovamgen.integrity.repair import repair
from ovamgen.integrity.verify import verify
from ovamgen.status.status import run_status

SETTINGS = SelectionSettings(area_quantiles=(0.2, 0.8))


def _view(source, out):
    select(source, out, SETTINGS)


def _copy(source, out):
    select(source, out, SETTINGS, copy=True)


def _masks(source, out):
    reannotate(source, out, overrides={"tau": 0.6})


def _masks_of_a_view(source, out):
    select(source, f"{out}-view", SETTINGS)
    reannotate(f"{out}-view", out, overrides={"tau": 0.6}, source=source)


def _export(source, out):
    export_hf(source, out, link=False)


def _export_of_a_view(source, out):
    select(source, f"{out}-view", SETTINGS)
    export_hf(f"{out}-view", out, link=False, source=source)


def _export_of_a_copy(source, out):
    _copy(source, f"{out}-copy")
    export_hf(f"{out}-copy", out, link=False)


MAKERS = [
    (_view, "view", "selection.parquet"),
    (_copy, "selection", "train-000001.tar"),
    (_masks, "reannotation", "metadata/000000.parquet"),
    (_masks_of_a_view, "reannotation", "run.yaml"),
    (_export, "export", "index.json"),
    (_export_of_a_view, "export", "train-000000.tar"),
    (_export_of_a_copy, "export", "manifest.json"),
]


@pytest.mark.parametrize(("make", "layout", "damaged"), MAKERS)
def test_it_is_whole_and_damage_to_it_shows(pristine, tmp_path, make, layout, damaged):
    out = tmp_path / "made"
    make(str(pristine), str(out))
    source = str(pristine) if layout == "view" else None
    found = verify(str(out), source=source)
    assert (found.layout, found.state, found.findings) == (layout, "complete", ())
    assert 0 < found.samples <= 21
    data = bytearray((out / damaged).read_bytes())
    data[len(data) // 2] ^= 4
    (out / damaged).write_bytes(data)
    (out / "notes.txt").touch()
    found = verify(str(out), source=source)
    files = {finding.file: finding.kind for finding in found.findings}
    assert files.pop("notes.txt") == "orphan"
    assert damaged in files or layout == "view"
    assert files
    assert "again that wrote it" in found.mend
    with pytest.raises(ConfigError, match="repair makes the shards of runs"):
        repair(str(out))


def test_what_was_handed_on_whole_needs_no_repair_and_can_be_tidied(pristine, tmp_path):
    out = tmp_path / "made"
    _copy(str(pristine), str(out))
    assert repair(str(out)).lines() == [f"{out}: nothing to repair"]
    (out / "notes.txt").touch()
    done = repair(str(out), gc=True)
    assert (done.removed, done.left.ok) == (("notes.txt",), True)


def test_masks_of_a_view_have_no_plan_and_get_none(pristine, tmp_path):
    out = tmp_path / "made"
    _masks_of_a_view(str(pristine), str(out))
    assert repair(str(out)).lines() == [f"{out}: nothing to repair"]
    assert not (out / "plan.parquet").exists()


@pytest.mark.parametrize(("make", "what"), [(_copy, "a selection"), (_export, "an export")])
def test_status_says_what_was_handed_on(pristine, tmp_path, make, what):
    out = tmp_path / "made"
    make(str(pristine), str(out))
    status = run_status(str(out))
    assert (status.handed_on, status.state) == (what, "complete")
    assert status.samples_made == verify(str(out)).samples
    assert status.lines()[0] == f"{out}: {what}, complete"


def test_a_copy_that_was_interrupted_is_unfinished(pristine, tmp_path):
    out = tmp_path / "made"
    _copy(str(pristine), str(out))
    request = json.loads((out / "selection.json").read_text())["request"]
    (out / "INCOMPLETE.json").write_text(json.dumps(request))
    for name in ("selection.json", "manifest.json", "index.json", "README.md"):
        (out / name).unlink()
    (out / "manifests" / "000002.json").unlink()
    found = verify(str(out))
    assert (found.layout, found.state) == ("selection", "unfinished")


def test_a_manifest_may_say_little_of_its_run(run):
    """As one does that another tool wrote: the shards are what is verified."""
    assert [finding.file for finding in verify(run.url).findings] == ["contact_sheet.png"]
