"""A run with a model of another family, by the commands that people give."""

import io
import tarfile

import numpy as np
import pytest

from tests.command_line import ovamgen
from tests.diffusion.small import small_pipeline


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd21", "sdxl"])
def test_captions_become_shards_that_verify(name, tmp_path):
    """Twice, for equal bytes; maps of XL are half as wide as those of 2.x."""
    folder = tmp_path / name
    small_pipeline(name).save_pretrained(folder)
    captions = tmp_path / "captions.txt"
    captions.write_text("a cat on a sofa\na dog and a horse\na red bus\n")
    shards = []
    for out in (tmp_path / "first", tmp_path / "second"):
        done = ovamgen(
            "generate",
            *("--model", str(folder), "--device", "cpu", "--runner", "local"),
            *("--captions", str(captions), "--out", str(out), "--steps", "2"),
            *("--shard-size", "3", "--set", "runtime.cpu_threads=1"),
            *("--set", "shards.heatmaps=true"),
        )
        assert done.returncode == 0, done.stderr
        shards.append((out / "train-000000.tar").read_bytes())
    assert shards[0] == shards[1]
    verified = ovamgen("verify", str(tmp_path / "first"))
    assert verified.returncode == 0, verified.stderr
    with tarfile.open(tmp_path / "first" / "train-000000.tar") as tar:
        names = tar.getnames()
        with np.load(io.BytesIO(tar.extractfile("00000000001.heatmaps.npz").read())) as maps:
            shapes = {maps[array].shape[-2:] for array in maps.files if maps[array].ndim > 1}
    assert sum(each.endswith(".mask.png") for each in names) == 3
    # of 128x128 pixels, 16x16 latents
    assert shapes == {(16, 16) if name == "sd21" else (8, 8)}
    replayed = ovamgen("replay", tmp_path / "first", "00000000001")
    assert replayed.returncode == 0, replayed.stderr
