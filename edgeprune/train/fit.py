"""Train a network, one epoch at a time.

All that is random in an epoch follows from the seed and the epoch's number, and the learning rate from the number of
steps done. So weights and the optimizer's state at the end of an epoch are all that a checkpoint must hold for an
interrupted run to end with the weights of an unbroken one, bit for bit.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.data.preprocess import Preprocess
from edgeprune.data.samples import Samples
from edgeprune.errors import DivergedError
from edgeprune.judge import CLASSIFICATION
from edgeprune.models.calling import inputs_of, run
from edgeprune.progress import SILENT, Progress, Task
from edgeprune.recipe import TrainPart
from edgeprune.train.batches import Batches, ImageBatches, TensorBatches, device_for, load_batches
from edgeprune.train.compiled import Compiled
from edgeprune.train.distill import distillation
from edgeprune.train.loss import check_trainable, loss_of
from edgeprune.whole_file import write_whole

NOTE_EVERY = 16  # batches; reading the loss makes an accelerator wait
RECOVERY = ("recover_epochs", "recover_lr", "recover_augment", "distill", "temperature")
"""What of the settings says nothing of a training but that of a pruned network."""
MOST_GROWTH = 100.0
"""Of the loss within one epoch, from its first batch, or from 1: beyond that the training diverges."""
SAME = 1e-4
"""Of the largest output: how far a text's answer may move when its padding is left out."""


class Steps(Protocol):
    """What takes part in a training, as a learning-rate scheduler does: a pruner."""

    def step(self, loss: Tensor | None = None) -> bool:
        """After each step of the optimizer, with the batch's loss; whether it removed anything."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that it needs to go on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; called before the network's and the optimizer's are loaded."""
        ...


MakeSteps = Callable[[nn.Module, torch.optim.Optimizer, int], Steps]
"""From the network, its optimizer and the steps of all epochs."""


@dataclass(frozen=True)
class Epoch:
    """One pass over the samples."""

    index: int
    """From 0."""
    loss: float
    """Mean over the epoch, while the weights moved."""
    seconds: float


def fit(
    model: nn.Module,
    samples: Samples,
    preprocess: Preprocess,
    part: TrainPart,
    *,
    task: str = CLASSIFICATION,
    epochs: int,
    seed: int,
    teacher: nn.Module | None = None,
    pruner: MakeSteps | None = None,
    checkpoint: Path | None = None,
    progress: Progress = SILENT,
) -> Iterator[Epoch]:
    """Minimize the loss of `task` in place; after a warm-up the learning rate falls to 0 along a cosine.

    With a `teacher` the loss is (1 - d) loss + d distillation, d being `part.distill`. A pruner is made by `pruner` and
    takes its step after each of the optimizer.

    Yields after each epoch that it runs; those that `checkpoint` already holds are not run again. Afterwards the model
    is on the CPU. A checkpoint of other samples, settings or shapes is not gone on with; initial weights, the teacher
    and what the pruner is asked for are not compared, so give each model a checkpoint of its own.

    Raises DataError where there are no samples or no answers to them, ConfigError where nothing says what to train
    for, DivergedError where the loss is no number, or grows a hundredfold in one epoch (the network is then as it was
    before that epoch, or after the last removal in it), MissingError where the device or the compiler is not here,
    OutputError where the checkpoint cannot be written.
    """
    check_trainable(task)
    device = device_for(part.device)
    inputs = inputs_of(model, preprocess.specs)
    _place(model, device, torch.channels_last)  # a third faster than channels first, on CPUs too
    batches = load_batches(samples, preprocess, inputs, device, task=task, augmented=part.augment > 0)
    if isinstance(batches, TensorBatches) and not _reads_no_padding(model, batches):
        batches = replace(batches, lengths=None)
    if recurrent := part.precision == "bf16" and any(isinstance(one, nn.RNNBase) for one in model.modules()):
        progress.say("train: recurrent layers lose too much in bf16: trained in fp32")
    if teacher is not None:
        _place(teacher.eval().requires_grad_(False), device, torch.channels_last)
    optimizer = _optimizer(model, part)
    training = _Training(
        model=model,
        optimizer=optimizer,
        batches=batches,
        preprocess=preprocess,
        part=part.model_copy(update={"precision": "fp32"}) if recurrent else part,
        task=task,
        epochs=epochs,
        seed=seed,
        teacher=torch.compile(teacher) if part.compile and teacher is not None else teacher,  # type: ignore[arg-type]
        compiled=Compiled(model, settled=pruner is None) if part.compile else None,
    )
    job = training.job  # with the shapes that it begins with
    if pruner is not None:
        training.pruners.append(pruner(model, optimizer, epochs * training.steps))
    done = _resume(training, job, checkpoint, progress) if checkpoint else 0
    with progress.task("train", total=epochs * training.steps) as shown:
        shown.advance(done * training.steps)
        for index in range(done, epochs):
            start = perf_counter()
            loss, first = training.epoch(index, shown)
            if not loss <= MOST_GROWTH * max(first, 1.0):  # nor where it is no number
                training.back_to_good()
                raise DivergedError(
                    f"training diverged in epoch {index + 1} of {epochs} (loss {loss:.4g}), the network is as it was"
                    f" before that: lower the learning rate (it is {part.lr:g}, try {part.lr / 10:g})"
                    + (" or train in fp32" if part.precision != "fp32" else "")
                )
            if checkpoint:
                _save(training, job, checkpoint, index + 1)
            yield Epoch(index, loss, perf_counter() - start)
    _place(model, torch.device("cpu"), torch.contiguous_format)


