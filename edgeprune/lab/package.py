"""What a device imports of EdgePrune, in one file that Python runs (a zipapp): the worker and all it needs, no more."""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from edgeprune.backends import LOAD
from edgeprune.meters import METERS

ROOT = Path(__file__).parents[1]
ENTRIES = ("edgeprune.worker.__main__", "edgeprune.worker.health")
MAIN = b"from edgeprune.worker.worker import main\n\nmain()\n"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in it, so that equal sources are equal bytes, which are sent once."""


def write_package(path: Path) -> Path:
    """Write it; Python takes it as a folder on its path, and `python FILE` is a worker on stdin and stdout."""
    named = [name.partition(":")[0] for table in (LOAD, METERS) for name in table.values()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(_closure([*ENTRIES, *named])):
            _add(archive, file.relative_to(ROOT.parent).as_posix(), file.read_bytes())
        _add(archive, "__main__.py", MAIN)
        version = _version()
        told = f"Metadata-Version: 2.1\nName: edgeprune\nVersion: {version}\n"
        _add(archive, f"edgeprune-{version}.dist-info/METADATA", told.encode())
    return path


def _version() -> str:
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found.group(1)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)


def _closure(modules: list[str]) -> set[Path]:
    """The files of these modules and of all of ours that they import, anywhere in them."""
    todo, seen = list(modules), set[Path]()
    while todo:
        module = todo.pop()
        parents = module.split(".")
        todo += [".".join(parents[:i]) for i in range(1, len(parents)) if ".".join(parents[:i]) != module]
        file = _file(module)
        if file is not None and file not in seen:
            seen.add(file)
            todo += _imported(ast.parse(file.read_text(encoding="utf-8")))
    return seen


def _imported(tree: ast.AST) -> Iterator[str]:
    """What runs: not what is imported for a type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from _imported(node)


def _file(module: str) -> Path | None:
    first, *rest = module.split(".")
    if first != "edgeprune":
        return None
    place = ROOT.joinpath(*rest)
    return next((one for one in (place.with_suffix(".py"), place / "__init__.py") if one.is_file()), None)
