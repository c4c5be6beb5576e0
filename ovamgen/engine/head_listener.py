"""What is asked of one drawing by a head: texts, pairs and a bank, each by itself."""

from __future__ import annotations

from ovamgen.attribution.interface import ClassTarget
from ovamgen.attribution.method import build_method
from ovamgen.attribution.targets import pair_targets
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.attribution.trained_head import HeadUse
from ovamgen.engine.listeners import Answer, Asked, Listener
from ovamgen.engine.opened_model import PipelineAttention


def listen_with_head(
    method: str, attention: PipelineAttention, asked: Asked, head: HeadUse
) -> Listener:
    """Probability maps of everything that is asked; where nothing is, of the prompt itself.

    The arrays are ``text_0``, ``text_1``, ... (1, H, W), ``token_pairs`` (N, 1, H, W) and ``bank``
    (K, 1, H, W): a head has no map of a background.

    Raises:
        ConfigError: the head is one of another model or method.
        MethodError: a text has no words, or the UNet has no such features.
    """
    nothing = not asked.texts and asked.pairs is None and asked.bank is None
    parts: list[tuple[str, list[ClassTarget]]] = []
    for index, text in enumerate((asked.prompt,) if nothing else asked.texts):
        encoded = attention.encode(text)
        target = ClassTarget(
            name=text, rows=encoded.rows, channel=encoded.last_subtoken(), phrase=text
        )
        parts.append((f"text_{index}", [target]))
    if asked.pairs is not None:
        names = tuple(f"pair {index}" for index in range(len(asked.pairs)))
        given = TokenBank(class_names=names, pairs=asked.pairs)
        parts.append(
            ("token_pairs", list(pair_targets(given, dict(zip(names, names, strict=True)))))
        )
    if asked.bank is not None:
        phrases = {name: name for name in asked.bank.class_names}
        parts.append(("bank", list(pair_targets(asked.bank, phrases))))
    targets = [target for _, some in parts for target in some]
    sink = build_method(method, attention, targets, head=head).open([asked.prompt])

    def answers() -> list[Answer]:
        found, maps = [], sink.class_maps()[0]
        for array, some in parts:
            own, maps = maps[: len(some)], maps[len(some) :]
            labels = tuple(target.name for target in some)
            shape = (1,) if array.startswith("text_") else (len(some), 1)
            found.append(Answer(array, labels, own, shape))
        return found

    def meaning() -> str:
        return f"probabilities of pixels by the {method} head {head.head.sha256[:12]}"

    classes = asked.bank.class_names if asked.bank else ()
    return Listener(sink, answers, lambda: 1, meaning, classes)
