"""A run with LoRAs: what it is bound to, and that its documents fit each other."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from ovamgen.errors import ConfigError
from ovamgen.generation import generate
from tests.command_line import ovamgen
from tests.fakes import DiscEngine
from tests.runs import run_config


def test_a_run_goes_on_with_the_same_content_alone(tmp_path):
    """Whichever its path is; another file in its place is refused before a model is loaded."""
    for name, value in (("a", 0.0), ("b", 1.0)):
        pair = {"down": torch.full((1, 4), value), "up": torch.zeros(4, 1)}
        tensors = {f"lora_unet_x.lora_{way}.weight": one for way, one in pair.items()}
        save_file(tensors, tmp_path / f"{name}.safetensors")
    style = tmp_path / "style.safetensors"
    shutil.copy(tmp_path / "a.safetensors", style)

    def config(path, weight=0.5, count=16):
        lora = {"path": str(path), "weight": weight}
        model = {"id": "mini", "loras": [lora]}
        return run_config(tmp_path, count=count, model=model, runtime={"runner": "local"})

    assert generate(config(style), DiscEngine).summary.shards_made_now == 2
    assert generate(config(tmp_path / "a.safetensors"), DiscEngine).summary.shards_made_now == 0
    with pytest.raises(ConfigError, match=r"another configuration \(model\.loras: \[0\.5\] -> \[1"):
        generate(config(style, weight=1), DiscEngine)
    shutil.copy(tmp_path / "b.safetensors", style)
    with pytest.raises(ConfigError, match=r"another configuration \(inputs\.lora_0: "):
        generate(config(style), DiscEngine)
    card = (tmp_path / "out/README.md").read_text()
    assert "| LoRAs (weight) | `style.safetensors (0.5)` |" in card
    assert "the terms on the model's own page" in card
    page = tmp_path / "report.html"
    assert ovamgen("report", str(tmp_path / "out"), "--out", str(page)).returncode == 0
    assert "style.safetensors (0.5)" in page.read_text()
    assert str(tmp_path) not in page.read_text()
    checked = ovamgen("verify", str(tmp_path / "out"), "--jobs", "1")
    assert checked.returncode == 0, checked.stdout + checked.stderr
