"""The commands about heads, from what is typed to the file, and what is refused in one line."""

import os
import pickle

import pytest
import torch

from ovamgen.attribution.heads.head_file import load_head
from tests.attribution.test_head_files import network
from tests.command_line import ovamgen

SMALL = [
    "--set", "width=16", "--set", "feedforward=16", "--set", "heads=2", "--set", "layers=2",
]  # fmt: skip
WIDTHS = ["--set", "widths=[4,4,4]"]


def train(kind, out, *more):
    widths = WIDTHS if kind == "grounded" else []
    return ovamgen(
        "heads", "train", kind, "--pictures", "mini", "--model", "mini", "--limit", 6,
        "--steps", 4, "--held-out", 0.2, *SMALL, *widths, "--out", out, *more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["grounded", "datasetdm"])
def test_a_training_by_command_and_once_more(kind, tmp_path):
    out = tmp_path / "head.safetensors"
    done = train(kind, out, "--halves")
    assert done.returncode == 0, done.stderr
    assert "4 (4 taken now)" in done.stdout
    assert load_head(out, kind=kind).provenance["steps"] == "4"
    assert "4 (0 taken now)" in train(kind, out, "--halves").stdout
    shown = ovamgen("heads", "show", out).stdout
    assert f"{kind}, " in shown
    assert "  model: mini" in shown
    other = train(kind, out, "--lr", 0.5)
    assert other.returncode == 2
    assert "differs in learning_rate" in other.stderr


@pytest.mark.parametrize("kind", ["grounded", "datasetdm"])
def test_the_authors_checkpoint_becomes_a_head(kind, tmp_path):
    state = network(kind).state_dict()
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "a.pth")
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    done = ovamgen("heads", "import", tmp_path / "a.pth", "--out", whole)
    assert done.returncode == 0, done.stderr
    assert f"{kind}, {len(state)} tensors" in done.stdout
    assert ovamgen("heads", "import", whole, "--out", halves, "--halves").returncode == 0
    found = load_head(halves, kind=kind).network.state_dict()
    for name, value in load_head(whole).network.state_dict().items():
        assert torch.equal(value, state[name])
        assert torch.equal(found[name], value.half().float())
    assert halves.stat().st_size < 0.6 * whole.stat().st_size


def refused(result):
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    return line


def test_unexpected_tensors_are_named_first_three(tmp_path):
    state = network("grounded").state_dict()
    state |= {f"zz{number}.weight": torch.zeros(1) for number in range(5)}
    torch.save(state, tmp_path / "a.pth")
    line = refused(
        ovamgen("heads", "import", tmp_path / "a.pth", "--out", tmp_path / "h.safetensors")
    )
    assert "5 tensors that no grounded head has, first zz0.weight, zz1.weight, zz2.weight" in line
    assert not (tmp_path / "h.safetensors").exists()


class Harmful:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (self.file,)


@pytest.mark.parametrize("whole", [True, False])
def test_a_pickle_with_code_is_refused_and_nothing_is_run(whole, tmp_path):
    trap = tmp_path / "trap"
    state = {"to_q.weight": torch.zeros(1), "x": Harmful(str(trap))}
    if whole:
        torch.save(state, tmp_path / "a.pth")
    else:
        (tmp_path / "a.pth").write_bytes(pickle.dumps(state))
    out = tmp_path / "h.safetensors"
    line = refused(ovamgen("heads", "import", tmp_path / "a.pth", "--out", out))
    assert "nothing in it was executed" in line
    assert not trap.exists()
    assert not out.exists()


def test_wrong_requests_are_told_in_one_line(tmp_path):
    out = tmp_path / "h.safetensors"
    assert "does not exist" in refused(
        ovamgen("heads", "import", tmp_path / "no.pth", "--out", out)
    )
    assert "--out must end in .safetensors" in refused(train("grounded", tmp_path / "h.pth"))
    none = ovamgen("heads", "train", "grounded", "--pictures", tmp_path / "no", "--out", out)
    assert "--pictures" in refused(none)
    assert "unknown preset" in refused(train("grounded", out, "--preset", "nothing"))
    assert "did you mean 'width'" in refused(train("grounded", out, "--set", "widht=4"))
    other = train("grounded", out, "--preset", "datasetdm-mini")
    assert "datasetdm" in refused(other)
