"""A bundle: all that was decided for one model on one target, in a folder whose core is hashed.

The hashes show damage, not authorship: whoever can edit the files can also edit `bundle.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import ConfigDict, ValidationError

from edgeprune.adapter import adapter
from edgeprune.errors import CorruptError, InputError
from edgeprune.file_hash import sha256_of
from edgeprune.registry import unknown
from edgeprune.tensor import TensorSpec

SCHEMA = 1
CORE = "bundle.json"
MEASURED = "measured.json"
REPORT = "report.html"
PLAN = "plan.yaml"
PLACES = "places.json"
OUTSIDE = frozenset({CORE, MEASURED, REPORT, PLACES})
"""What is in a bundle and not hashed in its core."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
"""Of a target or variant: it becomes part of paths."""
KERNEL_BITS = {"int8": 8, "fp16": 16, "bf16": 16}
"""Of weights in kernels that take them in no other width."""
LONGEST = 255
"""Bytes of a path in a bundle."""

PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth"})
ARRAYS = frozenset({".npz", ".npy"})
OBJECTS, HEADER_BYTES = b"|O'", 1024
"""What the head of an `.npy` file says of an array of objects, which is a pickle."""


@dataclass(frozen=True)
class LayerPlan:
    """One layer with weights, and the precision it is meant to run in."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    """The node's name in every flavour of the ONNX."""
    op: str
    weight: str
    """The weight initializer's name."""
    precision: str
    """Of its kernel: 4-bit weights that become 8 bits when the file is opened are computed with in int8."""
    reason: str = ""
    weight_bits: float = 32.0
    """Of a weight on disk, on average."""
    weights: int = 0
    """How many numbers its weights are."""


@dataclass(frozen=True)
class Variant:
    """One runtime in one precision."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    """`<backend>-<precision>`."""
    backend: str
    precision: str
    files: dict[str, str]
    """By role, relative to the bundle's root, with forward slashes."""
    options: dict[str, str]
    """How the runtime must open them."""
    layers: tuple[LayerPlan, ...]
    unproven: str = ""
    """Why nobody knows whether the target's runtime takes the files before it has tried; empty where it is known to."""


@dataclass(frozen=True)
class Split:
    """Which samples did what."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    rows: str
    samples: int
    sha256: str
    """Over the samples' own hashes, in order."""
    left_out: int = 0
    """Rows that are not used because another split, which judges them, holds a copy."""


@dataclass(frozen=True)
class Task:
    """What is asked of the model."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    """`classification`, `regression`, `question-answering` or `none`."""
    metrics: tuple[str, ...]
    """How answers are scored, budgets by the first; none where only agreement with the baseline can be told."""
    threshold: float = 0.0
    """Above it a single score means the second of two classes."""


@dataclass(frozen=True)
class Core:
    """`bundle.json`: equal inputs give equal bytes, so no time stands in it, and no path of this machine."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    model: str
    target: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    task: Task
    untrained: bool
    """Whether the weights are random, for speed only: then nothing is said of accuracy."""
    baseline: Variant
    """The unpruned FP32 model, in ONNX Runtime: what accuracy and speed are compared with.

    It is the variant `ort-fp32` where nothing was pruned and the target has ONNX Runtime, else just `baseline`.
    """
    variants: tuple[Variant, ...]
    splits: dict[str, Split]
    budgets: dict[str, float | None]
    pruning: dict[str, Any]
    """What was asked for and reached: MACs before and after, and per layer what was removed or why it was left."""
    assumptions: dict[str, str]
    """Versions the target file assumes on the device; nobody has seen them there."""
    versions: dict[str, str]
    """Of the libraries that took part."""
    seed: int
    command: str
    """What makes this bundle again."""
    recipe: dict[str, Any]
    sha256: dict[str, str]
    """Of every file of the core but this one."""
    schema: int = field(default=SCHEMA)


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    root: Path
    core: Core
    sha256: str
    """Of `bundle.json`, and through it of every file of the core."""

    def variant(self, name: str) -> Variant:
        """The variant of that name; `baseline` is the baseline. Raises UnknownNameError."""
        every = (self.core.baseline, *self.core.variants)
        known = {"baseline": self.core.baseline} | {variant.name: variant for variant in every}
        if name not in known:
            raise unknown(f"variant of {self.root}", name, known)
        return known[name]

    def files(self, variant: Variant) -> dict[str, Path]:
        """A variant's files by role, as paths."""
        return {role: self.root / path for role, path in variant.files.items()}

    def size_bytes(self, variant: Variant) -> int:
        """A variant's files on disk."""
        return sum(path.stat().st_size for path in self.files(variant).values())

    def loaded_bytes(self, variant: Variant) -> int | None:
        """The same with the weights as wide as the kernels have them; None where they were not counted."""
        weights = {plan.weight: plan for plan in variant.layers}  # what layers share is stored once
        if not all(plan.weights for plan in weights.values()):
            return None
        wider = sum(
            plan.weights * (KERNEL_BITS.get(plan.precision, plan.weight_bits) - plan.weight_bits)
            for plan in weights.values()
        )
        return self.size_bytes(variant) + round(wider / 8)

    @property
    def measured_path(self) -> Path:
        """Where its measurements lie, if there are any; outside the hashed core."""
        return self.root / MEASURED


