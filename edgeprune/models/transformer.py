"""Encoders of text with random weights: BERT in two sizes and DistilBERT, each with a head for its task.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019; Turc et al.,
"Well-Read Students Learn Better", 2019 (mini); Sanh et al., "DistilBERT", 2019. The networks are those of the
`transformers` library, so that their weights load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from edgeprune.errors import ModelError
from edgeprune.judge import CLASSIFICATION, QUESTIONS, REGRESSION
from edgeprune.registry import require

if TYPE_CHECKING:
    from transformers import PretrainedConfig

POSITIONS = 512
"""That published weights have; longer texts get as many as they need."""
ATTENTION = "eager"
"""Spelled out as products and a softmax, which every runtime quantizes; the fused one exports to more nodes."""


def bert_base(*, length: int, vocabulary: int, classes: int, task: str) -> nn.Module:
    """12 layers of 768, 12 heads; 110 million parameters."""
    return bert(length, vocabulary, classes, task, layers=12, width=768, heads=12)


def bert_mini(*, length: int, vocabulary: int, classes: int, task: str) -> nn.Module:
    """4 layers of 256, 4 heads; 11 million parameters, of which 8 million embed tokens."""
    return bert(length, vocabulary, classes, task, layers=4, width=256, heads=4)


def distilbert(*, length: int, vocabulary: int, classes: int, task: str) -> nn.Module:
    """6 layers of 768, 12 heads, without token types; 67 million parameters."""
    require("transformers", extra="text")
    from transformers import DistilBertConfig

    positions = max(POSITIONS, length)
    return _with_head(DistilBertConfig(vocab_size=vocabulary, max_position_embeddings=positions), classes, task)


def head(task: str, kind: str) -> str:
    """The class of `transformers` that puts a task's head on the networks of a kind: `Auto`, `Bert`, `DistilBert`.

    Raises ModelError where there is none for the task.
    """
    names = {
        CLASSIFICATION: "ForSequenceClassification",
        REGRESSION: "ForSequenceClassification",
        QUESTIONS: "ForQuestionAnswering",
    }
    if task not in names:
        raise ModelError(f"task {task}: transformers have heads for {', '.join(names)}: give the task (--task)")
    return ("AutoModel" if kind == "Auto" else kind) + names[task]


def bert(length: int, vocabulary: int, classes: int, task: str, *, layers: int, width: int, heads: int) -> nn.Module:
    """A BERT of any size; its inner layers are four times as wide."""
    require("transformers", extra="text")
    from transformers import BertConfig

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=max(POSITIONS, length),
    )
    return _with_head(config, classes, task)


def _with_head(config: PretrainedConfig, classes: int, task: str) -> nn.Module:
    import transformers

    kind = type(config).__name__.removesuffix("Config")
    config._attn_implementation = ATTENTION
    config.num_labels = 2 if task == QUESTIONS else classes  # a start and an end
    model: nn.Module = getattr(transformers, head(task, kind))(config)
    return model
