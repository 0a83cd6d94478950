"""What is built, installed and pinned."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import edgeprune

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KINDS = ("targets", "calibration", "recipes")
FROM_A_WHEEL = """
import edgeprune, pathlib, sys
from edgeprune.shipped import find, names
from edgeprune.targets.load import load_target
for kind in ("targets", "calibration", "recipes"):
    print(kind, *names(kind))
print(pathlib.Path(edgeprune.__file__).parent, load_target("jetson").name)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and with the wheel that is made from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return out


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it would lie in site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


def test_the_wheel_holds_every_module_template_and_shipped_file(unpacked):
    package = ROOT / "edgeprune"
    sources = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    for path in sources:
        assert (unpacked / "edgeprune" / path.relative_to(package)).read_bytes() == path.read_bytes()
    for kind in KINDS:
        shipped = {path.name for path in (unpacked / "edgeprune" / "_shipped" / kind).iterdir()}
        assert shipped == {path.name for path in (ROOT / kind).iterdir()}
    assert {path.name.split("-")[0] for path in unpacked.iterdir()} == {"edgeprune"}


def test_shipped_files_are_found_from_a_wheel_as_from_a_checkout(unpacked, tmp_path):
    command = [sys.executable, "-c", FROM_A_WHEEL]
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    *kinds, last = run.stdout.splitlines()
    assert last == f"{unpacked / 'edgeprune'} jetson-orin-nano"
    for line in kinds:
        kind, *names = line.split()
        assert names == sorted(path.stem for path in (ROOT / kind).glob("*.yaml"))


def test_the_source_archive_holds_what_a_distribution_builds_and_tests_with(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "README.md", "CHANGELOG.md"} <= names
    assert not {name for name in names if name.startswith((".venv", "build/", "bench_results"))}


def test_the_console_script_and_the_metadata_are_ours(unpacked):
    (info,) = unpacked.glob("*.dist-info")
    assert "edgeprune = edgeprune.cli.main:main" in (info / "entry_points.txt").read_text()
    found = message_from_bytes((info / "METADATA").read_bytes())
    assert found["Version"] == edgeprune.__version__
    assert found["License-Expression"] == "Apache-2.0"
    assert found["Requires-Python"] == ">=3.10"
    extras = {
        "compile",
        "text",
        "agent",
        "nvml",
        "ort",
        "openvino",
        "tensorrt",
        "tensorrt-rtx",
        "loadgen",
        "zeus",
        "lab",
        "dev",
        "all",
    }
    assert set(found.get_all("Provides-Extra", [])) == extras
    assert "Apache License" in (info / "licenses" / "LICENSE").read_text()


def test_the_base_install_is_small():
    names = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert names == {"click", "numpy", "pydantic", "pyyaml", "rich"}


def test_all_leaves_out_the_two_that_need_an_nvidia_device():
    names = _closure("all")
    assert not {name for name in names if name.startswith("tensorrt")}
    assert {"torch", "onnxruntime", "openvino", "pytest"} <= names


def test_every_package_that_all_brings_is_pinned_to_one_version():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][\w.]*)", line).groups() for line in lines)  # type: ignore[union-attr]
    assert len(pins) == len(lines)
    assert lines == sorted(lines, key=str.lower)
    assert _closure("all") <= set(map(canonicalize_name, pins))


def test_the_pins_lie_within_the_ranges():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for line in (*PROJECT["dependencies"], *extras):
        requirement = Requirement(line)
        if (version := pins.get(canonicalize_name(requirement.name))) is not None:
            assert version in requirement.specifier


def _closure(extra: str) -> set[str]:
    """Names of all packages that an extra of ours brings into this environment, directly or not."""
    found: set[str] = set()
    todo = [Requirement(line) for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra])]
    seen = set()
    while todo:
        requirement = todo.pop()
        name, extras = canonicalize_name(requirement.name), requirement.extras
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if (name, frozenset(extras)) in seen:
            continue
        seen.add((name, frozenset(extras)))
        if name == "edgeprune":
            lines = [line for one in extras for line in PROJECT["optional-dependencies"][one]]
            todo += map(Requirement, lines)
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            marker, needed.marker = needed.marker, None
            if marker is None or any(marker.evaluate({"extra": one}) for one in ("", *extras)):
                todo.append(needed)
    return found
