import os
import shutil
import subprocess
import sys

import pytest

from recipes.mini import cli
from recipes.mini.checkpoints import CHECKPOINT


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["recipes.mini", *map(str, arguments)])
    return cli.main()


def test_an_unknown_variety_is_a_usage_error(monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "data", "--work", tmp_path, "--variety", "some") == 2
    assert "--variety must be one of core, all, got 'some'" in capsys.readouterr().err


def test_steps_out_of_order_say_which_comes_first(monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "train", "--work", tmp_path) == 2
    assert "run 'data' first" in capsys.readouterr().err
    assert call(monkeypatch, "voc", "--work", tmp_path, "--out", tmp_path / "voc") == 2
    assert "run 'sprites' first" in capsys.readouterr().err
    assert call(monkeypatch, "export", "--work", tmp_path, "--out", tmp_path / "model") == 2
    assert "run 'decoder' first" in capsys.readouterr().err


def test_a_missing_option_is_a_usage_error(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, "sprites")
    assert "--work" in capsys.readouterr().err


def test_a_bad_device_is_a_usage_error(monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "train", "--work", tmp_path, "--device", "tpu") == 2
    assert "must be cpu or cuda, got 'tpu'" in capsys.readouterr().err


@pytest.mark.parametrize("widths", ["64,128", "64,128,100", "64,128,x"])
def test_bad_widths_are_a_usage_error(monkeypatch, capsys, tmp_path, widths):
    assert call(monkeypatch, "train", "--work", tmp_path, "--widths", widths) == 2
    assert (
        f"must be three multiples of 32 ('96,160,192'), got '{widths}'" in capsys.readouterr().err
    )


def test_all_looks_at_its_folders_before_it_works(monkeypatch, capsys, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("kept")
    out, work = tmp_path / "model", tmp_path / "work"
    assert call(monkeypatch, "all", "--smoke", "--work", work, "--out", out) == 2
    assert "must be new or empty" in capsys.readouterr().err
    assert not work.exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_an_empty_folder_to_a_model(repository, tmp_path):
    """Fetches the icons, so it needs npm and a network, and takes some minutes."""
    pytest.importorskip("resvg_py", reason="needs resvg-py (the recipe's extra)")
    if shutil.which("npm") is None:
        pytest.skip("needs the npm client")
    model = tmp_path / "model"
    command = [sys.executable, "-m", "recipes.mini", "all", "--smoke"]
    command += ["--work", str(tmp_path / "work"), "--out", str(model)]
    done = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, env=os.environ, timeout=600
    )
    if "is there a network?" in done.stderr:
        pytest.skip("needs a network to fetch the icons")
    assert done.returncode == 0, done.stderr
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    image = pipeline("a photograph of a dog", num_inference_steps=2).images[0]
    assert image.size == (128, 128)
    assert (tmp_path / "work" / "runs" / "core" / CHECKPOINT).exists()
    assert len(list((tmp_path / "work" / "voc" / "JPEGImages").iterdir())) == 80
    total = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    assert 15e6 < total < 25e6
