"""Find a target by its name, by an alias or by the path of a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from edgeprune.errors import ConfigError
from edgeprune.recipe import read_yaml
from edgeprune.registry import unknown
from edgeprune.shipped import find, names
from edgeprune.targets.machine import architecture, instruction_sets
from edgeprune.targets.target import Target


def load_target(name_or_path: str) -> Target:
    """A shipped target, or the one in a file, if `name_or_path` ends in `.yaml` or `.yml`.

    One that is this machine gets its architecture and instruction sets where the file leaves them open.
    Raises UnknownNameError with the nearest name, ConfigError where a file says something impossible.
    """
    if Path(name_or_path).suffix in {".yaml", ".yml"}:
        return _completed(read_yaml(Path(name_or_path), Target))
    targets = by_name(read_yaml(find("targets", name), Target) for name in names("targets"))
    if name_or_path not in targets:
        raise unknown("target", name_or_path, targets, hint="or the path of a .yaml file")
    return _completed(targets[name_or_path])


def target_names() -> tuple[str, ...]:
    """Names of the shipped targets, without aliases."""
    return names("targets")


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
