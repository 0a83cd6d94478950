"""What a network costs with some of its channels and blocks removed: multiply-accumulates, weights, or more.

Every layer has a price that depends on how many channels its own sides have lost, so that what a cut saves is known
without making it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from edgeprune.errors import ConfigError
from edgeprune.prune.attention import find_attentions
from edgeprune.prune.sides import CONVOLUTIONS, Axis, directions, gates, side
from edgeprune.prune.trial import Trial

SideName = tuple[str, Axis]
Lost = Mapping[SideName, int]
"""Channels that sides of layers have lost."""


@dataclass(frozen=True)
class Price:
    """What one layer costs."""

    module: str
    """It costs nothing once a block around it is removed; empty where that is never."""
    sides: tuple[SideName, ...]
    of: Callable[[Sequence[int]], float]
    """Of the channels that each of the sides has lost, and last of the layers of a stack."""


@dataclass
class Bill:
    """The prices of all layers, added up, and kept up to date as more is removed."""

    prices: Sequence[Price]
    lost: Counter[SideName] = field(default_factory=Counter)
    blocks: set[str] = field(default_factory=set)
    total: float = 0.0

    def __post_init__(self) -> None:
        self._at = defaultdict[SideName, list[int]](list)
        for number, price in enumerate(self.prices):
            for one in price.sides:
                self._at[one].append(number)
        self._paid = [self._price(price) for price in self.prices]
        self.total = sum(self._paid)

    def copy(self) -> Bill:
        """Another one, to try things on."""
        return Bill(self.prices, Counter(self.lost), set(self.blocks))

    def remove(self, lost: Lost, block: str = "") -> float:
        """Take channels, or a block, off; what that saves."""
        self.lost.update(lost)
        touched = {number for one in lost for number in self._at[one]}
        if block:
            self.blocks.add(block)
            module = block.partition(":")[0]
            inside = (i for i, price in enumerate(self.prices) if f"{price.module}.".startswith(f"{module}."))
            touched.update(inside)
        before = self.total
        for number in touched:
            price = self._price(self.prices[number])
            self.total += price - self._paid[number]
            self._paid[number] = price
        return before - self.total

    def saves(self, lost: Lost, block: str = "") -> float:
        """What removing that would save."""
        if block:
            return self.copy().remove(lost, block)
        saved = self.remove(lost)
        self.remove({one: -count for one, count in lost.items()})
        return saved

    def of(self, module: str) -> float:
        """What one layer costs now."""
        return sum(paid for price, paid in zip(self.prices, self._paid, strict=True) if price.module == module)

    def _price(self, price: Price) -> float:
        gone = 0
        for block in self.blocks:
            module, _, number = block.partition(":")
            if number and module == price.module:
                gone += 1
            elif not number and f"{price.module}.".startswith(f"{module}."):
                return 0.0
        return price.of([*(self.lost[one] for one in price.sides), gone])


def macs(trial: Trial) -> tuple[Price, ...]:
    """Multiply-accumulates for one sample: of convolutions, dense and recurrent layers, and of attention."""
    model, uses = trial.model, _uses(trial)
    return tuple(
        price
        for name, layer in model.named_modules()
        if (price := _multiplied(name, layer, uses.get(name, 0))) is not None
    ) + tuple(_attended(trial))


def weights(trial: Trial) -> tuple[Price, ...]:
    """Numbers in the weights of convolutions, dense, recurrent and embedding layers."""
    model, uses = trial.model, _uses(trial)
    found = []
    for name, layer in model.named_modules():
        price = _multiplied(name, layer, 1 if name in uses or isinstance(layer, nn.Embedding) else 0)
        found += [price] if price is not None else []
    return tuple(found)


PRICES: Mapping[str, Callable[[Trial], tuple[Price, ...]]] = {"macs": macs, "weights": weights}
WORDS = {"macs": "multiply-accumulates", "weights": "weights", "latency": "latency"}


def check_budget(keep: float, cost: str | None, align: int) -> None:
    """Refuse with ConfigError a fraction, a cost (None: its prices are given) or a multiple that means nothing."""
    if not 0 < keep <= 1:
        raise ConfigError(f"keep {keep:g}: write the fraction that may stay, above 0, up to 1")
    if cost is not None and cost not in PRICES:
        raise ConfigError(f"cost {cost!r}: write one of {', '.join(PRICES)}, or give prices")
    if not isinstance(align, int) or align < 1:
        raise ConfigError(f"align {align!r}: write a number of channels, 1 or more")


def _multiplied(name: str, layer: nn.Module, uses: int) -> Price | None:
    """Of the elements of a layer's weights, each as often as it is used."""
    if not uses:
        return None
    if isinstance(layer, nn.Embedding):
        return Price(name, ((name, "out"),), lambda lost: uses * layer.num_embeddings * (layer.embedding_dim - lost[0]))
    if isinstance(layer, nn.RNNBase):
        return Price(name, ((name, "out"), (name, "in")), _recurrent(layer, uses))
    if not isinstance(layer, (*CONVOLUTIONS, nn.Linear)):
        return None
    outputs, inputs = side(layer, "out").width, layer.weight.shape[1]
    rest = uses * layer.weight.numel() // (outputs * inputs)

    def price(lost: Sequence[int]) -> float:
        return rest * (outputs - lost[0]) * (inputs - lost[1])

    return Price(name, ((name, "out"), (name, "in")), price)


