"""Which layers of an attention hold its heads: those of the BERT and DistilBERT of the `transformers` library."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

NAMES = (("num_attention_heads", "all_head_size"), ("n_heads", "dim"))
"""What attributes are called that say how many heads there are, and how many channels in all of them."""
HOLDERS = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"))
"""What the dense layers are called that make queries, keys and values of all heads."""


@dataclass(frozen=True)
class Attention:
    """Heads that stand one after the other in the outputs of three dense layers."""

    module: str
    size: int
    """Channels of one head."""
    holders: tuple[str, ...]
    """Queries first; a head can only be removed from all of them, and as a whole."""


def find_attentions(model: nn.Module) -> tuple[Attention, ...]:
    """All of those that say how large a head is and name their layers as above."""
    found = []
    for name, module in model.named_modules():
        size = getattr(module, "attention_head_size", None)
        for holders in HOLDERS:
            layers = [getattr(module, holder, None) for holder in holders]
            if isinstance(size, int) and all(isinstance(layer, nn.Linear) for layer in layers):
                found.append(Attention(name, size, tuple(f"{name}.{holder}".lstrip(".") for holder in holders)))
    return tuple(found)


def count_heads(model: nn.Module) -> None:
    """Tell attentions how many heads they have left: some versions of the library ask that, and not their layers."""
    for one in find_attentions(model):
        module, channels = model.get_submodule(one.module), _channels(model.get_submodule(one.holders[0]))
        for heads, width in NAMES:
            if hasattr(module, heads):
                setattr(module, heads, channels // one.size)
                setattr(module, width, channels)


def _channels(layer: nn.Module) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else 0