@dataclass(frozen=True)
class _Training:
    """What all epochs of a training share."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Batches
    preprocess: Preprocess
    part: TrainPart
    task: str
    epochs: int
    seed: int
    teacher: nn.Module | None = None
    compiled: Compiled | None = None
    pruners: list[Steps] = field(default_factory=list)
    """None or one: it is made with the optimizer."""
    good: dict[str, Tensor] = field(default_factory=dict)
    """The network's state before the epoch, or after the last removal in it."""

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return math.ceil(len(self.batches.targets) / self.part.batch)

    @property
    def job(self) -> dict[str, Any]:
        """What a checkpoint must have been made for, to be gone on with."""
        return {
            "epochs": self.epochs,
            "seed": self.seed,
            "samples": self.batches.content(),
            "task": self.task,
            "preprocess": self.preprocess.to_json(),
            "part": self.part.model_dump(exclude={"device", "epochs", *RECOVERY}),
            "distill": None if self.teacher is None else [self.part.distill, self.part.temperature],
            "shapes": [list(parameter.shape) for parameter in self.model.parameters()],
        }

    def epoch(self, index: int, shown: Task) -> tuple[float, float]:
        """One pass in an order of its own; returns the mean loss, and that of the first batch."""
        device = self.batches.targets.device
        source = int(np.random.SeedSequence((self.seed, index)).generate_state(1)[0])
        generator = torch.Generator().manual_seed(source)
        order = torch.randperm(len(self.batches.targets), generator=generator).to(device)
        total, first = torch.zeros((), device=device), 0.0
        _place(self.model, device, torch.channels_last)  # whoever looked between two epochs may have moved it
        self.model.train()
        self._note_good()
        if self.compiled:
            self.compiled.begin_epoch()
        deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), deterministic:
            torch.manual_seed(source)  # for dropout
            # Near-equal batches: a last one of a single sample would break batch normalization.
            batches = self._seen(index)
            for step, rows in enumerate(order.tensor_split(self.steps)):
                self._learning_rate((index * self.steps + step) / (self.epochs * self.steps))
                loss = self._step(batches.take(rows, generator), self.batches.targets[rows])
                total += loss * len(rows)
                note = ""
                if step % NOTE_EVERY == 0:
                    if not math.isfinite(value := float(loss)):
                        return value, first
                    first = first if step else value
                    note = f"epoch {index + 1} of {self.epochs}, loss {value:.3f}"
                shown.advance(note=note)
        if self.compiled:
            self.compiled.end_epoch()
        return float(total) / len(self.batches.targets), first

    def back_to_good(self) -> None:
        """Undo what the epoch did to the network, and leave it on the CPU."""
        self.model.load_state_dict(self.good)
        _place(self.model, torch.device("cpu"), torch.contiguous_format)

    def _note_good(self) -> None:
        self.good.clear()
        self.good.update({name: one.detach().clone() for name, one in self.model.state_dict().items()})

    def _seen(self, index: int) -> Batches:
        """What an epoch sees; the last ones may see images as they are."""
        if isinstance(self.batches, ImageBatches) and index >= self.part.augment * self.epochs:
            return replace(self.batches, augmented=False)
        return self.batches

    def _step(self, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(targets.device.type, torch.bfloat16, enabled=self.part.precision == "bf16"):
            outputs = run(self.compiled.module if self.compiled else self.model, inputs)
            loss = loss_of(self.task, outputs, targets)
            if self.teacher is not None:
                with torch.no_grad():
                    taught = run(self.teacher, inputs)
                apart = distillation(self.task, outputs, taught, self.part.temperature)
                loss = (1 - self.part.distill) * loss + self.part.distill * apart
        loss.backward()  # type: ignore[no-untyped-call]
        if self.part.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.part.clip)
        self.optimizer.step()
        lost = loss.detach()
        for pruner in self.pruners:
            if pruner.step(lost) and all(bool(one.isfinite().all()) for one in self.model.parameters()):
                self._note_good()
        return lost

    def _learning_rate(self, progress: float) -> None:
        """lr(t) = lr (1 + cos(pi t)) / 2 (Loshchilov and Hutter, "SGDR", 2017, without restarts), from 0 at first."""
        rising = min(1.0, progress / self.part.warmup) if self.part.warmup else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = rising * self.part.lr * (1 + math.cos(math.pi * progress)) / 2


