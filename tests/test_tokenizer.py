"""CLIP's tokenizer against transformers', and positions of words counted by hand."""

import json
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from ovamgen.errors import ConfigError
from ovamgen.tokenizer import clip_tokenizer, clip_vocabulary, last_token_index, model_tokenizer

ODD_TEXTS = [
    "",
    "   ",
    "Don't  STOP\n\tthe T.V.!!!",
    "naïve Café ﬁ ＡＢＣ İstanbul ß",
    "🐶🐱 emoji 👨‍👩‍👧",
    "<|endoftext|> hi <|startoftext|>x",
    "<|ENDOFTEXT|>",
    "日本語 12345 ½ ²",
    "a'b's'LL we'RE",
    "\x00\x01 control \u200b zero width",
    "e\u0301 and \u00e9",
    "it’s “quoted”—dash…",
    "x" * 300,
]


@pytest.fixture(scope="module")
def reference():
    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=10**6)


@pytest.fixture(scope="module")
def tokenizer():
    return clip_tokenizer()


@pytest.fixture
def golden_model(repository):
    return repository / "tests" / "golden" / "tiny-sd"


def test_vocabulary_has_openai_ids():
    vocabulary, merges = clip_vocabulary()
    assert (len(vocabulary), len(merges)) == (49_408, 48_894)
    assert sorted(vocabulary.values()) == list(range(49_408))
    assert merges[0] == ("i", "n")
    assert merges[-1] == ("jeky", "ll</w>")
    known = {"!": 0, "!</w>": 256, "in": 512, "<|startoftext|>": 49_406, "<|endoftext|>": 49_407}
    assert {token: vocabulary[token] for token in known} == known


def test_published_ids(tokenizer):
    ids = tokenizer.encode("a photograph of a cat").ids
    assert ids == [49406, 320, 8853, 539, 320, 2368, 49407]


def test_callers_cannot_change_the_vocabulary():
    clip_vocabulary()[1].clear()
    clip_vocabulary()[0].clear()
    assert len(clip_vocabulary()[1]) == 48_894


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_text_equals_transformers(tokenizer, reference, text):
    assert tokenizer.encode(text).ids == reference(text)["input_ids"]


@settings(max_examples=60)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_equals_transformers(tokenizer, reference, text):
    assert tokenizer.encode(text).ids == reference(text)["input_ids"]


def test_coco_captions_equal_transformers(tokenizer, reference, shared):
    data = json.loads((shared / "data/coco/captions_val2017.json").read_text("utf-8"))
    captions = [annotation["caption"] for annotation in data["annotations"]][::5]
    ours = [encoding.ids for encoding in tokenizer.encode_batch(captions)]
    assert ours == reference(captions)["input_ids"]


def test_last_token_index_counts_from_the_start_marker(tokenizer):
    text = "A photograph of an aeroplane, Two dogs"
    # <SoT>0 a1 photograph2 of3 an4 aerop5 lane6 ,7 two8 dogs9
    for word, position in [("A", 1), ("aerop", 5), ("aeroplane", 6), ("Two", 8), ("dogs", 9)]:
        assert last_token_index(tokenizer, text, text.index(word) + len(word)) == position
    assert last_token_index(tokenizer, text, 0) == 0
    assert last_token_index(tokenizer, "", 0) == 0
    assert last_token_index(tokenizer, text, 10_000) == 9


def test_last_token_index_looks_beyond_the_token_limit(tokenizer):
    text = "red " * 100 + "cat"
    assert last_token_index(tokenizer, text, len(text)) == 101


def test_offsets_are_of_the_text_as_given(tokenizer):
    # Lower-casing makes two characters of the first; blanks are merged before splitting.
    text = "İ   e\u0301 cat dog"
    end = text.index("cat") + 3
    without = last_token_index(tokenizer, text, text.index("cat"))
    assert last_token_index(tokenizer, text, end) == without + 1


@settings(max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40), cut=st.integers(0, 40))
def test_last_token_index_grows_with_the_text(tokenizer, text, cut):
    positions = [last_token_index(tokenizer, text, end) for end in (cut, cut + 1, len(text))]
    assert positions[0] <= positions[1]
    assert max(positions) <= len(tokenizer.encode(text).ids) - 2


@pytest.mark.parametrize("drop", [(), ("tokenizer.json",), ("vocab.json", "merges.txt")])
def test_folder_equals_transformers(golden_model, tmp_path, drop):
    shutil.copytree(golden_model / "tokenizer", tmp_path / "tokenizer")
    for name in drop:
        (tmp_path / "tokenizer" / name).unlink()
    tokenizer, max_length = model_tokenizer(str(tmp_path))
    reference = CLIPTokenizer.from_pretrained(golden_model / "tokenizer", model_max_length=10**6)
    assert max_length == 77
    for text in ["a photograph of a cat", "Bird, DOG!", "qzx 123 é", *ODD_TEXTS]:
        assert tokenizer.encode(text).ids == reference(text)["input_ids"]


