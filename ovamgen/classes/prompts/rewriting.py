"""Prompts in the words of a language model: rewritten where the rewrite still says what it must.

The one module of prompts that imports torch and transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.phrases import words_of
from ovamgen.classes.prompts.compose import Prompt, names_exactly
from ovamgen.errors import ConfigError

_BATCH = 8
_NEW_TOKENS = 64
_MOST_WORDS = 50
"""Words of a rewrite: text encoders read 77 tokens."""

_TASK = (
    "Rewrite the caption of a photograph so that it sounds like a person wrote it. Keep everything "
    "that it names, add nothing else, and answer with one line."
)
_EXAMPLES = (
    (
        "a photo of an old lamp and a chair in a bright room",
        "An old lamp stands beside a chair in a room full of light",
    ),
    ("a pumpkin in a garden in autumn", "A ripe pumpkin lies in the garden on an autumn day"),
)


class Rewriter:
    """A text-generation model of transformers; greedy, so that equal texts become equal ones."""

    def __init__(self, model: str, device: str) -> None:
        """The model in a local folder, or of a hub id (``ID@REVISION``).

        Raises:
            ConfigError: it cannot be loaded; weights must be safetensors.
        """
        name, _, revision = (model, "", "") if Path(model).exists() else model.partition("@")
        known: dict[str, Any] = {"revision": revision} if revision else {}
        dtype = "auto" if device == "cuda" else torch.float32
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", **known)
            network = AutoModelForCausalLM.from_pretrained(
                name, use_safetensors=True, dtype=dtype, **known
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"--llm {model} cannot be loaded as a text-generation model: {reason}"
            ) from None
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = network.eval().to(device)

    def rewrite(self, texts: Sequence[str]) -> Iterator[str]:
        """What the model makes of each text, in order: the first line of its answer."""
        for start in range(0, len(texts), _BATCH):
            asked = [self.question(text) for text in texts[start : start + _BATCH]]
            # a chat template has the special tokens in it
            inputs = self._tokenizer(
                asked,
                return_tensors="pt",
                padding=True,
                add_special_tokens=not self._tokenizer.chat_template,
                return_token_type_ids=False,
            ).to(self._model.device)
            with torch.inference_mode():
                answered = self._model.generate(
                    **inputs,
                    max_new_tokens=_NEW_TOKENS,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    pad_token_id=self._tokenizer.pad_token_id,
                )
            answers = answered[:, inputs["input_ids"].shape[1] :]
            for answer in self._tokenizer.batch_decode(answers, skip_special_tokens=True):
                yield _first_line(answer)

    def question(self, text: str) -> str:
        """What the model is asked: as a conversation where it knows any, else by examples."""
        if self._tokenizer.chat_template:
            messages = [{"role": "user", "content": f"{_TASK}\n\n{text}"}]
            return self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        shown = "".join(f"Caption: {plain}\nRewritten: {new}\n\n" for plain, new in _EXAMPLES)
        return f"{_TASK}\n\n{shown}Caption: {text}\nRewritten:"


def rewrite_prompts(
    prompts: Sequence[Prompt], classes: ClassSet, rewriter: Rewriter
) -> tuple[list[Prompt], int]:
    """The prompts as the model rewrote them, and how many those are.

    A rewrite that no longer names a target, names another class, is too long, or is what another
    prompt says is thrown away: the prompt stays as it was.
    """
    taken = {prompt.text.lower() for prompt in prompts}
    result = []
    for prompt, text in zip(prompts, rewriter.rewrite([p.text for p in prompts]), strict=True):
        fits = (
            text.lower() not in taken
            and len(words_of(text)) <= _MOST_WORDS
            and names_exactly(classes, text, prompt.targets)
        )
        if fits:
            taken.add(text.lower())
        result.append(replace(prompt, text=text) if fits else prompt)
    rewritten = sum(new is not old for new, old in zip(result, prompts, strict=True))
    return result, rewritten


def _first_line(answer: str) -> str:
    """The first line with anything in it, as plans clean it, without quotes around it."""
    lines = (" ".join(line.split()).strip(" .,\"'\u201c\u201d") for line in answer.splitlines())
    line = next(filter(None, lines), "")
    return line if line.isprintable() else ""
