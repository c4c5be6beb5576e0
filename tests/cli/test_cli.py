"""The command line as a person meets it: help, wrong input in one line, exit codes."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from tests.command_line import ovamgen, ovamgen_alone
from tests.runs import PROMPTS, captions_file, digests


@pytest.fixture
def captions(tmp_path):
    return captions_file(tmp_path / "captions.csv", PROMPTS)


COMMANDS = [
    [],
    ["plan"],
    ["generate"],
    ["status"],
    ["verify"],
    ["repair"],
    ["replay"],
    ["report"],
    ["attribute"],
    ["classes"],
    ["classes", "list"],
    ["classes", "show"],
    ["classes", "check"],
    ["prompts"],
    ["tokens"],
    ["tokens", "optimize"],
    ["tokens", "score"],
    ["tokens", "merge"],
    ["tokens", "export"],
    ["tokens", "import"],
    ["tokens", "list"],
    ["samples"],
    ["annotate"],
    ["train"],
    ["evaluate"],
    ["evaluate", "masks"],
    ["evaluate", "compare"],
    ["evaluate", "segmentor"],
    ["evaluate", "table-s1"],
    ["select"],
    ["reannotate"],
    ["export"],
    ["export", "voc"],
    ["export", "hf"],
    ["bench"],
    ["bench", "attention"],
    ["bench", "stages"],
    ["bench", "gpu"],
]


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['ovamgen', '--help']\n"
        "from ovamgen.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'torch', 'ray', 'diffusers', 'pyarrow', 'numpy', 'pydantic', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command, capsys, monkeypatch):
    from ovamgen.cli import main

    monkeypatch.setattr(sys, "argv", ["ovamgen", *command, "--help"])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    text = capsys.readouterr().out
    assert "Usage" in text
    if command and command not in (["tokens"], ["bench"], ["evaluate"], ["export"]):
        assert f"ovamgen {' '.join(command)}" in text.split("Usage")[1]
        assert "Example" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_the_command_without_a_word(number, tmp_path):
    # the first import of the command line never ends: there is no race to lose
    (tmp_path / "typer.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    child = subprocess.Popen(
        [sys.executable, "-m", "ovamgen", "status", "none"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "here\n"
    child.send_signal(number)
    out, errors = child.communicate(timeout=30)
    assert (child.returncode, out, errors) == (128 + number, "", "")


def test_a_subcommand_of_a_command_has_help():
    # in a process of its own: the group's function runs, and typer hands it a context of click's
    # that run-time type checks do not take for its own
    result = ovamgen_alone("annotate", "import", "--help")
    assert result.returncode == 0, result.stderr
    assert "Example" in result.stdout


def refused(result, *words):
    """Exit code 2, one line on stderr that holds the words, nothing on stdout."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture
def out(tmp_path):
    """A folder that must not be there after a refused command."""
    path = tmp_path / "out"
    yield path
    assert not path.exists()


