import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ovamgen.errors import ConfigError, OvamgenError, ShardError
from ovamgen.run.drain import Interrupted
from ovamgen.segmentor import training
from ovamgen.segmentor.checkpoint import CHECKPOINT, read_position, write_checkpoint
from ovamgen.segmentor.network import ARCHITECTURES, SEGMENTOR, build_network
from ovamgen.segmentor.settings import build_settings
from ovamgen.segmentor.training import SegmentationLoss, learning_rate, train
from tests.pictures.voc_folders import write_voc


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("voc"), {"train": 12, "val": 4})


def settings(voc, **values):
    asked = {"real": str(voc), "steps": 8, "batch_size": 4, "crop_px": 32} | values
    return build_settings(asked)


def weights(folder):
    return load_file(folder / SEGMENTOR)


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0, msg=name)


@pytest.fixture(scope="module")
def undisturbed(voc, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    trained = train(settings(voc), folder)
    assert (trained.steps, trained.taken_now, trained.images) == (8, 8, 12)
    return folder


def test_training_leaves_weights_a_log_and_a_checkpoint(undisturbed):
    assert {path.name for path in undisturbed.iterdir()} - {"tensorboard"} == {
        SEGMENTOR,
        CHECKPOINT,
        "log.csv",
    }
    with (undisturbed / "log.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == "8"
    assert 0 < float(row["loss"]) < 10
    assert read_position(undisturbed).step == 8


def test_the_same_training_gives_the_same_weights(voc, undisturbed, tmp_path):
    train(settings(voc, loaders=0), tmp_path)
    assert_same_weights(undisturbed, tmp_path)


def files(folder):
    """Bytes by name; TensorBoard's files, where it is installed, have times in them."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "tensorboard"}


def test_equal_trainings_give_equal_files(voc, undisturbed, tmp_path):
    # saved after every step, and not at the end alone: when that is, the clock says
    train(settings(voc, save_seconds=1e-9), tmp_path)
    assert files(tmp_path) == files(undisturbed)


def test_another_seed_gives_other_weights(voc, undisturbed, tmp_path):
    train(settings(voc, seed=1), tmp_path)
    with pytest.raises(AssertionError):
        assert_same_weights(undisturbed, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_loader_processes_change_nothing(voc, undisturbed, tmp_path):
    train(settings(voc, loaders=2), tmp_path)
    assert_same_weights(undisturbed, tmp_path)


SCRIPT = """
import sys
from ovamgen.segmentor.settings import build_settings
from ovamgen.segmentor.training import train
import json
train(build_settings(json.loads(sys.argv[1])), sys.argv[2])
"""


def start(asked, folder, repository):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, asked.model_dump_json(), str(folder)],
        cwd=repository,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        position = read_position(folder) if (folder / CHECKPOINT).exists() else None
        if position is not None and position.step >= 3:
            return process
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate()[1])


@pytest.mark.slow  # equal files when saved at every step, and after a signal, are shown every day
@pytest.mark.timeout(300)
def test_killed_and_resumed_is_undisturbed(voc, undisturbed, tmp_path, repository):
    """Issue 5, shown 4: SIGKILL between two checkpoints, then the same command again."""
    asked = settings(voc, save_seconds=1e-6)
    process = start(asked, tmp_path / "out", repository)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    reached = read_position(tmp_path / "out").step
    assert 3 <= reached < 8, "it was to be killed on its way"
    trained = train(asked, tmp_path / "out")
    assert trained.taken_now == 8 - reached
    assert files(tmp_path / "out") == files(undisturbed)


def interrupt_after(monkeypatch, steps):
    """A signal to this process while a step is taken, as Ctrl-C would send it."""

    def counted(settings, step):
        if step + 1 == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return learning_rate(settings, step)

    monkeypatch.setattr(training, "learning_rate", counted)


def test_a_signal_keeps_the_step_and_says_so(voc, undisturbed, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        interrupt_after(patched, 5)
        with pytest.raises(Interrupted) as stop:
            train(settings(voc), tmp_path)
    assert stop.value.exit_code == 143
    assert "SIGTERM: finishing this step; a second one stops at once" in capsys.readouterr().err
    assert read_position(tmp_path).step == 5
    assert train(settings(voc), tmp_path).taken_now == 3
    assert files(tmp_path) == files(undisturbed)


def test_a_running_mean_of_the_weights_is_saved_and_resumed(voc, tmp_path, monkeypatch):
    asked = settings(voc, ema_decay=0.7, save_seconds=1e-9)
    steps = []

    def write_too(folder, kept, *rest):
        network = kept[0]
        steps.append({name: value.clone() for name, value in network.state_dict().items()})
        write_checkpoint(folder, kept, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(training, "write_checkpoint", write_too)
        train(asked, tmp_path / "whole")
    name = next(name for name in steps[0] if name.endswith("weight"))
    mean = steps[0][name].double()
    for count, values in enumerate(steps[1:], start=1):
        kept = min(0.7, (1 + count) / (10 + count))
        mean = kept * mean + (1 - kept) * values[name].double()
    saved = weights(tmp_path / "whole")[name]
    assert len(steps) == 8
    torch.testing.assert_close(saved.double(), mean, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(saved, steps[-1][name], rtol=1e-4)
    with monkeypatch.context() as patched:
        interrupt_after(patched, 3)
        with pytest.raises(Interrupted):
            train(asked, tmp_path / "cut")
    train(asked, tmp_path / "cut")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    with pytest.raises(ConfigError, match=r"differs in ema_decay \(0\.7 there, None asked for\)"):
        train(settings(voc), tmp_path / "whole")


def test_a_finished_training_is_left_alone(voc, undisturbed):
    before = (undisturbed / SEGMENTOR).stat().st_mtime_ns
    trained = train(settings(voc), undisturbed)
    assert (trained.taken_now, trained.loss) == (0, None)
    assert (undisturbed / SEGMENTOR).stat().st_mtime_ns == before


@pytest.mark.parametrize("left", ["nothing", "an older one"])
def test_one_killed_between_checkpoint_and_segmentor_goes_on(voc, undisturbed, tmp_path, left):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    (tmp_path / SEGMENTOR).unlink()
    if left == "an older one":
        train(settings(voc, steps=4), tmp_path / "older")
        (tmp_path / "older" / SEGMENTOR).rename(tmp_path / SEGMENTOR)
        shutil.rmtree(tmp_path / "older")
    assert train(settings(voc), tmp_path).taken_now == 0
    assert files(tmp_path) == files(undisturbed)


def test_a_part_of_a_line_in_the_log_is_no_row(voc, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("1")
    train(settings(voc), tmp_path)
    assert files(tmp_path) == files(undisturbed)


def test_another_training_in_the_folder_is_refused(voc, undisturbed, tmp_path):
    with pytest.raises(ConfigError, match=r"differs in steps \(8 there, 9 asked for\)"):
        train(settings(voc, steps=9), undisturbed)
    other = write_voc(tmp_path / "other", {"train": 11})
    with pytest.raises(ConfigError, match="differs in the data of --real"):
        train(settings(other), undisturbed)


def test_a_damaged_checkpoint_is_named(voc, undisturbed, tmp_path):
    content = (undisturbed / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(content[:1000])
    with pytest.raises(ConfigError, match=r"checkpoint\.safetensors cannot be read"):
        train(settings(voc), tmp_path)


def test_a_training_goes_on_from_another(voc, undisturbed, tmp_path):
    """From weights that know the pictures the loss begins far lower than from scratch."""
    taught = settings(voc, steps=40, batch_size=6, learning_rate=0.01)
    after = train(taught, tmp_path / "one").loss
    assert after < 1.5, "twelve pictures with four colours; guessing has log(21) = 3.04"
    asked = settings(voc, steps=2, learning_rate=1e-4, init=str(tmp_path / "one"))
    assert train(asked, tmp_path / "two").loss < after + 0.3
    with pytest.raises(ConfigError, match="differs in the weights of --init"):
        train(asked.model_copy(update={"init": str(undisturbed)}), tmp_path / "two")


def test_sgd_and_accumulation_resume_as_well(voc, tmp_path, monkeypatch):
    asked = settings(voc, optimizer="sgd", accumulation=2, steps=4)
    train(asked, tmp_path / "one")
    with monkeypatch.context() as patched:
        interrupt_after(patched, 2)
        with pytest.raises(Interrupted):
            train(asked, tmp_path / "two")
    train(asked, tmp_path / "two")
    assert_same_weights(tmp_path / "one", tmp_path / "two")


def test_shards_and_real_pictures_together(run, voc, tmp_path):
    asked = build_settings(
        {"shards": run.url, "real": str(voc), "real_share": 0.25, "steps": 2, "batch_size": 4},
        {"crop_px": 32},
    )
    assert train(asked, tmp_path).images == 11 + 12


def test_the_rate_rises_and_falls_to_zero():
    asked = build_settings({"shards": "x", "steps": 100, "learning_rate": 1.0})
    rates = [learning_rate(asked, step) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 6)
    assert np.argmax(rates) == 5
    assert rates[50] == pytest.approx(0.5**0.9)
    assert rates[99] == pytest.approx(0.01**0.9)
    assert np.all(np.diff(rates[5:]) < 0)


@pytest.mark.parametrize("class_weights", [None, tuple(float(i % 3) for i in range(21))])
def test_the_loss_is_torchs_mean_over_the_pixels_that_count(class_weights):
    network = build_network(ARCHITECTURES["small"], 0)
    loss = SegmentationLoss(network, class_weights).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 21, (2, 32, 32), generator=generator, dtype=torch.uint8)
    labels[:, :9] = 255
    found = loss(images, labels)
    from ovamgen.segmentor.network import normalise

    logits = network(pixel_values=normalise(images)).logits
    weight = None if class_weights is None else torch.tensor(class_weights)
    expected = torch.nn.functional.cross_entropy(
        logits, labels.long(), weight=weight, ignore_index=255
    )
    torch.testing.assert_close(found, expected)


def test_a_batch_of_nothing_but_ignored_pixels_is_no_error():
    loss = SegmentationLoss(build_network(ARCHITECTURES["small"], 0), None)
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    value = loss(images, torch.full((2, 32, 32), 255, dtype=torch.uint8))
    value.backward()
    assert value == 0


def test_a_loss_that_is_no_number_stops_the_training(voc, tmp_path):
    with pytest.raises(OvamgenError, match=r"the loss must be finite, got nan"):
        train(settings(voc, optimizer="sgd", learning_rate=1e30, warmup_share=0.0), tmp_path)
    assert not (tmp_path / SEGMENTOR).exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 6, "accumulation": 4}, "multiple of workers x accumulation = 4"),
        ({"device": "cuda"}, "this machine has none"),
        ({"backbone": "no-such.safetensors"}, r"no-such.safetensors.* cannot be read"),
        ({"init": "no-such-folder"}, "no-such-folder must be the weights of a segmentor"),
        ({"real": "no-such-folder"}, "no-such-folder must be a folder in VOC's layout"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(voc, tmp_path, values, message):
    if "device" in values and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=message):
        train(settings(voc, **values), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shards_with_other_classes_stop_the_training(tmp_path):
    from ovamgen.shards.arrays import encode_png
    from tests.segmentor.test_examples import JPG, write_tar

    mask = encode_png(np.full((16, 24), 42, np.uint8))
    url = write_tar(tmp_path / "a.tar", {"00": {"jpg": JPG, "mask.png": mask}})
    asked = build_settings({"shards": url, "steps": 2, "batch_size": 2, "crop_px": 32})
    with pytest.raises(ShardError, match=r"values 0 to 20 and 255 .* got 42"):
        train(asked, tmp_path / "out")


def test_what_was_asked_stands_in_the_weights_file(undisturbed):
    from safetensors import safe_open

    with safe_open(undisturbed / SEGMENTOR, "pt") as stored:
        told = json.loads(stored.metadata()["training"])
    assert (told["step"], told["steps"]) == (8, 8)
    assert told["settings"]["crop_px"] == 32
