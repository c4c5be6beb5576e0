"""What -h and ``ovamgen config`` say: all of it is there, true, and quick to come."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from typer.main import get_command

from ovamgen import __version__
from ovamgen.cli import app
from ovamgen.config import DEFAULT_MODEL, METHODS, preset_names
from ovamgen.config.describe import run_keys
from tests.command_line import ovamgen, ovamgen_alone


def commands(command, path=("ovamgen",)):
    """Every command and group under its words."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(get_command(app)))


def examples(text):
    return [" ".join(found.split()) for found in re.findall(r"`(ovamgen [^`]*)`", text or "")]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_that_can_be_typed(path):
    found = [line for line in examples(COMMANDS[path].help) if line.startswith(" ".join(path))]
    assert found, "an example line such as `ovamgen ...`"
    for line in found:
        words, command = shlex.split(line), COMMANDS["ovamgen",]
        context = command.make_context("ovamgen", words[1:])
        while rest := [*context._protected_args, *context.args]:
            # an option or argument that does not exist is an error here
            inner = getattr(context.command, "commands", {}).get(rest[0])
            assert inner is not None or context.command is COMMANDS[path], line
            if inner is None:
                break
            context = inner.make_context(rest[0], rest[1:], parent=context)


def told(*command):
    """The text of -h, without the box around it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")
        return ovamgen(*command, "-h").stdout


def option(text, name):
    (line,) = [line for line in text.splitlines() if re.search(rf"│ +{name} ", line)]
    return line


def test_help_shows_the_defaults_of_the_configuration():
    text = told("generate")
    assert f"[default: {DEFAULT_MODEL}]" in option(text, "--model")
    assert "[default: 30]" in option(text, "--steps")
    assert "[default: 7.5]" in option(text, "--guidance")
    assert "[default: 1000]" in option(text, "--shard-size")
    assert "[default: 2000]" in option(told("train"), "--steps")
    assert "One of auto, cpu, cuda. [default: auto]" in option(text, "--device")


@pytest.mark.parametrize("command", ["generate", "attribute", "evaluate masks"])
def test_methods_and_presets_are_listed(command):
    text = told(*command.split())
    assert all(name in option(text, "--method") for name in METHODS)
    if command != "attribute":
        assert all(name in option(text, "--preset") for name in preset_names())


def test_the_presets_of_captions_are_others():
    line = option(told("plan"), "--preset")
    assert "One of general, coco-cap. [default: general]" in line
    assert "paper" not in line


@pytest.mark.parametrize("command", ["--help", "generate -h", "config", "--version"])
def test_it_comes_before_anything_heavy_is_loaded(command):
    code = (
        f"import sys; sys.argv = ['ovamgen', *{command.split()}]\n"
        "from ovamgen.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'torch', 'ray', 'diffusers', 'transformers', 'pyarrow', 'numpy', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_version():
    assert ovamgen_alone("--version").stdout == f"ovamgen {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("--train",)])
def test_every_key_is_described(arguments):
    keys = json.loads(ovamgen("config", *arguments, "--json").stdout)
    assert len(keys) > 20
    for key in keys:
        assert 10 < len(key["description"]) < 400, key
        assert key["description"][-1] == ".", key
        assert "\n" not in key["description"]
        assert key["type"], key


def test_every_key_can_be_set_to_its_default():
    from ovamgen.config import build_config, flatten, parse_overrides

    keys = run_keys()
    # left out of files while it is off
    left_out = {
        "attribution.calls",
        "attribution.missing",
        "attribution.probe",
        "attribution.resolutions",
        "classes",
        "label.min_score",
        "label.pictures",
        "masks.class_tau",
        "masks.crf.half_resolution",
        "masks.self_attention_entropy_step",
        "masks.self_attention_iterations",
        "model.loras",
        "model.prediction",
        "plan.empty_share",
        "plan.wanted",
        "synthesis.append_class_words",
        "synthesis.crop",
        "synthesis.original_size",
    }
    left_out |= {f"attribution.{name}" for name in ("head", "head_mode", "head_tokens")}
    written = flatten(build_config().model_dump(mode="json")).keys() | left_out
    assert keys.keys() == written
    given = [f"{name}={key.default_text}" for name, key in keys.items()]
    assert build_config(parse_overrides(given)) == build_config()


def test_a_prefix_chooses_and_nothing_is_an_error():
    text = ovamgen("config", "synthesis.s").stdout
    assert [line.split()[0] for line in text.splitlines()[::2]] == [
        "synthesis.steps",
        "synthesis.scheduler",
        "synthesis.safety",
    ]
    wrong = ovamgen("config", "mask.")
    assert wrong.returncode == 2
    assert "no key begins with 'mask.'" in wrong.stderr


def test_the_page_about_the_configuration_says_the_same(repository):
    page = (repository / "docs/configuration.md").read_text()
    there = [line for line in page.split("## Keys")[1].splitlines() if line.startswith("| `")]
    assert there == [_row(key) for key in run_keys().values()]


def _row(key):
    cells = [f"`{key.key}`", key.type, key.default_text, key.description]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
