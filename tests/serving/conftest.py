"""Runners whose time is told: a clock that only they move, so that hours of serving are simulated in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from edgeprune.backends.backend import Feeds, check_feeds
from edgeprune.errors import DeviceError
from edgeprune.serving.policy import Policy
from edgeprune.serving.replay import Replayed, replay
from edgeprune.serving.session import AdaptiveRunner, Variant
from edgeprune.serving.trace import Trace
from edgeprune.tensor import TensorSpec

X = {"x": np.zeros(1, np.float32)}


class Clock:
    """Stands still but for a tick each time that it is read, so that whoever waits for it gets on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1e-7
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class TimedRunner:
    """Gives its input back after a fixed time; breaks when told to."""

    inputs = (TensorSpec("x", "float32", (1,)),)
    input_names = ("x",)
    output_names = ("x",)
    compilation = device_bytes = None

    def __init__(self, clock: Clock, service_s: float) -> None:
        self.clock, self.service_s, self.broken, self.closed = clock, service_s, False, False

    def infer(self, feeds: Feeds) -> Feeds:
        check_feeds(self.inputs, feeds)
        if self.broken:
            raise DeviceError("the device went away")
        self.clock.now_s += self.service_s
        return feeds

    def evidence(self) -> dict:
        return {"runtime": f"{self.service_s}"}

    def close(self) -> None:
        self.closed = True


class Served:
    """A session over timed runners, with what it holds."""

    def __init__(self, policy: Policy, services_ms: Sequence[float], **options) -> None:
        self.clock = Clock()
        self.runners = [TimedRunner(self.clock, ms / 1e3) for ms in services_ms]
        names = ("fp32", "bf16", "int8") if len(services_ms) == 3 else ("fp32", "int8")
        variants = [
            Variant(f"ort-{name}", name, None, lambda runner=runner: runner)
            for name, runner in zip(names, self.runners, strict=False)
        ]
        self.session = AdaptiveRunner(variants, policy, feeds=X, clock=self.clock, **options)

    def infer(self, **options) -> int:
        """Serve one request; which rung did."""
        self.session.infer(X, **options)
        return self.session.last.rung

    def replay(self, trace: Trace) -> Replayed:
        return replay(trace, self.session, [X], clock=self.clock, sleep=self.clock.sleep)


@pytest.fixture(scope="session")
def served() -> Callable[..., Served]:
    return Served


@pytest.fixture(scope="session")
def timed() -> tuple[type[Clock], type[TimedRunner]]:
    return Clock, TimedRunner
