"""A whole job as data: the model, its data and splits, how to train, prune and quantize it, and the budgets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeprune.errors import ConfigError
from edgeprune.registry import unknown

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "mixed", "int4")
QUANTIZED = ("int8", "mixed", "int4")
"""Those of a graph with Q/DQ pairs."""
PRUNERS = ("none", "uniform", "magnitude", "taylor", "loss", "dynamic", "rl")
WHILE_TRAINING = ("loss", "dynamic", "rl")
"""Pruners that work while the network is trained, from its first weights on."""
Correction = Literal["smoothing", "equalization", "rounding", "bias"]
CORRECTIONS: tuple[str, ...] = get_args(Correction)
ObserverName = Literal["minmax", "moving-average", "percentile", "mse", "entropy"]
OBSERVERS: tuple[str, ...] = get_args(ObserverName)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rows(_Part):
    """A row range of one source, `start` included, `stop` not (None: to the end)."""

    source: str
    """`<data set>:<stored split>`, e.g. `cifar10:train`."""
    start: Annotated[int, Field(ge=0)] = 0
    stop: Annotated[int, Field(gt=0)] | None = None

    def __str__(self) -> str:
        return f"{self.source}[{self.start}:{'' if self.stop is None else self.stop}]"


class Normalize(_Part):
    """What is done to an 8-bit image: (pixel / 255 - mean) / std per channel; overrides the data set's own."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class DataPart(_Part):
    """Which samples do what; the three splits that judge must be disjoint."""

    name: str = "digits"
    """A data set's name or a folder."""
    normalize: Normalize | None = None
    preprocess: Path | None = None
    """A file that says what is done to samples; None: what the data set says."""
    length: Annotated[int, Field(gt=2)] | None = None
    """Tokens of a text at most; None: what the data set says."""
    vocabulary: Path | None = None
    """A WordPiece vocabulary or a tokenizer.json; None: that of bert-base-uncased, beside the data or from the hub."""
    task: Literal["classification", "regression", "question-answering", "none"] | None = None
    """What the model is asked; None: what the data set says."""
    metric: str | None = None
    """`file.py:function` of outputs by name and labels that scores answers in place of the data set's own metrics."""
    inputs: tuple[str, ...] = ()
    """`name:dtype[shape]` of the model's inputs, where they are not to be guessed."""
    train: Rows | None = None
    calibrate: Rows | None = None
    select: Rows | None = None
    report: Rows | None = None
    also_report: dict[str, Rows] = {}
    """Further splits that are reported, each apart, and decide nothing."""
    calibration: str | None = None
    """Name or path of a calibration set; sets the calibrate split, its hash and the observer."""


class TrainPart(_Part):
    """How weights are trained and, after pruning, recovered."""

    epochs: Annotated[int, Field(ge=0)] = 30
    recover_epochs: Annotated[int, Field(ge=0)] | None = None
    """Epochs after pruning; None: as many as `epochs`."""
    recover_lr: Annotated[float, Field(gt=0)] | None = None
    """Of that training; None: `lr`."""
    recover_augment: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of that training; None: `augment`. A small network gains where the last epochs see images as they are."""
    distill: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share that the unpruned network's answers have in the loss of that training; the right answers have the rest."""
    temperature: Annotated[float, Field(gt=0)] = 4.0
    """That both networks' scores are divided by, there."""
    batch: Annotated[int, Field(gt=0)] = 64
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 0.001
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of all steps over which the learning rate rises from 0."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of a step's gradient; None: as it is."""
    augment: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Pad by 4 pixels, crop at random, flip left-right: for natural images, not for digits. True, or the fraction of
    the epochs, the first ones, in which it is done.
    """
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    """Train through torch.compile: a fourth less time, after a minute of compiling; needs a C++ compiler."""
    device: str = "cpu"

    @property
    def after_pruning(self) -> int:
        """Epochs that a pruned network is trained for."""
        return self.epochs if self.recover_epochs is None else self.recover_epochs


class LossPart(_Part):
    """How what contributes least to the loss is removed while a network is trained."""

    threshold: Annotated[float, Field(gt=0)] | None = None
    """Most that a removal may change the loss by, relative to it, as it is estimated; None: `keep` says what goes."""
    connections: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the single weights that goes besides; of a threshold what neurons leave, up to this."""
    every_epochs: Annotated[float, Field(gt=0)] = 1.0
    """Between two removals."""
    until: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Part of the training in which something goes; in the rest it is only trained."""


SCHEDULED = {
    "fine": ("every_steps", "drop", "until", "drop_by"),
    "coarse": ("every_epochs", "drop", "regrow", "until", "drop_by"),
    "one-shot": ("every_epochs", "drop_by"),
    "static": (),
}
"""What of `DynamicPart` a schedule has regard to; to the rest all have."""


class DynamicPart(_Part):
    """How connections are exchanged while a network is trained."""

    schedule: Literal["fine", "coarse", "one-shot", "static"] = "fine"
    """RigL's, sparse from the beginning; coarse steps from the dense network to the sparsity; and two baselines: once
    by magnitude, or never.
    """
    every_steps: Annotated[int, Field(gt=0)] = 100
    """Between two updates of `fine`."""
    every_epochs: Annotated[float, Field(gt=0)] = 10.0
    """Between two updates of `coarse`; before the one of `one-shot`."""
    drop: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fraction of the active connections that an update drops; None: 0.3 of `fine`, which falls, 0.2 of `coarse`."""
    regrow: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Of `coarse`: fraction of the dropped that is grown."""
    until: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of `fine` and `coarse`: part of the training after which nothing changes; None: 0.75 of `fine`, or all."""
    drop_by: Literal["magnitude", "gradient"] = "magnitude"
    """Whose lowest are dropped; grown is where the gradient is largest."""
    distribution: Literal["uniform", "erdos-renyi-kernel"] = "erdos-renyi-kernel"
    """Of the sparsity over the layers."""
    pattern: Annotated[str, Field(pattern=r"^[1-9]\d*:[1-9]\d*$")] | None = None
    """`2:4`: two of each four weights stay, in place of a sparsity."""


