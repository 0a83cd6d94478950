"""Compile many models for many device types on the hosts of a Dask cluster.

Whoever can talk to a scheduler can run code on its hosts, so any but this machine is reached by TLS alone, and what
comes back is checked as what a device sends.
"""

from __future__ import annotations

import io
import ipaddress
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeprune import errors
from edgeprune.api import default_out, recipe_with, stage_cache
from edgeprune.bundle import open_bundle
from edgeprune.choose import verdict
from edgeprune.errors import ConfigError, DeviceError, EdgePruneError, InputError, OutputError
from edgeprune.pipeline.compile import compile_bundle
from edgeprune.progress import SILENT, Progress
from edgeprune.recipe import Recipe
from edgeprune.targets.load import load_target
from edgeprune.transport.archive import unpack

CONNECT_S = 15
RETRIES = 2
"""On another host, where one dies."""


@dataclass(frozen=True)
class Tls:
    """Files: whose certificates are believed, ours, and the key to it."""

    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True)
class Compiled:
    """What became of a model for a target."""

    model: str
    target: str
    bundle: Path | None
    error: EdgePruneError | None = None
    """Why there is no bundle, or which budget it does not meet."""

    @property
    def reason(self) -> str:
        """The error in words; empty where there is none."""
        return str(self.error or "")

    @property
    def told(self) -> str:
        """The same, to stand behind the bundle."""
        return f": {self.reason}" if self.error else ""


def compile_many(
    models: Sequence[str],
    targets: Sequence[str],
    options: Mapping[str, Any],
    *,
    scheduler: str,
    tls: Tls | None,
    out: Path,
    recipe: str | None = None,
    backends: Sequence[str] = (),
    speed_only: bool = False,
    progress: Progress = SILENT,
) -> list[Compiled]:
    """Every model for every target, as `<out>/<model>-<target>`; `options` as `api.compile` takes them.

    Raises InputError for an address that is neither on this machine nor reached by TLS, ConfigError for a target or an
    option that makes no sense, before anything is done; DeviceError where no scheduler answers.
    """
    check_address(scheduler, tls)
    jobs = [(_recipe(model, options, recipe, speed_only), target) for model in models for target in _known(targets)]
    import distributed

    security = None
    if tls is not None:
        security = distributed.Security(
            tls_ca_file=str(tls.ca),
            tls_client_cert=str(tls.cert),
            tls_client_key=str(tls.key),
            require_encryption=True,
        )
    try:
        client = distributed.Client(scheduler, security=security, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise DeviceError(f"{scheduler}: no scheduler answers ({error}): start `dask scheduler` there") from error
    found: dict[int, Compiled] = {}
    with client, progress.task("compile", len(jobs)) as task:
        futures = {
            client.submit(
                compiled, job.model_dump(mode="json"), target, tuple(backends), speed_only,
                key=f"compile-{number}-{job.model}-{target}", pure=False, retries=RETRIES,
            ): number
            for number, (job, target) in enumerate(jobs)
        }  # fmt: skip
        for future in distributed.as_completed(futures, loop=client.loop):
            number = futures[future]
            job, target = jobs[number]
            found[number] = _received(job, target, future, out)
            progress.say(f"{job.model} for {target}: {found[number].reason or found[number].bundle}")
            task.advance(note=f"{job.model} for {target}")
    return [found[number] for number in range(len(jobs))]


def check_address(scheduler: str, tls: Tls | None) -> None:
    """Raises InputError for another machine without TLS, and for what is no address."""
    try:
        parts = urlsplit(scheduler if "://" in scheduler else f"tcp://{scheduler}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("tcp", "tls") or not host or not port:
        raise InputError(f"--scheduler {scheduler}: no address: give tcp://127.0.0.1:8786 or tls://HOST:8786")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if tls is None and (parts.scheme == "tls" or not loopback):
        raise InputError(
            f"--scheduler {scheduler}: is not this machine, and anybody there could run code: use tls:// with --tls-ca,"
            " --tls-cert and --tls-key"
        )
    if tls is not None and parts.scheme != "tls":
        raise InputError(f"--scheduler {scheduler}: TLS is given, so the address begins with tls://")


def compiled(job: Mapping[str, Any], target: str, backends: tuple[str, ...], speed_only: bool) -> dict[str, Any]:
    """What a host of the cluster does: the bundle as a tar archive, or why there is none."""
    recipe, device = Recipe.model_validate(job), load_target(target)
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        out = Path(folder) / "bundle"
        try:
            bundle, measured = compile_bundle(
                recipe, device, out=out, backends=backends or None, cache=stage_cache(), speed_only=speed_only
            )
        except EdgePruneError as error:
            return {"archive": b"", "error": type(error).__name__, "message": str(error)}
        failed = verdict(measured, recipe.budgets, recipe.quantize.precision, allow_fallback=False)
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            archive.add(bundle.root, ".")
    return {
        "archive": stream.getvalue(),
        "error": type(failed).__name__ if failed else "",
        "message": str(failed or ""),
    }


def _known(targets: Sequence[str]) -> list[str]:
    """Shipped ones only: a file lies here, and not on the hosts."""
    for target in targets:
        if target.endswith((".yaml", ".yml")):
            raise ConfigError(f"--targets {target}: a file of this machine: name one of `edgeprune targets list`")
    return [load_target(target).name for target in targets]


def _recipe(model: str, options: Mapping[str, Any], recipe: str | None, speed_only: bool) -> Recipe:
    if Path(model.partition(":")[0]).suffix in (".onnx", ".py"):
        raise ConfigError(f"{model}: a file of this machine: name a model of the zoo, or hf:ID")
    return recipe_with({**options, "model": model}, recipe, speed_only=speed_only)


def _received(job: Recipe, target: str, future: Any, out: Path) -> Compiled:
    """Unpack, verify and put in its place what a host has made."""
    try:
        answer = future.result()
    except Exception as error:  # whatever happened on another host is that host's
        reason = f"{job.model} for {target}: the host failed: {type(error).__name__}: {error}"
        return Compiled(job.model, target, None, DeviceError(reason))
    kind = getattr(errors, str(answer["error"]), DeviceError)
    failed = kind(answer["message"]) if answer["error"] else None
    if not answer["archive"]:
        return Compiled(job.model, target, None, failed or DeviceError("the host sent nothing"))
    goal = out / default_out(job, load_target(target)).name
    out.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{goal.name}-", dir=out))
    try:
        unpack(io.BytesIO(answer["archive"]), partial)
        open_bundle(partial)
        if goal.exists():
            open_bundle(goal)  # ours to replace
            shutil.rmtree(goal)
        partial.replace(goal)
    except EdgePruneError as error:
        return Compiled(job.model, target, None, error)
    except OSError as error:
        return Compiled(job.model, target, None, OutputError(f"{goal}: cannot be written ({error.strerror})"))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Compiled(job.model, target, goal, failed)
