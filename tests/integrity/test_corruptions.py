"""200 random corruptions of a finished corpus: each is found, and the original bytes come back."""

import random
import shutil

import pytest

from ovamgen.integrity.repair import repair
from ovamgen.integrity.verify import verify
from tests.fakes import DiscEngine
from tests.integrity.corruption import KINDS, corrupt, files_of

LOCAL = ({"runtime": {"runner": "local"}},)


def _corrupt_and_mend(pristine, folder, number):
    """Every corruption is drawn from its own number, so that one that fails can be done again."""
    kind = KINDS[number % len(KINDS)]
    changed = corrupt(folder, kind, random.Random(number))
    found = verify(str(folder))
    assert not found.ok, f"{number}: {kind} of {changed} was not found"
    named = {finding.file for finding in found.findings}
    assert named & set(changed), f"{number}: {kind} of {changed} was found as {named}"
    done = repair(str(folder), gc=True, overrides=LOCAL, factory=DiscEngine)
    assert done.left.ok, f"{number}: {kind} of {changed} left {done.left.lines()}"
    assert done.other_bytes == ()
    assert files_of(folder) == files_of(pristine), f"{number}: {kind} of {changed}"


@pytest.mark.parametrize("number", range(5))
def test_a_corruption_of_each_kind_is_found_and_mended(out, pristine, number):
    _corrupt_and_mend(pristine, out, number)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("part", range(4))
def test_200_corruptions_are_found_and_mended(tmp_path, pristine, part):
    for number in range(part * 50, part * 50 + 50):
        folder = shutil.copytree(pristine, tmp_path / str(number))
        _corrupt_and_mend(pristine, folder, number)
        shutil.rmtree(folder)
