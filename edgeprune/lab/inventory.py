"""`lab.yaml`: which devices there are, how they are reached, and what they are called together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgeprune.errors import ConfigError, EdgePruneError
from edgeprune.recipe import read_yaml
from edgeprune.registry import unknown
from edgeprune.targets.load import load_target
from edgeprune.targets.target import Name, Target
from edgeprune.transport.ssh import SAFE

FILE = Path("lab.yaml")
SECRETS = ("password", "passphrase", "secret", "token")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Simulated(_Part):
    """What a device that is none does."""

    kind: Literal["healthy", "fails", "hangs", "garbage", "cut", "full"] = "healthy"
    ms: Annotated[float, Field(gt=0)] = 1.0
    """What an inference seems to take."""
    seed: int = 0


class Device(_Part):
    """One device: an instance of a target."""

    name: Name
    target: str
    """The device type: a name of `edgeprune targets list`, or the path of a file, seen from `lab.yaml`."""
    transport: Literal["ssh", "labgrid", "local", "simulated"] = "ssh"
    host: str | None = None
    """An address, or what it is called in your ~/.ssh/config; None: as the device."""
    place: str | None = None
    """Of a labgrid coordinator, which says where the device is; None: as the device."""
    user: str | None = None
    port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    key: Path | None = None
    """The file of a private key, seen from `lab.yaml`; None: what your agent and configuration say."""
    ssh_config: Path | None = None
    """In place of ~/.ssh/config, seen from `lab.yaml`."""
    python: str = "python3"
    """The interpreter there that has NumPy and the runtimes."""
    folder: Annotated[str, Field(min_length=1)] | None = None
    """Where jobs work there; None: below the home of the user."""
    tags: tuple[Name, ...] = ()
    power_cycle: tuple[str, ...] = ()
    """A command, run here, that turns it off and on: before the last attempt where it cannot be reached."""
    boot_s: Annotated[float, Field(ge=0)] = 60.0
    """From a power cycle until it can be reached."""
    cool_down_s: Annotated[float, Field(ge=0)] = 0.0
    """Between two jobs."""
    cool_below_c: float | None = None
    """No job begins above this temperature; None: whatever it is."""
    emulated: bool = False
    """Whether its instructions are translated, so that no time there says anything; found out, too, where possible."""
    simulated: Simulated = Simulated()

    @field_validator("host", "user", "place")
    @classmethod
    def _is_plain(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(SAFE, text):
            raise ValueError("letters, digits and _.:%@- only, and no dash in front")
        return text

    @property
    def address(self) -> str:
        """What ssh is given."""
        return self.host or self.name


class Inventory(_Part):
    """All of a lab."""

    devices: Annotated[tuple[Device, ...], Field(min_length=1)]
    groups: dict[Name, tuple[str, ...]] = {}
    """Names of devices, tags or other groups under one name."""


@dataclass(frozen=True)
class Instance:
    """A device with what is known of its type."""

    device: Device
    target: Target

    @property
    def name(self) -> str:
        """What it is called."""
        return self.device.name


@dataclass(frozen=True)
class Lab:
    """An inventory that makes sense."""

    path: Path
    instances: tuple[Instance, ...]
    groups: dict[str, tuple[str, ...]]

    def select(self, names: Sequence[str] = ()) -> tuple[Instance, ...]:
        """The devices of these names, tags or groups, each once, in the order of the file; all where none are given.

        Raises UnknownNameError with the nearest.
        """
        if not names:
            return self.instances
        wanted = {device for name in names for device in self._members(name, ())}
        return tuple(one for one in self.instances if one.name in wanted)

    def one(self, name: str) -> Instance:
        """The device of this name. Raises UnknownNameError."""
        found = {one.name: one for one in self.instances}
        if name not in found:
            raise unknown(f"device of {self.path}", name, found)
        return found[name]

    def _members(self, name: str, inside: tuple[str, ...]) -> set[str]:
        if name in self.groups:
            if name in inside:
                raise ConfigError(f"{self.path}: groups: {' holds '.join((*inside, name))}: let no group hold itself")
            return {one for member in self.groups[name] for one in self._members(member, (*inside, name))}
        found = {one.name for one in self.instances if name == one.name or name in one.device.tags}
        if not found:
            known = {tag for one in self.instances for tag in (one.name, *one.device.tags)} | set(self.groups)
            raise unknown(f"device, tag or group of {self.path}", name, known)
        return found


def read_lab(path: Path = FILE) -> Lab:
    """Read and check an inventory.

    Raises ConfigError with the file and what is wrong in it: a key that is unknown or holds a secret, a name that two
    things have; UnknownNameError for a target or a member of a group that is not there.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no inventory here: write one as docs/lab.md shows, or name it with --lab FILE")
    _refuse_secrets(path)
    inventory = read_yaml(path, Inventory)
    taken: dict[str, str] = {}
    for name, what in [*((one.name, "device") for one in inventory.devices), *((g, "group") for g in inventory.groups)]:
        if name in taken:
            raise ConfigError(f"{path}: '{name}' is the name of a {taken[name]} and of a {what}: rename one")
        taken[name] = what
    for device in inventory.devices:
        if both := sorted(set(device.tags) & set(taken)):
            raise ConfigError(f"{path}: '{both[0]}' is the name of a {taken[both[0]]} and a tag of {device.name}")
    instances = tuple(Instance(placed := _placed(one, path), _target(placed, path)) for one in inventory.devices)
    lab = Lab(path, instances, dict(inventory.groups))
    for group in inventory.groups:
        lab.select([group])
    return lab


def _placed(device: Device, path: Path) -> Device:
    """With its files as they are seen from here."""
    update: dict[str, Any] = {
        name: path.parent / file.expanduser()
        for name in ("key", "ssh_config")
        if (file := getattr(device, name)) is not None
    }
    if device.target.endswith((".yaml", ".yml")):
        update["target"] = str(path.parent / device.target)
    return device.model_copy(update=update)


def _target(device: Device, path: Path) -> Target:
    try:
        return load_target(device.target)
    except ConfigError:
        raise
    except EdgePruneError as error:
        raise type(error)(f"{path}: device {device.name}: {error}") from error


def _refuse_secrets(path: Path) -> None:
    """A file that people copy and commit holds none."""
    secrets = "|".join(SECRETS)
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if re.search(rf"(?:^|[\s{{,-])(?:\w+_)?(?:{secrets})\s*:", line.partition("#")[0], re.IGNORECASE):
            raise ConfigError(f"{path}: line {number}: no passwords in files: use a key and your agent (`ssh-copy-id`)")
