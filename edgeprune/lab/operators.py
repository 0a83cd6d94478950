"""The operators of a bundle, timed on a device that is ours, into the latency table of its type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter

from edgeprune.bundle import Bundle
from edgeprune.errors import InputError, MissingError
from edgeprune.lab.connect import held, limited, transport
from edgeprune.lab.inventory import Instance
from edgeprune.latency_table import Prediction, TimedVariant
from edgeprune.pipeline.operators import OperatorSettings, keep_operators
from edgeprune.progress import SILENT, Progress
from edgeprune.results import Environment
from edgeprune.worker.client import Client


def operators_on(
    instance: Instance,
    bundle: Bundle,
    out: Path,
    *,
    state: Path,
    settings: OperatorSettings,
    limit_s: float,
    wait_s: float = 0.0,
    waiting: Callable[[str], None] = lambda _: None,
    progress: Progress = SILENT,
) -> tuple[Path, list[tuple[TimedVariant, Prediction | None]]]:
    """What `keep_operators` does, on the device.

    Raises InputError for a bundle of another device type, MissingError where the device is emulated or simulated, for
    then its times say nothing.
    """
    if bundle.core.target != instance.target.name:
        raise InputError(f"{bundle.root}: is for {bundle.core.target}, but {instance.name} is {instance.target.name}")
    way = transport(instance.device, state)
    with held(instance, way, wait_s=wait_s, waiting=waiting), limited(way, instance.name, limit_s):
        with Client(way, instance.name, timeout_s=settings.timeout_s) as client:
            told = client.ask("probe")["environment"]
        environment = TypeAdapter(Environment).validate_python({**told, "threads": instance.target.threads})
        if environment.emulated or instance.device.emulated:
            raise MissingError(f"{instance.name}: it is emulated, so that its times say nothing: name a real device")
        return keep_operators(bundle, out, settings=settings, transport=way, environment=environment, progress=progress)
