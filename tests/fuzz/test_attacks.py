"""Hostile files are refused by name, in bounded memory and time, in processes of their own."""

import json
import resource
import shutil
import traceback

import pytest

from ovamgen.errors import OvamgenError
from ovamgen.plan import caption_tables as tables
from ovamgen.plan import source
from tests.faults.command import SERVER
from tests.fuzz.attacks import ATTACKS
from tests.fuzz.readers import READERS, write_world

LIMIT_MIB = 700
"""That a reader may take more than it had; no valid file of these tests needs more than a few."""
LIMIT_SECONDS = 60
CAPTION_BYTES = 64 * 2**20
"""In place of the limit of a caption file: the tests need not fill gigabytes to reach it."""


@pytest.fixture(scope="session")
def attacked_world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    write_world(folder)
    return folder


def read_in_process(name, root, answer):
    """Reads, and leaves in the file ``answer`` what came of it and what memory it took."""
    source.MAX_BYTES = tables.MAX_BYTES = CAPTION_BYTES
    # a page of its own for whatever is unpacked: far beyond that the process ends, not the machine
    virtual = 16 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (virtual, virtual))
    reader = next(reader for reader in READERS if reader.name == name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = declared = ""
    try:
        reader.read(root)
    except OvamgenError as problem:
        declared = str(problem)
    except BaseException:
        error = traceback.format_exc()
    took = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    answer.write_text(json.dumps({"mib": took, "error": error, "declared": declared}))


def read(name, root, answer):
    """What `read_in_process` found; the process's end where it did not get that far."""
    process = SERVER.Process(target=read_in_process, args=(name, root, answer))
    process.start()
    process.join(LIMIT_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        pytest.fail(f"still reading after {LIMIT_SECONDS} s")
    assert process.exitcode == 0, f"the process ended with {process.exitcode}"
    return json.loads(answer.read_text())


CASES = [(name, attack) for name, attacks in ATTACKS.items() for attack in attacks]


def is_quick(case):
    """One attack of each kind for every day; the others are like them."""
    return case in {(name, next(iter(attacks))) for name, attacks in list(ATTACKS.items())[::3]}


@pytest.mark.parametrize(
    ("name", "attack"),
    [pytest.param(*case, marks=[] if is_quick(case) else pytest.mark.slow) for case in CASES],
)
def test_an_attack_is_refused(attacked_world, tmp_path, name, attack):
    reader = next(reader for reader in READERS if reader.name == name)
    root = tmp_path / "world"
    shutil.copytree(attacked_world, root)
    (root / reader.target).write_bytes(ATTACKS[name][attack]())
    found = read(name, root, tmp_path / "answer.json")
    assert not found["error"], found["error"]
    assert len(found["declared"]) < 1000
    assert found["mib"] < LIMIT_MIB
