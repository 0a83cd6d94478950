"""The ways that a network can take: what its inputs are may decide which of its layers run.

One example shows one way. Wherever Python reads a number off a tensor that depends on the inputs (`if x.mean() > 0`,
`int(x.argmax())`), the network is run again as if another had been read; and on a few other inputs, since a way may
also be chosen where no number is read (by how many elements a mask leaves). Ways that compute the same count once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from edgeprune.models.calling import run

Number = bool | int | float
RUNS, WAYS = 48, 8
"""Most runs that look for ways, and most ways that are told."""
READS = ("aten::_local_scalar_dense", "aten::equal", "aten::allclose", "aten::is_nonzero", "aten::item")
OF_SHAPES = ("_like", "new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided")
"""How operations end that look at a tensor's shape, not at its values."""


@dataclass(frozen=True)
class Way:
    """Inputs, and what is read off tensors on the way, in that order."""

    inputs: Mapping[str, Tensor]
    read: tuple[Number, ...] = ()
    module: str | None = None
    """That decided to take this way and not that of the example; None of that one, and where it is not known."""

    def outputs(self, model: nn.Module) -> dict[str, Tensor]:
        """What a network, this one or one made of it, answers when it goes this way."""
        with torch.no_grad():
            if not self.read:
                return run(model, self.inputs)
            with _Run(model, self):
                return run(model, self.inputs)


def find_ways(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Way, ...]:
    """Those that were found, the example's first. Random inputs; the network is one that may be run at will."""
    first = Way(inputs)
    begun = _run(model, first, None)
    if begun is None:  # what it does cannot be watched
        return (first,)
    longest = 20 * len(begun.trace) + 1000
    found = {tuple(begun.trace): begun.way}
    tried = deque([*_others(begun, 0), *_on_other_inputs(inputs)])
    runs = 0
    while tried and runs < RUNS and len(found) < WAYS:
        way = tried.popleft()
        runs += 1
        seen = _run(model, way, longest)
        if seen is not None and tuple(seen.trace) not in found:
            found[tuple(seen.trace)] = seen.way
            tried += _others(seen, len(way.read))
    return tuple(found.values())


def _on_other_inputs(inputs: Mapping[str, Tensor]) -> Iterator[Way]:
    generator = torch.Generator().manual_seed(1)
    changes: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: -x,
        lambda x: torch.randn(x.shape, generator=generator).to(x.dtype),
        lambda x: 100 * x,
        lambda x: 0 * x,
    )
    if any(one.is_floating_point() for one in inputs.values()):
        for change in changes:
            yield Way({name: change(one) if one.is_floating_point() else one for name, one in inputs.items()})


def _others(seen: _Run, start: int) -> list[Way]:
    """The same way up to one of the reads from `start` on, and another number there."""
    read, inputs = seen.way.read, seen.way.inputs
    others = [
        [Way(inputs, (*read[:i], other), seen.modules[i]) for other in _other(read[i])] for i in range(start, len(read))
    ]
    return [way for row in zip_longest(*others) for way in row if way is not None]


def _other(number: Number) -> tuple[Number, ...]:
    """What could have been read: on both sides of what it may be compared with."""
    if isinstance(number, bool):
        return (not number,)
    if isinstance(number, int):
        return (0 if number else 1, number + 1, number - 1)
    return (0.0 if number else 1.0, -number or -1.0, 1000.0, -1000.0)


def _run(model: nn.Module, way: Way, longest: int | None) -> _Run | None:
    """What was seen; None where the network fails on that way, or finds no end."""
    seen = _Run(model, way, longest)
    try:
        with torch.no_grad(), seen:
            run(model, way.inputs)
    except Exception:  # whatever a module of the user's raises where it is told a number that cannot be
        return None
    return seen


class _EndlessError(Exception):
    """A way that goes on and on."""


@dataclass
class _Seen:
    """Tensors are kept alive, so that no other gets the place of one that is gone."""

    kept: list[Tensor] = field(default_factory=list)
    numbers: dict[int, object] = field(default_factory=dict)
    places: set[int] = field(default_factory=set)
    """In memory, of what depends on the values of the inputs."""


class _Run(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches a network run, and tells it what `way.read` says; further numbers are read as they are."""

    def __init__(self, model: nn.Module, way: Way, longest: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = list[str]()
        self.modules = list[str]()
        self._model, self._way, self._longest = model, way, longest
        self._read, self._stack, self._open = list[Number](), [""], ExitStack()
        named = [*model.named_parameters(), *model.named_buffers()]
        self._seen = _Seen(numbers={id(one): name for name, one in named})
        for one in way.inputs.values():
            self._seen.kept.append(one)
            self._seen.places |= _places(one)

    @property
    def way(self) -> Way:
        """With all that was read."""
        return Way(self._way.inputs, tuple(self._read), self._way.module)

    def __enter__(self) -> _Run:
        self._open.enter_context(_standing(self._model, self._stack))
        self._open.enter_context(_Lists())
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._open.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        depends = any(_places(one) & self._seen.places for one in given)
        name = func._schema.name
        self.trace.append(f"{func}{tree_map(self._named, (args, kwargs))}")
        if self._longest is not None and len(self.trace) > self._longest:
            raise _EndlessError
        result = func(*args, **kwargs)
        if depends and name in READS:
            return self._told(result)
        made = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        tree_map(self._named, made)
        if depends and not name.endswith(OF_SHAPES):
            for one in (*made, *_written(func, args, kwargs)):
                self._seen.places |= _places(one)
        return result

    def _told(self, number: Number) -> Number:
        told = self._way.read[len(self._read)] if len(self._read) < len(self._way.read) else number
        self._read.append(told)
        self.modules.append(self._stack[-1])
        return told

    def _named(self, one: object) -> object:
        """Tensors by when they came first, so that the same way gives the same trace; values are left out."""
        if isinstance(one, Tensor):
            self._seen.kept.append(one)
            return f"%{self._seen.numbers.setdefault(id(one), len(self._seen.numbers))}"
        return "float" if isinstance(one, float) else one


class _Lists(TorchFunctionMode):
    """Lets `tolist` read numbers one by one: it looks at memory, where nothing can be watched."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.tolist:
            (tensor,) = args
            return [one.tolist() for one in tensor] if tensor.ndim else tensor.item()
        return func(*args, **(kwargs or {}))


@contextmanager
def _standing(model: nn.Module, stack: list[str]) -> Iterator[None]:
    """Keep in `stack` the names of the modules that are running, the innermost last."""
    hooks: list[Any] = []

    def leave(*_: object) -> None:
        stack.pop()

    for name, module in model.named_modules():

        def enter(*_: object, name: str = name) -> None:
            stack.append(name)

        hooks.append(module.register_forward_pre_hook(enter))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """What an operation changes in place."""
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[number] if number < len(args) else kwargs.get(argument.name)
            yield from (one for one in tree_leaves(given) if isinstance(one, Tensor))


def _places(tensor: Tensor) -> set[int]:
    """Where its elements lie."""
    try:
        return {tensor.untyped_storage().data_ptr()} - {0}
    except (NotImplementedError, RuntimeError):  # sparse
        return set()