class RewardPart(_Part):
    """What an agent is paid for: weights of the terms of a network's worth."""

    model_config = ConfigDict(allow_inf_nan=False)

    accuracy: Annotated[float, Field(ge=0)] = 1.0
    loss: Annotated[float, Field(ge=0)] = 0.05
    parameters: Annotated[float, Field(ge=0)] = 0.1
    """Of the fraction that is left; the same of the next two."""
    flops: Annotated[float, Field(ge=0)] = 0.4
    latency: Annotated[float, Field(ge=0)] = 0.0
    """As `Recipe.latency_table` foretells it, with `cost: latency`."""


class RlPart(_Part):
    """How an agent prunes a network while it is trained, and how it learns to."""

    policy: Path | None = None
    """A folder with one that was learned; None: it is learned first."""
    random: bool = False
    """Any action at any time, in place of a policy: a baseline."""
    every_epochs: Annotated[float, Field(gt=0)] = 10.0
    """Between two decision points."""
    k: Annotated[float, Field(gt=0, lt=1)] = 0.125
    """Fraction of a layer's neurons or connections that one action takes."""
    reward: RewardPart = RewardPart()
    episodes: Annotated[int, Field(gt=0)] = 300
    """That it learns in: short trainings with a decision point after each epoch."""
    episode_epochs: Annotated[int, Field(gt=1)] = 5
    episode_samples: Annotated[int, Field(gt=0)] = 2048
    """That it is trained on in an episode, and as many at most that judge it."""


class PrunePart(_Part):
    """What is removed, how much of it, and when."""

    pruner: Literal["none", "uniform", "magnitude", "taylor", "loss", "dynamic", "rl"] = "magnitude"
    """What ranks what goes: the size of weights, in each layer alike or over all; what the loss would do, to first
    order. Or while the network is trained, from its first weights on: what contributes least to the loss (`loss`);
    connections, dropped and grown (`dynamic`); what an agent says (`rl`).
    """
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Fraction of the cost that may stay; of `dynamic` that of the weights."""
    sparsity: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fraction of the weights that goes, in place of `keep`."""
    cost: Literal["macs", "latency"] = "macs"
    """What is kept a fraction of: multiply-accumulates, or milliseconds as `Recipe.latency_table` foretells them."""
    per_cost: bool = False
    """Whether what matters least for what it costs goes first, and not just what matters least; of latency always, of
    `uniform` never.
    """
    remove: Literal["channels", "blocks"] = "channels"
    """Channels, hidden units and heads; or whole residual blocks and layers of a stack."""
    align: Annotated[int, Field(gt=0)] | None = None
    """What is cut keeps a multiple of so many channels; None: as many as the target likes."""
    fractions: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}
    """By layer, or pattern of layers: what it keeps of its own channels, in place of what ranks them all; 1: whole."""
    schedule: Literal["one-shot", "linear", "cubic"] = "one-shot"
    """All before the network is trained on, or gradually in the first of those epochs."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Over which it goes, gradually."""
    removals: Annotated[int, Field(gt=0)] = 10
    """How often something goes, gradually."""
    batches: Annotated[int, Field(gt=0)] = 100
    """Of training samples, whose gradients are looked at before all goes at once."""
    loss: LossPart = LossPart()
    dynamic: DynamicPart = DynamicPart()
    rl: RlPart = RlPart()


