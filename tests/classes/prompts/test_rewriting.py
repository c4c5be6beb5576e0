"""Rewrites by a language model: a small GPT-2 that learns here what to answer to four captions."""

import csv

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from ovamgen.classes.loading import load_class_set
from ovamgen.classes.prompts.compose import Prompt, compose_prompts
from ovamgen.classes.prompts.rewriting import Rewriter, rewrite_prompts
from ovamgen.classes.prompts.templates import load_templates
from ovamgen.errors import ConfigError
from tests.cli.test_cli import ovamgen

CLASSES = load_class_set("cat,dog")
ANSWERS = {
    "a cat at night": "A kitten sleeps under the moon .",
    "a dog at noon": "An animal rests at noon",
    "a cat beside a dog": "the dogs look at a cat",
    "a dog in winter": "a dog chases a cat",
}
"""One that fits, one that lost its dog, one that fits, and one with a cat that nobody asked for."""


def prompt(text):
    found = {mention.entry.id: mention.entry for mention in CLASSES.find(text)}
    return Prompt(text=text, targets=tuple(found.values()))


@pytest.fixture(scope="module", params=["examples", "conversation"])
def folder(request, tmp_path_factory):
    """The model in a folder, once for each way of asking."""
    path = tmp_path_factory.mktemp("llm")
    words = sorted({word for pair in ANSWERS.items() for text in pair for word in text.split()})
    vocabulary = {token: number for number, token in enumerate(["<end>", "<other>", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<other>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", unk_token="<other>", model_max_length=256
    )
    if request.param == "conversation":
        tokenizer.chat_template = "{{ messages[0]['content'] }} answer"
    tokenizer.save_pretrained(path)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=256,
        n_embd=48,
        n_layer=2,
        n_head=2,
        eos_token_id=0,
        bos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config)
        model.save_pretrained(path)
        learn(model, tokenizer, Rewriter(str(path), "cpu"))
    model.save_pretrained(path)
    return str(path)


def learn(model, tokenizer, rewriter):
    """Trains until each answer is the likeliest by far."""
    rows, labels = [], []
    for text, answer in ANSWERS.items():
        asked = tokenizer(rewriter.question(text))["input_ids"]
        answered = [*tokenizer(answer)["input_ids"], 0]
        rows.append(asked + answered)
        labels.append([-100] * len(asked) + answered)
    longest = max(map(len, rows))  # what fills up stands behind the text, which does not see it
    rows = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    labels = torch.tensor([label + [-100] * (longest - len(label)) for label in labels])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(400):
        loss = model(input_ids=rows, labels=labels).loss
        if loss < 0.005:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise AssertionError(f"the model did not learn its answers: loss {loss}")


def test_rewrites_that_lose_a_word_or_add_a_class_are_thrown_away(folder):
    prompts = [prompt(text) for text in ANSWERS]
    done, rewritten = rewrite_prompts(prompts, CLASSES, Rewriter(folder, "cpu"))
    assert [new.text for new in done] == [
        "A kitten sleeps under the moon",
        "a dog at noon",
        "the dogs look at a cat",
        "a dog in winter",
    ]
    assert rewritten == 2
    assert [new.targets for new in done] == [old.targets for old in prompts]


def test_a_text_does_not_depend_on_those_beside_it(folder):
    rewriter = Rewriter(folder, "cpu")
    together = list(rewriter.rewrite(list(ANSWERS)))
    assert [next(rewriter.rewrite([text])) for text in ANSWERS] == together


def test_no_two_rewrites_are_alike(folder):
    prompts = [prompt("a cat at night"), prompt("a cat at night"), prompt("a kitten sleeps")]
    done, rewritten = rewrite_prompts(prompts, CLASSES, Rewriter(folder, "cpu"))
    assert [new.text for new in done[:2]] == ["A kitten sleeps under the moon", "a cat at night"]
    assert rewritten <= 2


def test_the_command_line(folder, tmp_path):
    options = ["--classes", "cat,dog", "--per-class", 3, "--seed", 4, "--llm", folder]
    done = ovamgen("prompts", *options, "--device", "cpu", "--out", tmp_path / "a.csv")
    assert done.returncode == 0, done.stderr
    composed = compose_prompts(CLASSES, load_templates(), per_class=3, seed=4)
    expected, rewritten = rewrite_prompts(composed, CLASSES, Rewriter(folder, "cpu"))
    assert f"{rewritten} of them rewritten" in done.stdout
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [row["caption"] for row in csv.DictReader(file)] == [new.text for new in expected]


@pytest.mark.parametrize("name", ["empty", "no such folder"])
def test_a_folder_that_is_no_model(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="cannot be loaded as a text-generation model") as caught:
        Rewriter(str(tmp_path / name), "cpu")
    assert "\n" not in str(caught.value)
