"""What ships with `mini` is of one piece: tokens, heads and annotated drawings of its weights."""

from ovamgen.attribution.heads.head_file import load_head
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import ModelConfig
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.mini import HEADS, MODEL, NAME, TOKENS
from ovamgen.pictures.sample_folder import SampleFolder
from recipes.mini.export import check_sizes


def test_tokens_and_heads_were_made_with_the_weights():
    digest = load_pipeline(ModelConfig(id=NAME, device="cpu")).info.digest
    assert TokenBank.load(TOKENS).provenance["model_digest"] == digest
    for head in HEADS.values():
        assert load_head(head).provenance["model_digest"] == digest


def test_tokens_were_learnt_from_the_drawings_in_the_recipe(repository):
    drawings = SampleFolder.open(repository / "recipes/mini/annotated")
    bank = TokenBank.load(TOKENS)
    assert {drawing.class_name for drawing in drawings.samples} == set(bank.class_names)
    for drawing in drawings.samples:
        assert f'"{drawing.key}"' in bank.provenance[f"class {drawing.class_name}"]


def test_the_model_fits_the_package():
    assert check_sizes(MODEL) < 25_000_000