class QuantizePart(_Part):
    """How far values are quantized."""

    precision: Literal["fp32", "fp16", "bf16", "int8", "mixed", "int4"] = "int8"
    """The lowest precision that is made; the ones above it that a runtime offers for nothing come with it.

    `mixed` chooses for each layer, `int4` stores the weights of every layer in 4 bits.
    """
    plan: Path | None = None
    """What `mixed` is, as a file; None: it is searched for."""
    corrections: tuple[Correction, ...] = ("smoothing", "rounding")
    """What is done so that less is lost: `smoothing` (SmoothQuant) and `equalization` (of two layers' ranges) before
    anything is quantized, `rounding` of 4-bit weights for what their layers give, or else `bias` for the mean that
    rounding to the nearest moves.
    """
    epochs: Annotated[int, Field(ge=0)] = 0
    """Of training with the rounding of the lowest precision in place."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Of that training, for the same optimizer."""
    observer: ObserverName | None = None
    """How ranges are taken from the values seen; None: as the calibration set says, else `minmax`."""


class Budgets(_Part):
    """What the result must hold; None: not asked for."""

    max_drop: Annotated[float, Field(ge=0)] = 1.0
    """Points of accuracy that may be lost against the unpruned FP32 model, judged on the select split."""
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """p50 at batch 1: measured, or else as `latency_table` foretells it."""
    max_size_mb: Annotated[float, Field(gt=0)] | None = None


class Recipe(_Part):
    """One job."""

    model: str = "cnn"
    weights: Path | None = None
    data: DataPart = DataPart()
    train: TrainPart = TrainPart()
    prune: PrunePart = PrunePart()
    quantize: QuantizePart = QuantizePart()
    budgets: Budgets = Budgets()
    latency_table: Path | None = None
    """What operators take on the target, as `bench --operators` writes it: foretells what is not measured."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def is_graph(self) -> bool:
        """Whether the model comes as a graph, which is neither trained nor pruned."""
        return self.model.endswith(".onnx")

    @property
    def has_weights(self) -> bool:
        """Whether the model comes with trained weights."""
        return self.weights is not None or self.is_graph or self.model.startswith("hf:")


def kernels(precision: str) -> str:
    """What a device must execute for it: 4-bit weights become 8 bits where nothing multiplies by them."""
    return "int8" if precision in QUANTIZED else precision


def made(narrowest: str) -> tuple[str, ...]:
    """The precisions that are made down to one: all above it, but `mixed` only where it is asked for."""
    above = PRECISIONS[: PRECISIONS.index(narrowest)]
    return (*(precision for precision in above if precision != "mixed"), narrowest)


Part = TypeVar("Part", bound=BaseModel)


def read_yaml(path: Path, kind: type[Part]) -> Part:
    """Read a file people write into its pydantic type; `${NAME}` is replaced from the environment.

    Raises ConfigError with the file, the key and what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        raw = yaml.safe_load(_expand(text, path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(raw).__name__}")
    return validated(kind, raw, str(path))


def validated(
    kind: type[Part], raw: dict[str, Any], where: str, names: Mapping[tuple[str, ...], str] | None = None
) -> Part:
    """Check `raw` against a pydantic type; one line for the first fault. Raises ConfigError.

    `names` says what a key is called where it was given, e.g. `("prune", "keep")`: `--keep`.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        path = tuple(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            raise ConfigError(f"{where}: {unknown('key', '.'.join(path), _keys(kind, path[:-1]))}") from error
        key = (names or {}).get(path, f"{where}: {'.'.join(path)}")
        got = "" if fault["type"] == "missing" else f" (got {fault['input']!r})"
        raise ConfigError(f"{key}: {fault['msg'][:1].lower()}{fault['msg'][1:]}{got}") from error


def _keys(kind: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """What may stand where `path` leads, each with the whole path to it."""
    for part in path:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        inner = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
        kind = next((one for one in inner if issubclass(one, BaseModel)), kind)
    return [".".join((*path, name)) for name in kind.model_fields]


def _expand(text: str, path: Path) -> str:
    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"{path}: ${{{name}}} is not set in the environment: e.g. {name}=DIR edgeprune ...")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", value, text)
