"""Write a target as the file that it would be read from."""

from __future__ import annotations

from pathlib import Path

import yaml

from edgeprune.errors import ConfigError, OutputError
from edgeprune.targets.target import Target


def to_yaml(target: Target) -> str:
    """The whole file, without what is not known."""
    plain = target.model_dump(mode="json", exclude_none=True)
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
    return text


def save(target: Target, path: Path) -> None:
    """Write a new file. Raises ConfigError where it could not be read again, OutputError where it cannot be written."""
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"{path}: a target file ends in .yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(to_yaml(target))
    except FileExistsError as error:
        raise OutputError(f"{path}: is there already: remove it, or choose another name") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another place") from error