def test_folder_with_a_learnt_word(golden_model, tmp_path):
    shutil.copytree(golden_model / "tokenizer", tmp_path / "tokenizer")
    file = tmp_path / "tokenizer" / "tokenizer.json"
    data = json.loads(file.read_text("utf-8"))
    data["added_tokens"].append(
        {"id": 232, "content": "<cat-toy>", "special": False, "normalized": False}
    )
    file.write_text(json.dumps(data), "utf-8")
    tokenizer, _ = model_tokenizer(str(tmp_path))
    assert 232 in tokenizer.encode("a photo of <cat-toy>").ids


def test_length_comes_from_the_folder(golden_model, tmp_path):
    shutil.copytree(golden_model / "tokenizer", tmp_path / "tokenizer")
    file = tmp_path / "tokenizer" / "tokenizer_config.json"
    for written, expected in [(48, 48), (10**30, 77), (1e30, 77)]:
        file.write_text(json.dumps({"model_max_length": written}), "utf-8")
        assert model_tokenizer(str(tmp_path))[1] == expected
    file.unlink()
    assert model_tokenizer(str(tmp_path))[1] == 77


def test_the_embedded_model_has_its_own_whatever_lies_around(golden_model, tmp_path, monkeypatch):
    shutil.copytree(golden_model / "tokenizer", tmp_path / "mini" / "tokenizer")
    monkeypatch.chdir(tmp_path)
    tokenizer, max_length = model_tokenizer("mini")
    assert max_length == 32
    assert tokenizer.encode("A zebra, and a CAT!").tokens == [
        "<|startoftext|>", "a", "<unk>", "and", "a", "cat", "<|endoftext|>",
    ]  # fmt: skip


def test_a_damaged_tokenizer_of_words_is_refused(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    file = tmp_path / "tokenizer" / "tokenizer.json"
    file.write_text('{"model": {"type": "WordLevel", "vocab": 3}}')
    with pytest.raises(ConfigError, match="cannot be read as a tokenizer"):
        model_tokenizer(str(tmp_path))


@pytest.mark.parametrize("model_id", ["", "random:sd15", "owner/name"])
def test_other_models_have_clips_tokenizer(golden_model, tmp_path, monkeypatch, model_id):
    # A folder of that name in the working directory must not be taken for the embedded model.
    for name in ("mini", "."):
        shutil.copytree(golden_model / "tokenizer", tmp_path / name / "tokenizer")
    monkeypatch.chdir(tmp_path)
    tokenizer, max_length = model_tokenizer(model_id)
    assert (tokenizer.get_vocab_size(), max_length) == (49_408, 77)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("tokenizer.json", b"{", "cannot be read as JSON"),
        ("tokenizer.json", b"[]", "expected a JSON object"),
        ("tokenizer.json", b"\xff", "cannot be read"),
        ("tokenizer.json", b"[" * 100_000, "cannot be read as JSON"),
        ("tokenizer.json", b'{"model": {"type": "WordPiece"}}', "expected a BPE model"),
        ("tokenizer.json", b'{"model": {"vocab": {}}}', "expected a vocabulary"),
        ("tokenizer.json", b'{"model": {"vocab": {"a": true}}}', "expected a vocabulary"),
        ("tokenizer.json", b'{"model": {"vocab": {"a": 0}, "merges": 3}}', "list of merges"),
        ("tokenizer.json", b'{"model": {"vocab": {"a": 0}, "merges": ["a b"]}}', "merge 0 is"),
        ("tokenizer.json", b'{"model": {"vocab": {"a": 0}, "merges": [["a"]]}}', "merge 0 is"),
        ("tokenizer.json", b'{"model": {"vocab": {"a": 0}, "merges": []}}', "<|endoftext|>"),
        (
            "tokenizer.json",
            b'{"model": {"vocab": {"a": 0}, "merges": []}, "added_tokens": [{"id": "x"}]}',
            "expected added tokens",
        ),
        ("tokenizer_config.json", b'{"model_max_length": "many"}', "model_max_length"),
        ("tokenizer_config.json", b'{"model_max_length": NaN}', "model_max_length"),
        ("tokenizer_config.json", b'{"bos_token": 3}', "special token as text"),
    ],
)
def test_damaged_folder_is_named(golden_model, tmp_path, name, content, complaint):
    shutil.copytree(golden_model / "tokenizer", tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        model_tokenizer(str(tmp_path))
    assert complaint in str(caught.value)
    assert "tokenizer" in str(caught.value)


def test_missing_merges_are_named(golden_model, tmp_path):
    shutil.copytree(golden_model / "tokenizer", tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "tokenizer.json").unlink()
    (tmp_path / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(ConfigError, match=r"merges.txt does not exist"):
        model_tokenizer(str(tmp_path))


def test_neither_torch_nor_transformers_is_imported(repository):
    code = (
        "import sys, ovamgen.tokenizer, ovamgen.plan.summary; "
        "sys.exit(bool({'torch', 'transformers', 'ray', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=repository).returncode == 0
