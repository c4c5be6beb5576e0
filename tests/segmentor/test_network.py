import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ovamgen.errors import ConfigError
from ovamgen.segmentor.backbone import load_backbone_weights
from ovamgen.segmentor.network import (
    ARCHITECTURES,
    SEGMENTOR,
    Architecture,
    Segmentor,
    build_network,
    load_segmentor,
    normalise,
    save_segmentor,
)

TINY = Architecture(
    layer_type="basic",
    embedding_size=8,
    hidden_sizes=(8, 8, 8, 8),
    depths=(1, 1, 1, 1),
    stem_pooling=True,
    head_size=8,
    pool_scales=(1, 2),
    auxiliary_head=False,
)


@pytest.fixture(scope="module")
def network():
    network = build_network(TINY, seed=3)
    with torch.no_grad():
        network.decode_head.classifier.weight *= 500  # or all classes would be as likely
    return network


@pytest.fixture
def folder(tmp_path, network):
    save_segmentor(tmp_path, network, TINY, {"step": 1})
    return tmp_path


def images(count, height=40, width=56, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_resnet50_is_the_published_one_and_small_is_small():
    with torch.device("meta"):
        networks = {size: build_network(shape, 0) for size, shape in ARCHITECTURES.items()}
    sizes = {size: sum(p.numel() for p in n.parameters()) for size, n in networks.items()}
    # ResNet-50 without its classifier has 23.5 million parameters (He et al., 2016)
    backbone = sum(p.numel() for p in networks["resnet50"].backbone.parameters())
    assert backbone == 23_508_032
    assert sizes["small"] < 4e6 < 6e7 < sizes["resnet50"]
    assert networks["resnet50"].decode_head.classifier.out_channels == 21


def test_weights_are_a_function_of_the_seed_and_leave_torchs_generator_alone():
    state = torch.get_rng_state()
    one, same, other = (build_network(TINY, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_stem_without_pooling_keeps_twice_the_resolution():
    without = build_network(Architecture(**{**_fields(TINY), "stem_pooling": False}), 0)
    x = torch.zeros(1, 3, 64, 64)
    assert without.backbone(x).feature_maps[0].shape[2:] == (32, 32)
    assert build_network(TINY, 0).backbone(x).feature_maps[0].shape[2:] == (16, 16)


def test_what_is_saved_is_what_is_loaded(folder, network):
    loaded = load_segmentor(folder)
    assert loaded.shape == TINY
    pictures = images(3)
    expected = Segmentor(network, TINY, torch.device("cpu")).predict(pictures)
    np.testing.assert_array_equal(loaded.predict(pictures), expected)
    np.testing.assert_array_equal(load_segmentor(folder / SEGMENTOR).predict(pictures), expected)


def test_labels_are_the_largest_logits_at_the_pictures_size(folder, network):
    pictures = images(2, 37, 61)
    found = load_segmentor(folder).predict(list(pictures))
    assert found.shape == (2, 37, 61)
    assert found.dtype == np.uint8
    x = normalise(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    with torch.no_grad():
        expected = network.eval()(pixel_values=x).logits.argmax(1).numpy()
    assert (found == expected).mean() > 0.999


def test_a_prediction_does_not_depend_on_its_batch(folder):
    segmentor = load_segmentor(folder)
    pictures = images(5)
    whole = segmentor.probabilities(pictures)
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-5)
    for index in range(5):
        alone = segmentor.probabilities(pictures[index : index + 1])
        np.testing.assert_allclose(alone[0], whole[index], atol=1e-5)
    labels = segmentor.predict(pictures, batch_size=2)
    assert (labels == whole.argmax(1)).mean() > 0.999


def test_mirrored_probabilities_are_symmetric(folder):
    segmentor = load_segmentor(folder)
    pictures = images(2)
    there = segmentor.probabilities(pictures, mirror=True)
    back = segmentor.probabilities(pictures[:, :, ::-1], mirror=True)[..., ::-1]
    np.testing.assert_allclose(there, back, atol=1e-5)
    assert not np.allclose(there, segmentor.probabilities(pictures), atol=1e-4)


def test_pixels_are_normalised_by_imagenets_figures():
    pixels = torch.tensor([124, 116, 104], dtype=torch.uint8).view(1, 3, 1, 1)
    found = normalise(pixels).flatten()
    expected = [
        (124 / 255 - 0.485) / 0.229,
        (116 / 255 - 0.456) / 0.224,
        (104 / 255 - 0.406) / 0.225,
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"segmentor\.safetensors must be the weights"):
        load_segmentor(tmp_path)


def test_a_checkpoint_of_other_classes(tmp_path):
    shape = Architecture(**{**_fields(TINY), "num_classes": 150})
    save_segmentor(tmp_path, build_network(shape, 0), shape, {})
    with pytest.raises(ConfigError, match="labels 150 classes, and its class set voc has 21"):
        load_segmentor(tmp_path)


def test_files_that_are_no_segmentor(folder):
    path = folder / SEGMENTOR
    tensors = load_file(path)
    save_file(tensors, path)
    with pytest.raises(ConfigError, match="its format is not named"):
        load_segmentor(folder)
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cannot be read as a segmentor"):
        load_segmentor(folder)
    Image.new("RGB", (2, 2)).save(folder / "picture.png")
    with pytest.raises(ConfigError, match="cannot be read as a segmentor"):
        load_segmentor(folder / "picture.png")


def test_weights_that_do_not_fit_their_shape(folder, network):
    shape = Architecture(**{**_fields(TINY), "head_size": 12})
    save_segmentor(folder, network, shape, {})
    with pytest.raises(ConfigError, match="cannot be read as a segmentor"):
        load_segmentor(folder)


def _fields(shape):
    return {name: getattr(shape, name) for name in shape.__dataclass_fields__}


# names of torchvision and timm, written down by hand for the first block and the shortcut
TORCHVISION = {
    "conv1.weight": "embedder.embedder.convolution.weight",
    "bn1.running_var": "embedder.embedder.normalization.running_var",
    "layer1.0.conv2.weight": "encoder.stages.0.layers.0.layer.1.convolution.weight",
    "layer3.1.bn2.bias": "encoder.stages.2.layers.1.layer.1.normalization.bias",
    "layer2.0.downsample.0.weight": "encoder.stages.1.layers.0.shortcut.convolution.weight",
    "layer2.0.downsample.1.bias": "encoder.stages.1.layers.0.shortcut.normalization.bias",
}


@pytest.mark.parametrize("prefix", ["", "resnet."])
def test_backbones_in_the_naming_of_transformers(tmp_path, prefix):
    source, target = (build_network(ARCHITECTURES["small"], seed).backbone for seed in (1, 2))
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    weights |= {"classifier.1.weight": torch.zeros(2)}
    path = tmp_path / "resnet.safetensors"
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    load_backbone_weights(target, path)
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_backbones_in_the_naming_of_torchvision(tmp_path):
    source, target = (build_network(ARCHITECTURES["small"], seed).backbone for seed in (1, 2))
    weights = {_torchvision(name): value for name, value in source.state_dict().items()}
    for there, here in TORCHVISION.items():
        assert _torchvision(here) == there
    path = tmp_path / "resnet.safetensors"
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    load_backbone_weights(target, path)
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def _torchvision(name):
    parts = name.split(".")
    kind = {"convolution": "conv", "normalization": "bn"}[parts[-2]]
    if parts[0] == "embedder":
        return f"{kind}1.{parts[-1]}"
    block = f"layer{int(parts[2]) + 1}.{parts[4]}"
    if parts[5] == "shortcut":
        return f"{block}.downsample.{'01'[kind == 'bn']}.{parts[-1]}"
    return f"{block}.{kind}{int(parts[6]) + 1}.{parts[-1]}"


def test_a_backbone_of_another_size_is_refused(tmp_path):
    source = build_network(TINY, 1).backbone
    target = build_network(ARCHITECTURES["small"], 2).backbone
    path = tmp_path / "resnet.safetensors"
    save_file({name: value.contiguous() for name, value in source.state_dict().items()}, path)
    before = target.state_dict()["embedder.embedder.convolution.weight"].clone()
    with pytest.raises(ConfigError, match=r"missing \(.*of another shape \(.*check --size"):
        load_backbone_weights(target, path)
    assert torch.equal(target.state_dict()["embedder.embedder.convolution.weight"], before)
