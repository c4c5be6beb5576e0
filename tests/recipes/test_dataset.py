import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from ovamgen.errors import ConfigError
from ovamgen.mini import MODEL
from recipes.mini.dataset import (
    DataSettings,
    build_cache,
    build_latent_space,
    held_out,
    open_cache,
)
from recipes.mini.sprites import save_sprites
from recipes.mini.tokenizer import tokenize


def test_a_cache_holds_what_the_composer_makes(cache, sprites, space, tokenizer):
    composer = DataSettings(variety="all", images=30, seed=3).composer(sprites)
    assert len(cache) == 30
    for index in (0, 11, 29):
        composite = composer.compose(index)
        latents = space.encode(composite.image[None])[0]
        assert np.array_equal(cache.latents[index], latents.astype(np.float16))
        (words,) = tokenize(tokenizer, [composite.caption])
        known = cache.tokens[index][cache.tokens[index] != tokenizer.unk_token_id]
        assert np.array_equal(known, words[: len(known)])
        assert set(words[len(known) :]) <= {tokenizer.eos_token_id}


def test_a_cache_is_made_once_and_again_for_other_settings(sprites, space, tmp_path):
    save_sprites(sprites, tmp_path / "sprites.npz")

    def build(**settings):
        data = DataSettings(**({"images": 3, "seed": 1} | settings))
        return build_cache(tmp_path / "cache", data, tmp_path / "sprites.npz", space, processes=0)

    first = build()
    stamp = (tmp_path / "cache" / "latents.npy").stat().st_mtime_ns
    assert build().digest == first.digest
    assert (tmp_path / "cache" / "latents.npy").stat().st_mtime_ns == stamp
    other = build(seed=2)
    assert other.digest != first.digest
    assert not np.array_equal(other.latents, first.latents)


def test_the_latent_space_is_the_shipped_one_unless_refitted(sprites, tmp_path):
    kept = build_latent_space(sprites, tmp_path / "kept.safetensors")
    vae = AutoencoderKL.from_pretrained(MODEL / "vae")
    images = DataSettings(variety="all").composer(sprites).compose(0).image[None].copy()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        shipped = vae.encode(pixels).latent_dist.mean.numpy()
    assert np.abs(kept.encode(images) - shipped).max() < 0.05
    # what is there stays
    again = build_latent_space(sprites, tmp_path / "kept.safetensors", refit_channels=16)
    assert np.array_equal(again.basis, kept.basis)


def test_an_unfinished_cache_is_no_cache(tmp_path):
    np.save(tmp_path / "latents.npy", np.zeros(3))
    with pytest.raises(ConfigError, match="run 'data' first"):
        open_cache(tmp_path)


def test_core_pictures_use_the_core_sprites_unmirrored(sprites):
    composer = DataSettings(variety="core").composer(sprites)
    assert composer.members == sprites.core()
    assert not composer.flips
    assert DataSettings(variety="all").composer(sprites).flips


def test_held_out_pictures_are_in_no_cache(sprites):
    settings = DataSettings(variety="all", seed=3)
    known = {settings.composer(sprites).compose(i).image.tobytes() for i in range(20)}
    others = held_out(settings, sprites, 20, single=True)
    assert not known & {composite.image.tobytes() for composite in others}
    assert {len(composite.class_ids) for composite in others} == {1}