def seal(root: Path, core: Mapping[str, Any]) -> Bundle:
    """Hash every file under `root` and write `bundle.json` (`core` holds the fields of Core but `sha256`)."""
    hashes = {path.relative_to(root).as_posix(): sha256_of(path) for path in _files(root)}
    record = Core(**core, sha256=hashes)
    (root / CORE).write_bytes(adapter(Core).dump_json(record, indent=1) + b"\n")
    return open_bundle(root)


def open_bundle(root: Path, *, only: Collection[str] | None = None) -> Bundle:
    """Read and verify a bundle; of its files `only` these, where the others are not looked at.

    Raises InputError where `root` is none, CorruptError naming the first file that is missing, altered or points
    outside the bundle, or a name that could lead what is written about it elsewhere.
    """
    path = root / CORE
    if not path.is_file():
        raise InputError(f"{root}: no bundle here ({CORE} is missing): make one with `edgeprune compile --out {root}`")
    content = path.read_bytes()
    try:
        raw = json.loads(content)
        schema = raw.get("schema") if isinstance(raw, dict) else None
        if schema != SCHEMA:
            raise CorruptError(f"{path}: schema {schema!r}, this version reads {SCHEMA}: compile again")
        core = adapter(Core).validate_python(raw)
    except (ValueError, ValidationError, RecursionError) as error:
        raise CorruptError(f"{path}: damaged ({type(error).__name__}): compile again") from error
    _check_names(path, core)
    named = {file for variant in (core.baseline, *core.variants) for file in variant.files.values()}
    every = named | set(core.sha256)
    inside = root.resolve()
    for name in sorted(every if only is None else every & set(only)):
        _check_place(root, name, inside)
        _check_file(root, name, core.sha256)
    return Bundle(root, core, hashlib.sha256(content).hexdigest())


def _check_names(path: Path, core: Core) -> None:
    variants = (core.baseline, *core.variants)
    for name in (core.target, *(variant.name for variant in variants)):
        if not NAME.fullmatch(name):
            raise CorruptError(f"{path}: {name[:LONGEST]!r} is no name, and would become part of a path: refused")
    for variant in variants:
        if "model" not in variant.files:
            raise CorruptError(f"{path}: {variant.name} has no model: compile again")


def _check_place(root: Path, name: str, inside: Path) -> None:
    """Before anything of it is read. A link is refused wherever it stands in the path."""
    try:
        possible = "\0" not in name and len(os.fsencode(name)) <= LONGEST
    except UnicodeError:  # half a character
        possible = False
    if not possible:
        raise CorruptError(f"{root / CORE}: {name[:LONGEST]!r} is no path: refused")
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or (root / name).resolve() != inside / name:
        raise CorruptError(f"{root / CORE}: {name!r} points outside the bundle: refused")


def _check_file(root: Path, name: str, hashes: Mapping[str, str]) -> None:
    if name not in hashes:
        raise CorruptError(f"{root / CORE}: {name!r} is used but not hashed: compile again")
    if not (root / name).is_file():
        raise CorruptError(f"{root / name}: missing: compile again")
    if sha256_of(root / name) != hashes[name]:
        raise CorruptError(f"{root / name}: not the file that was bundled (its hash differs): compile again")
    if pickled := _pickle_in(root / name):
        raise CorruptError(f"{root / name}: {pickled} is a pickle, which runs code when it is read: refused")


def _pickle_in(path: Path) -> str:
    """What in a file torch or NumPy would unpickle: all of it, or an array of objects."""
    if path.suffix in PICKLES:
        return "it"
    if path.suffix not in ARRAYS:
        return ""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return "it" if _holds_objects(file) else ""
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    if _holds_objects(file) or not member.endswith(".npy"):
                        return member
    except zipfile.BadZipFile as error:
        raise CorruptError(f"{path}: no .npz file: compile again") from error
    return ""


def _holds_objects(array: IO[bytes]) -> bool:
    """Whether an `.npy` file is of objects; its head is one line."""
    return OBJECTS in array.read(HEADER_BYTES).partition(b"\n")[0]


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name not in OUTSIDE)