def _reads_no_padding(model: nn.Module, batches: TensorBatches) -> bool:
    """Whether the answers to some texts stay what they are when the padding that they share is left out."""
    if batches.lengths is None:
        return False
    shortest = batches.lengths.argsort()[:2]
    generator = torch.Generator()
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            whole = run(model, replace(batches, lengths=None).take(shortest, generator))
            cut = run(model, batches.take(shortest, generator))
    except (RuntimeError, ValueError, IndexError, TypeError):  # it is made for one length
        return False
    finally:
        model.train(was_training)
    return all(_agree(whole[name], cut[name]) for name in whole)


def _agree(whole: Tensor, cut: Tensor) -> bool:
    """Whether they are equal, or where a text has scores for each of its tokens, for those that are left."""
    if whole.ndim != cut.ndim or len(whole) != len(cut):
        return False
    if whole.ndim > 1:
        whole = whole[:, : cut.shape[1]]
    tells = bool(whole.abs().max() > 0) and not bool((whole[0] == whole[-1]).all())  # a constant answer shows nothing
    return tells and whole.shape == cut.shape and bool((whole - cut).abs().max() <= SAME * whole.abs().max())


def _place(model: nn.Module, device: torch.device, layout: torch.memory_format) -> None:
    model.to(device, memory_format=layout)  # type: ignore[call-overload]  # the stub lacks it


def _optimizer(model: nn.Module, part: TrainPart) -> torch.optim.Optimizer:
    if part.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=part.lr, weight_decay=part.weight_decay)
    return torch.optim.SGD(model.parameters(), lr=part.lr, momentum=0.9, nesterov=True, weight_decay=part.weight_decay)


def _resume(training: _Training, job: dict[str, Any], checkpoint: Path, progress: Progress) -> int:
    """Load the checkpoint; the number of epochs it stands for, 0 where there is none that can be used."""
    if not checkpoint.exists():
        return 0
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if state["job"] != job:
            progress.say(f"{checkpoint}: made with other settings: training starts anew")
            return 0
        for pruner, of in zip(training.pruners, state["pruners"], strict=True):
            pruner.load_state_dict(of)
        if training.compiled:
            training.compiled.settled = bool(state["settled"])
        training.model.load_state_dict(state["model"])
        training.optimizer.load_state_dict(state["optimizer"])
        return int(state["done"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        progress.say(f"{checkpoint}: torn or damaged ({type(error).__name__}): training starts anew")
        return 0


def _save(training: _Training, job: dict[str, Any], checkpoint: Path, done: int) -> None:
    state = {
        "job": job,
        "done": done,
        "pruners": [pruner.state_dict() for pruner in training.pruners],
        "settled": training.compiled is None or training.compiled.settled,
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)  # into memory: writing to a full disk, it would not say that the disk is full
    write_whole(checkpoint, buffer.getvalue(), "make room or choose another folder")