class TestBadInput:
    def test_missing_captions(self, out):
        refused(
            ovamgen("generate", "--captions", "none.json", "--model", "mini", "--out", out),
            "none.json",
        )

    def test_json_that_is_not_coco(self, tmp_path, out):
        path = tmp_path / "x.json"
        path.write_text('{"foo": 1}')
        refused(ovamgen("plan", "--captions", path, "--out", out), "x.json", "foo")

    def test_unknown_class(self, captions, out):
        result = ovamgen(
            "plan", "--captions", captions, "--out", out, "--set", "plan.classes=[catt]"
        )
        refused(result, "catt", "cat")

    def test_a_single_class_is_a_list_of_one(self, captions, out):
        base = ["plan", "--captions", captions, "--out", out, "--set"]
        refused(ovamgen(*base, "plan.classes=zebra"), "unknown class 'zebra'")
        refused(ovamgen(*base, "plan.classes=cat, hors"), "'hors'", "did you mean 'horse'")

    @pytest.mark.parametrize(
        ("command", "option", "value"),
        [
            ("plan", "--limit", 0),
            ("plan", "--per-class", 0),
            ("plan", "--shard-size", -1),
            ("generate", "--steps", 0),
            ("generate", "--height", 100),
            ("generate", "--guidance", -1),
            ("generate", "--device", "tpu"),
            ("generate", "--model", "mini@main"),
        ],
    )
    def test_a_wrong_option_is_answered_by_its_own_name(
        self, captions, out, command, option, value
    ):
        base = [command, "--captions", captions, "--out", out]
        base += ["--set", "model.revision=x"] if option == "--model" else []
        refused(ovamgen(*base, option, value), option)

    def test_a_wrong_key_is_answered_by_its_own_name(self, captions, out):
        base = ["plan", "--captions", captions, "--out", out, "--limit", 3]
        refused(ovamgen(*base, "--set", "plan.limit=0"), "ovamgen: plan.limit: ")

    def test_unknown_key(self, captions, out):
        result = ovamgen("plan", "--captions", captions, "--out", out, "--set", "plan.shardsize=3")
        refused(result, "plan.shardsize", "shard_size")

    def test_bank_of_another_width(self, captions, out, tmp_path):
        from ovamgen.attribution.token_bank import TokenBank
        from tests.voc import VOC_CLASSES

        bank = TokenBank(
            class_names=tuple(c.name for c in VOC_CLASSES),
            pairs=np.zeros((20, 2, 768), np.float32),
            provenance={"source": "a test"},
        )
        path = tmp_path / "bank.safetensors"
        bank.save(path)
        result = ovamgen(
            "generate", "--captions", captions, "--model", "mini", "--tokens", path, "--out", out
        )
        refused(result, "768", "128")

    def test_height_no_multiple_of_eight(self, captions, out):
        result = ovamgen(
            "generate", "--captions", captions, "--model", "mini", "--height", 100, "--out", out
        )
        refused(result, "height", "100", "96 or 104")

    @pytest.mark.parametrize(
        ("height", "words"),
        [
            (1_000_000, "height must be at most 8192 pixels, got 1000000"),
            (2048, "at most 1024 pixels for mini, which was made for 128x128, got 2048"),
        ],
    )
    def test_height_that_no_memory_holds(self, captions, out, height, words):
        result = ovamgen(
            "generate", "--captions", captions, "--model", "mini", "--height", height, "--out", out
        )
        refused(result, words)

    def test_unreadable_model_folder(self, captions, out, tmp_path):
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "model_index.json").write_text("{")
        result = ovamgen(
            "generate", "--captions", captions, "--model", folder, "--device", "cpu", "--out", out
        )
        refused(result, "model_index.json")

    def test_no_such_model(self, captions, out):
        result = ovamgen("generate", "--captions", captions, "--model", "minni", "--out", out)
        refused(result, "minni", "did you mean 'mini'")

    def test_a_pickle_where_safetensors_is_expected(self, captions, out, tmp_path):
        path = tmp_path / "tokens.npy"
        path.write_bytes(pickle.dumps({"cat": [1.0]}))
        result = ovamgen(
            "generate", "--captions", captions, "--model", "mini", "--tokens", path, "--out", out
        )
        refused(result, "tokens.npy", "safetensors")

    def test_unknown_preset_method_and_scheduler(self, captions, out):
        base = ["generate", "--captions", captions, "--model", "mini", "--out", out]
        refused(ovamgen(*base, "--preset", "papr"), "papr", "paper")
        refused(ovamgen(*base, "--method", "ovan"), "ovan", "ovam")
        refused(ovamgen(*base, "--set", "synthesis.scheduler=PMDM"), "PMDM", "PNDM")

    def test_preset_files_that_are_none(self, captions, out, tmp_path):
        base = ["generate", "--captions", captions, "--model", "mini", "--out", out]
        file = tmp_path / "mine.yaml"
        refused(ovamgen(*base, "--preset", file), "preset file", "does not exist")
        file.write_text("plan: {limit: 1}")
        refused(ovamgen(*base, "--preset", file), "attribution, masks, synthesis", "'plan'")

    def test_no_output_and_no_captions(self, captions, out):
        refused(ovamgen("generate", "--captions", captions, "--model", "mini"), "--out")
        refused(ovamgen("generate", "--model", "mini", "--out", out), "--captions")

    def test_wrong_flags_end_with_two(self):
        result = ovamgen_alone("generate", "--captoins", "x")
        assert result.returncode == 2
        assert "--captions" in result.stderr

    def test_status_of_nothing(self, out):
        refused(ovamgen("status", out), "plan.parquet")


