"""The house of docs/architecture.md: imports point down, torch and runtimes stay in place, devices stay light."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeprune

ROOT = Path(__file__).parent.parent
LAYERS = (
    ("errors",),
    ("tensor", "arrays", "progress", "adapter", "whole_file", "file_hash"),
    ("registry", "metrics", "user_code", "scenario", "roofline"),
    ("recipe", "bundle", "decisions", "results", "latency_table", "energy_estimate", "noise", "shipped", "judge"),
    ("cache",),
    ("eviction",),
    ("targets", "transport", "models", "data", "graph", "meters", "report", "choose"),
    ("backends",),
    ("train", "export", "prune", "quantize", "measure"),
    ("worker", "serving"),
    ("interleaved", "doctor"),
    ("pipeline",),
    ("api",),
    ("lab",),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
TORCH = {"torch", "torch_pruning", "safetensors"}
MAY_TORCH = (
    "models/",
    "train/",
    "prune/",
    "export/",
    "quantize/sensitivity/curvature.py",
    "quantize/qat.py",
    "pipeline/network.py",
    "pipeline/pruners.py",
    "pipeline/agent.py",
)
RUNTIMES = {"onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"}
ON_DEVICE = ("worker/", "serving/", "measure/", "meters/", "transport/")
ON_DEVICE += ("errors.py", "progress.py", "registry.py", "tensor.py")
BASE = {"click", "numpy", "pydantic", "yaml", "rich"}
OLDEST_PYTHON = (3, 10)

FILES = {path.relative_to(ROOT / "edgeprune").as_posix(): path for path in (ROOT / "edgeprune").rglob("*.py")}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), name) for name, path in FILES.items()}


def package(name: str) -> str:
    """The package or module right below edgeprune that a file belongs to."""
    return name.split("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every module imported anywhere in a file, and whether for type checkers only; `from a import b` may name a.b."""
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((name if is_module(name) else str(node.module), False) for name in names)
        else:
            yield from ((name, for_types or typed) for name, typed in imports(node))


def is_module(name: str) -> bool:
    return file_of(name) is not None


def file_of(module: str) -> str | None:
    """The file of a module of ours, as a key of FILES."""
    parts = module.split(".")
    if parts[0] != "edgeprune":
        return None
    stem = "/".join(parts[1:])
    return next((name for name in (f"{stem}.py", f"{stem}/__init__.py".lstrip("/")) if name in FILES), None)


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_point_down(name):
    here = package(name)
    assert here in RANK, f"{name}: {here} stands on no layer; draw it in LAYERS and in docs/architecture.md"
    for module, _ in imports(TREES[name]):
        if module.split(".")[0] == "edgeprune":
            other = package(file_of(module) or "missing")
            assert other == here or RANK[other] < RANK[here], f"{name} must not import {module}"


def test_modules_do_not_import_each_other_in_a_circle():
    graph = {
        name: {found for module, typed in imports(tree) if not typed and (found := file_of(module))} - {name}
        for name, tree in TREES.items()
    }
    while leaves := [name for name, needs in graph.items() if not needs]:
        for leaf in leaves:
            del graph[leaf]
        graph = {name: needs - set(leaves) for name, needs in graph.items()}
    assert not graph, f"these import each other: {sorted(graph)}"


def test_no_module_takes_the_place_of_a_public_function():
    """Whoever imports `edgeprune.x` makes that module an attribute, in front of what is imported on use."""
    public = {name for name in edgeprune.__all__ if not name.startswith("_")}
    assert not public & set(RANK)


@pytest.mark.parametrize("name", sorted(FILES))
def test_only_the_files_that_need_torch_import_it(name):
    found = {module.split(".")[0] for module, _ in imports(TREES[name])} & TORCH
    assert not found or name.startswith(MAY_TORCH), f"{name} must not import {sorted(found)}"


@pytest.mark.parametrize("name", sorted(FILES))
def test_only_the_run_file_of_a_backend_imports_its_runtime(name):
    found = {module.split(".")[0] for module, _ in imports(TREES[name])} & RUNTIMES
    assert not found or re.fullmatch(r"backends/\w+/run\.py", name), f"{name} must not import {sorted(found)}"


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_table_names_modules_of_its_own_package_that_are_there(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            entry = re.fullmatch(r"(edgeprune[\w.]*):(\w+)", node.value)
            if entry is None:
                continue
            file = file_of(entry[1])
            assert file is not None, f"{name}: there is no {entry[1]}"
            assert package(file) == package(name), f"{name} must not name {entry[1]}"
            defined = {getattr(one, "name", "") for one in TREES[file].body}
            assert entry[2] in defined, f"{name}: {entry[1]} defines no {entry[2]}"


def reached(roots: list[str]) -> Iterator[tuple[str, str]]:
    """Every file that is loaded when these are, with each package of others that it imports."""
    todo, seen = list(roots), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        todo += [file for parent in Path(name).parents if (file := (parent / "__init__.py").as_posix()) in FILES]
        for module, typed in imports(TREES[name]):
            if typed:
                continue
            if (file := file_of(module)) is not None:
                todo.append(file)
            elif module.split(".")[0] not in sys.stdlib_module_names:
                yield name, module.split(".")[0]


def test_what_runs_on_a_device_needs_numpy_and_one_runtime_only():
    roots = [name for name in FILES if name.startswith(ON_DEVICE) or re.fullmatch(r"backends/\w+/run\.py", name)]
    for name, module in reached([*roots, "backends/backend.py"]):
        allowed = {"numpy"} | (RUNTIMES if name.endswith("/run.py") else set())
        allowed |= {"mlperf_loadgen"} if name == "measure/loadgen.py" else set()  # imported where it asks
        allowed |= {"zeus"} if name == "meters/zeus.py" else set()
        allowed |= {"pynvml"} if name == "meters/nvml.py" else set()  # imported where the meter is opened
        assert module in allowed, f"{name} runs on a device and must not import {module}"


def test_a_base_install_is_enough_to_look_around():
    for name, module in reached(["__main__.py", "cli/targets.py", "cli/doctor.py", "cli/show.py", "cli/diff.py"]):
        assert module in BASE, f"{name} is loaded by a base install and must not import {module}"


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_is_valid_on_the_oldest_python_of_a_device(name):
    ast.parse(FILES[name].read_text(encoding="utf-8"), name, feature_version=OLDEST_PYTHON)


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_is_in_the_picture_of_the_house(name):
    picture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for part in (package(name), Path(name).stem):
        assert part.startswith("__") or re.search(rf"\b{part}\b", picture), f"{name} is not in docs/architecture.md"
