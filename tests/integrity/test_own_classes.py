"""An output of other classes than VOC's: what its record of them lets stand, and damage to it."""

import json
import shutil

import yaml

from ovamgen.classes.loading import default_classes
from ovamgen.corpus.open import open_corpus
from ovamgen.integrity.sample_check import SampleRules, problems_of
from ovamgen.integrity.verify import verify
from tests.own_classes import YARD, yard

__all__ = ["yard"]


def test_targets_are_of_the_set(yard):
    corpus = open_corpus(str(yard))
    samples = [sample for record in corpus.records for sample in corpus.read(record)]
    for classes, expected in ((YARD, set()), (default_classes(), {"the targets [254]"})):
        rules = SampleRules(classes=classes)
        found = {
            p for key, members in samples for p in problems_of(key, members, rules, None, None)
        }
        assert found >= expected
        assert all("targets" in problem and "254" in problem for problem in found)


def test_a_record_that_is_no_set_is_a_finding(yard, tmp_path):
    """In both places: nothing is left to say what the masks are of."""
    out = tmp_path / "out"
    shutil.copytree(yard, out)
    run = yaml.safe_load((out / "run.yaml").read_text())
    run["config"]["classes"]["classes"][1]["id"] = 1
    (out / "run.yaml").write_text(yaml.safe_dump(run, sort_keys=True, allow_unicode=True))
    told = {finding.file: finding.found for finding in verify(str(out)).findings}
    assert "two classes have the id 1" in told["run.yaml"]
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["run"]["config"]["classes"] = {"name": "yard", "classes": []}
    (out / "manifest.json").write_text(json.dumps(manifest))
    told = {finding.file: finding.found for finding in verify(str(out)).findings}
    assert {"run.yaml", "manifest.json"} <= told.keys()
