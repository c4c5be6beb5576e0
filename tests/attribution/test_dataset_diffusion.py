"""The preset dataset-diffusion against the steps of the released gen_data, written out here."""

import numpy as np
import torch
from torch.nn.functional import interpolate

from ovamgen.attribution.refinement import refine
from ovamgen.config import build_config
from ovamgen.masks.binarise import make_label_map

CAT, DOG = 8, 12


def test_masks_of_the_preset_are_those_of_gen_data():
    generator = torch.Generator().manual_seed(0)
    layers = torch.randn(3, 1024, 1024, generator=generator)
    affinity = (2 * layers).softmax(-1).mean(0, keepdim=True)
    # attention that lights up around a place, as cross-attention of a word does
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    places = ((5.0, 4.0), (10.0, 11.0))
    maps = torch.stack([(-((rows - r) ** 2 + (columns - c) ** 2) / 18).exp() for r, c in places])
    near = torch.arange(1024)
    distance = ((near[:, None] // 32 - near // 32) ** 2 + (near[:, None] % 32 - near % 32) ** 2) / 8
    affinity = affinity * (-distance).exp()
    affinity /= affinity.sum(-1, keepdim=True)

    preset = build_config({"model": {"id": "mini"}, "masks": {"preset": "dataset-diffusion"}})
    assert preset.attribution.resolutions == (16,)
    assert preset.attribution.branch == "conditional"
    assert (preset.synthesis.steps, preset.synthesis.append_class_words) == (100, True)
    assert preset.masks.self_attention_positions == 32 * 32
    image = np.zeros((128, 128, 3), np.uint8)
    refined = refine(maps[None], affinity, (32, 32), preset.masks)[0]
    found = make_label_map(refined.numpy(), [CAT, DOG], image, preset.masks).labels

    cross = interpolate(maps[None], (32, 32), mode="bicubic")[0].flatten(1)
    power = torch.from_numpy(np.linalg.matrix_power(affinity[0].double().numpy(), 4)).float()
    spread = (power @ cross.T).T.reshape(2, 32, 32)
    spread = spread - spread.amin((1, 2), keepdim=True)
    spread = spread / spread.amax((1, 2), keepdim=True)
    scores = interpolate(spread[None], (128, 128), mode="bicubic")[0].numpy()
    best = scores.max(axis=0)
    expected = np.where(best >= 0.6, np.array([CAT, DOG])[scores.argmax(axis=0)], 0)
    expected[(best < 0.6) & (best >= 0.5)] = 255
    assert {0, CAT, DOG, 255} == set(np.unique(expected))
    # a pixel on a threshold may fall on either side by rounding
    assert (found != expected).sum() <= 5