def _recurrent(layer: nn.RNNBase, uses: int) -> Callable[[Sequence[int]], float]:
    many, both, hidden, inputs, layers = (
        gates(layer),
        directions(layer),
        layer.hidden_size,
        layer.input_size,
        layer.num_layers,
    )

    def price(lost: Sequence[int]) -> float:
        units, given = hidden - lost[0], inputs - lost[1]
        first, others = given + units, both * units + units
        return uses * both * many * units * (first + (layers - lost[2] - 1) * others)

    return price


def _attended(trial: Trial) -> Iterator[Price]:
    """Queries times keys, and the result times values: 2 T^2 for each channel of every head."""
    tokens = _tokens(trial)
    for one in find_attentions(trial.model):
        query = one.holders[0]
        if query in tokens:
            channels = side(trial.model.get_submodule(query), "out").width
            times = 2 * tokens[query] ** 2

            def price(lost: Sequence[int], channels: int = channels, times: int = times) -> float:
                return times * (channels - lost[0])

            yield Price(one.module, ((query, "out"),), price)


def _uses(trial: Trial) -> dict[str, int]:
    """How often each layer applies its weights to one sample."""
    found = Counter[str]()

    def count(name: str, layer: nn.Module, given: Any) -> None:
        if isinstance(layer, nn.RNNBase):
            found[name] += given[0].numel() // given[0].shape[-1]
        elif isinstance(layer, nn.Linear):
            found[name] += given.numel() // given.shape[-1]
        else:
            found[name] += given.numel() // given.shape[1]

    _watch(trial, (*CONVOLUTIONS, nn.Linear, nn.RNNBase), count)
    return dict(found)


def _tokens(trial: Trial) -> dict[str, int]:
    """How many tokens each dense layer is given in one call."""
    found: dict[str, int] = {}

    def count(name: str, _: nn.Module, given: Tensor) -> None:
        found[name] = math.prod(given.shape[1:-1])

    _watch(trial, (nn.Linear,), count)
    return found


def _watch(trial: Trial, kinds: tuple[type[nn.Module], ...], see: Callable[[str, nn.Module, Any], None]) -> None:
    hooks = []
    for name, layer in trial.model.named_modules():
        if isinstance(layer, kinds):

            def note(layer: nn.Module, _: Any, given: Any, name: str = name) -> None:
                see(name, layer, given)

            hooks.append(layer.register_forward_hook(note))
    try:
        trial.outputs(trial.model)
    finally:
        for hook in hooks:
            hook.remove()


def total(prices: Iterable[Price]) -> float:
    """What the whole network costs."""
    return Bill(tuple(prices)).total
