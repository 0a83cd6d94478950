"""Find a target by its name, by an alias or by the path of a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from edgeprune.errors import ConfigError
from edgeprune.recipe import read_yaml
from edgeprune.registry import unknown
from edgeprune.shipped import find, names
from edgeprune.targets.machine import architecture, instruction_sets
from edgeprune.targets.target import BACKENDS, METERS, Target


def load_target(name_or_path: str) -> Target:
    """A shipped target, or the one in a file, if `name_or_path` ends in `.yaml` or `.yml`.

    One that is this machine gets its architecture and instruction sets where the file leaves them open.
    Raises UnknownNameError with the nearest name, ConfigError with the path where a file says something impossible.
    """
    if Path(name_or_path).suffix in {".yaml", ".yml"}:
        return _completed(_read(Path(name_or_path)))
    targets = by_name(_read(find("targets", name)) for name in names("targets"))
    if name_or_path not in targets:
        raise unknown("target", name_or_path, targets, hint="or the path of a .yaml file")
    return _completed(targets[name_or_path])


def target_names() -> tuple[str, ...]:
    """Names of the shipped targets, without aliases."""
    return names("targets")


def _read(path: Path) -> Target:
    """Meters of another device may be unknown: nobody reads them here."""
    target = read_yaml(path, Target)
    for name in target.backends:
        if name not in BACKENDS:
            raise ConfigError(f"{path}: backends: {unknown('runtime', name, BACKENDS)}")
    if not target.local:
        return target
    for name in target.meters:
        if name not in METERS:
            raise ConfigError(f"{path}: meters: {unknown('meter', name, METERS)}")
    if target.arch not in ("any", architecture()):
        raise ConfigError(
            f"{path}: arch: {target.arch}, but this machine, which `local: true` says it is, is {architecture()}:"
            " correct `arch`, or remove `local`"
        )
    return target


def _completed(target: Target) -> Target:
    if not target.local:
        return target
    known = target.arch != "any" or architecture() not in {"x86_64", "aarch64"}
    arch = target.arch if known else architecture()
    return target.model_copy(update={"arch": arch, "isa": target.isa or instruction_sets()})


def by_name(targets: Iterable[Target]) -> Mapping[str, Target]:
    """Every target under its name and its aliases. Raises ConfigError where two claim the same one."""
    found: dict[str, Target] = {}
    for target in targets:
        for name in (target.name, *target.aliases):
            if (other := found.get(name)) is not None:
                raise ConfigError(f"targets '{other.name}' and '{target.name}' are both called '{name}': rename one")
            found[name] = target
    return found