def test_a_preset_file_is_recorded_by_its_values(tmp_path, captions):
    file, out = tmp_path / "mine.yaml", tmp_path / "out"
    file.write_text("attribution: {resolutions: [8]}\nmasks: {token_tau: 0.35}\n")
    command = ["generate", "--captions", captions, "--model", "mini", "--limit", "1", "--out", out]
    options = ["--steps", "1", "--runner", "local", "--preset", file]
    assert ovamgen(*command, *options).returncode == 0
    text = (out / "run.yaml").read_text()
    assert str(tmp_path / "mine") not in text
    config = yaml.safe_load(text)["config"]
    assert (config["masks"]["preset"], config["masks"]["tau"]) == ("mine (file)", 0.35)
    assert config["attribution"]["resolutions"] == [8]
    # another file of that name, or none, is not the same run
    again = ovamgen(*command, *options)
    assert again.returncode == 0
    file.write_text("masks: {token_tau: 0.4}\n")
    refused(ovamgen(*command, *options), "masks.tau", "0.35")


def test_the_output_of_another_configuration_is_refused_with_the_difference(tmp_path, captions):
    out = tmp_path / "out"
    base = ["--captions", captions, "--limit", 2, "--model", "mini", "--out", out]
    base += ["--runner", "local"]
    first = ovamgen("generate", *base, "--steps", 1)
    assert first.returncode == 0, first.stderr
    before = digests(out)
    refused(ovamgen("generate", *base, "--steps", 2), "synthesis.steps: 1 -> 2")
    refused(ovamgen("generate", *base, "--steps", 1, "--seed", 3), "seed", "3")
    captions_file(captions, [*PROMPTS, "a cat more"])
    refused(ovamgen("generate", *base, "--steps", 1), "captions")
    assert digests(out) == before


def test_plan_status_generate_status(tmp_path, captions):
    out = tmp_path / "out"
    made = ovamgen("plan", "--captions", captions, "--shard-size", 4, "--out", out)
    assert made.returncode == 0, made.stderr
    assert "cat" in made.stdout
    state = json.loads(ovamgen("status", out, "--json").stdout)
    assert (state["state"], state["samples_planned"], state["shards_planned"]) == ("planned", 7, 2)
    run = ["generate", "--captions", captions, "--shard-size", 4, "--model", "mini", "--steps", 1]
    done = ovamgen(*run, "--runner", "local", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "loading mini on cpu" in done.stderr
    assert "contact_sheet.png" in done.stdout
    state = json.loads(ovamgen("status", out, "--json").stdout)
    assert (state["state"], state["samples_made"]) == ("complete", 7)
    again = ovamgen(*run, "--runner", "local", "--out", out)
    assert again.returncode == 0
    assert "every shard is there already" in again.stderr


def test_a_dry_run_writes_nothing(tmp_path, captions):
    out = tmp_path / "out"
    result = ovamgen(
        "generate", "--captions", captions, "--model", "mini", "--out", out, "--dry-run"
    )
    assert result.returncode == 0, result.stderr
    assert "cat" in result.stdout
    assert not out.exists()


def test_ctrl_c_while_loading_ends_with_130(tmp_path, captions):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ovamgen",
            "generate",
            "--captions",
            str(captions),
            "--model",
            "mini",
            "--out",
            str(tmp_path / "out"),
            "--runner",
            "local",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert "Traceback" not in text


def test_attribute_takes_the_device_that_is_there(tmp_path, repository):
    """The command that other implementations are compared by, on the golden pipeline."""
    golden = repository / "tests/golden"
    out = tmp_path / "maps.npz"
    result = ovamgen(
        *["attribute", "--model", golden / "tiny-sd", "--prompt", "a photograph of a cat"],
        *["--latents", golden / "ovam_reference.npz", "--steps", 5, "--guidance", 7.5],
        *["--height", 128, "--width", 128, "--branch", "conditional", "--text", "cat"],
        *["--token-pairs", golden / "ovam_reference.npz", "--out", out],
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    with np.load(out) as made, np.load(golden / "ovam_reference.npz") as reference:
        for ours, theirs in [("text_0", "text_word"), ("token_pairs", "token_pairs")]:
            expected = reference[f"conditional/{theirs}"]
            assert made[ours].dtype == np.float32
            np.testing.assert_allclose(made[ours], expected, rtol=1e-4)
        np.testing.assert_allclose(made["image"], reference["image"], atol=1e-4)
