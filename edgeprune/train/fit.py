"""Train a classifier, one epoch at a time.

All that is random in an epoch follows from the seed and the epoch's number, and the learning rate from the number of
steps done. So weights and the optimizer's state at the end of an epoch are all that a checkpoint must hold for an
interrupted run to end with the weights of an unbroken one, bit for bit.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeprune.data.datasets import Samples
from edgeprune.data.preprocess import Preprocess
from edgeprune.errors import DataError, ModelError, OutputError
from edgeprune.progress import SILENT, Progress, Task
from edgeprune.recipe import TrainPart
from edgeprune.train.batches import augment, device_for, to_input

NOTE_EVERY = 16  # batches; reading the loss makes an accelerator wait


@dataclass(frozen=True)
class Epoch:
    """One pass over the samples."""

    index: int
    """From 0."""
    loss: float
    """Mean cross-entropy over the epoch, in nats, while the weights moved."""
    seconds: float


def fit(
    model: nn.Module,
    samples: Samples,
    preprocess: Preprocess,
    part: TrainPart,
    *,
    epochs: int,
    seed: int,
    checkpoint: Path | None = None,
    progress: Progress = SILENT,
) -> Iterator[Epoch]:
    """Minimize the cross-entropy of `model` in place; the learning rate falls to 0 along a cosine.

    Yields after each epoch that it runs; those that `checkpoint` already holds are not run again. Afterwards the model
    is on the CPU. A checkpoint of other samples, settings or shapes is not gone on with; initial weights are not
    compared, so give each model a checkpoint of its own.

    Raises DataError where there are no samples, ModelError where training diverges, MissingError where the device is
    not here, OutputError where the checkpoint cannot be written.
    """
    if not len(samples):
        raise DataError("no samples to train on")
    device = device_for(part.device)
    _place(model, device, torch.channels_last)  # a third faster than channels first, on CPUs too
    run = _Run(
        model=model,
        optimizer=_optimizer(model, part),
        images=torch.from_numpy(np.array(samples.images)).to(device),
        labels=torch.from_numpy(np.array(samples.labels)).to(device),
        preprocess=preprocess,
        part=part,
        epochs=epochs,
        seed=seed,
    )
    done = _resume(run, checkpoint, progress) if checkpoint else 0
    with progress.task("train", total=epochs * run.steps) as task:
        task.advance(done * run.steps)
        for index in range(done, epochs):
            start = perf_counter()
            loss = run.epoch(index, task)
            if not math.isfinite(loss):
                raise ModelError(
                    f"training diverged in epoch {index + 1} of {epochs} (loss {loss}): lower the learning rate "
                    f"(it is {part.lr:g}, try {part.lr / 10:g})"
                    + (" or train in fp32" if part.precision != "fp32" else "")
                )
            if checkpoint:
                _save(run, checkpoint, index + 1)
            yield Epoch(index, loss, perf_counter() - start)
    _place(model, torch.device("cpu"), torch.contiguous_format)


@dataclass(frozen=True)
class _Run:
    """What all epochs of a training share."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    images: Tensor
    labels: Tensor
    preprocess: Preprocess
    part: TrainPart
    epochs: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return math.ceil(len(self.labels) / self.part.batch)

    @cached_property
    def job(self) -> dict[str, Any]:
        """What a checkpoint must have been made for, to be gone on with."""
        content = hashlib.sha256(self.images.cpu().numpy().tobytes() + self.labels.cpu().numpy().tobytes())
        return {
            "epochs": self.epochs,
            "seed": self.seed,
            "samples": content.hexdigest(),
            "preprocess": self.preprocess.to_json(),
            "part": self.part.model_dump(exclude={"device", "epochs", "recover_epochs"}),
            "shapes": [list(parameter.shape) for parameter in self.model.parameters()],
        }

    def epoch(self, index: int, task: Task) -> float:
        """One pass in an order of its own; returns the mean loss."""
        device = self.images.device
        source = int(np.random.SeedSequence((self.seed, index)).generate_state(1)[0])
        generator = torch.Generator().manual_seed(source)
        order = torch.randperm(len(self.labels), generator=generator).to(device)
        total = torch.zeros((), device=device)
        _place(self.model, device, torch.channels_last)  # whoever looked between two epochs may have moved it
        self.model.train()
        deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), deterministic:
            torch.manual_seed(source)  # for dropout
            # Near-equal batches: a last one of a single sample would break batch normalization.
            for step, rows in enumerate(order.tensor_split(self.steps)):
                self._learning_rate((index * self.steps + step) / (self.epochs * self.steps))
                loss = self._step(rows, generator)
                total += loss * len(rows)
                task.advance(note=self._note(index, loss) if step % NOTE_EVERY == 0 else "")
        return float(total) / len(self.labels)

    def _note(self, index: int, loss: Tensor) -> str:
        return f"epoch {index + 1} of {self.epochs}, loss {float(loss):.3f}"

    def _step(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        images = self.images[rows]
        if self.part.augment:
            images = augment(images, generator)
        x = to_input(images, self.preprocess).contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.part.precision == "bf16"):
            loss = F.cross_entropy(self.model(x), self.labels[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def _learning_rate(self, progress: float) -> None:
        """lr(t) = lr (1 + cos(pi t)) / 2 (Loshchilov and Hutter, "SGDR", 2017, without restarts)."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.part.lr * (1 + math.cos(math.pi * progress)) / 2


def _place(model: nn.Module, device: torch.device, layout: torch.memory_format) -> None:
    model.to(device, memory_format=layout)  # type: ignore[call-overload]  # the stub lacks it


def _optimizer(model: nn.Module, part: TrainPart) -> torch.optim.Optimizer:
    if part.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=part.lr, weight_decay=part.weight_decay)
    return torch.optim.SGD(model.parameters(), lr=part.lr, momentum=0.9, nesterov=True, weight_decay=part.weight_decay)


def _resume(run: _Run, checkpoint: Path, progress: Progress) -> int:
    """Load the checkpoint; the number of epochs it stands for, 0 where there is none that can be used."""
    if not checkpoint.exists():
        return 0
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if state["job"] != run.job:
            progress.say(f"{checkpoint}: made with other settings: training starts anew")
            return 0
        run.model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        return int(state["done"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        progress.say(f"{checkpoint}: torn or damaged ({type(error).__name__}): training starts anew")
        return 0


def _save(run: _Run, checkpoint: Path, done: int) -> None:
    partial = checkpoint.with_name(checkpoint.name + ".partial")
    state = {"job": run.job, "done": done, "model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()}
    buffer = io.BytesIO()
    torch.save(state, buffer)  # into memory: writing to a full disk, it would not say that the disk is full
    try:
        partial.write_bytes(buffer.getvalue())
        partial.replace(checkpoint)
    except OSError as error:
        raise OutputError(
            f"{checkpoint}: cannot be written ({error.strerror}): make room or choose another folder"
        ) from error
