"""What is known of a device type: what it is, what runs fast on it, what is assumed of its software."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator


def _version(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)*([.+-]?\w+)*", text):
        raise ValueError("a version begins with numbers, as in 10.3")
    return text


Version = Annotated[str, AfterValidator(_version)]

JETPACK = "JetPack 5 and older are out of scope: their TensorRT 8 reads no INT4, their Python is 3.8: take JetPack 6.2"
OLDEST_JETPACK = 6
TENSORRT_FROM, TENSORRT_BELOW = "10.0", "12.0"
"""The first TensorRT with strong typing and INT4, and the first of which nothing is known."""
TENSORRT = re.compile(r"1[01]\.\d+(\.\d+)*")

BACKENDS = ("ort", "openvino", "tensorrt")
METERS = ("rapl", "nvml", "ina3221", "ina238", "zeus", "command")
"""The runtimes and meters there are. Their tables stand in packages that this one must not import; a test compares."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
"""It becomes part of folder names."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackendUse(_Part):
    """How a target uses one runtime."""

    precisions: Annotated[tuple[Literal["fp32", "fp16", "bf16", "int8"], ...], Field(min_length=1)]
    """Whole-model precisions that this runtime executes on this device."""
    version: Version | None = None
    """Assumed runtime version; the device's own is recorded when it measures."""


class Target(_Part):
    """A device type; an instance (host, user, key) is never described here."""

    name: Name
    title: str
    aliases: tuple[Name, ...] = ()
    arch: Literal["any", "x86_64", "aarch64"]
    isa: tuple[str, ...] = ()
    """Instruction sets it is known to have; empty: not known, and then it gets what all of its architecture can run."""
    local: bool = False
    """Whether this machine is the device, so that it can be measured here."""
    backends: Annotated[dict[str, BackendUse], Field(min_length=1)]
    assumes: Annotated[dict[str, Version], Field(validate_default=True)] = {}
    """Versions on the device that were assumed, e.g. `jetpack: "6.2"`; they are written into `build.json`."""
    memory_bytes: Annotated[int, Field(gt=0)] | None = None
    channel_alignment: Annotated[int, Field(gt=0)] = 1
    """Channel counts that are a multiple of this run fastest."""
    meters: tuple[str, ...] = ()
    threads: Annotated[int, Field(gt=0)] = 1
    """Threads a runtime is given when it is measured."""
    notes: tuple[str, ...] = ()
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    """Where the facts come from."""

    @field_validator("backends")
    @classmethod
    def _fp16_in_tensorrt_alone(cls, backends: dict[str, BackendUse]) -> dict[str, BackendUse]:
        for name, use in backends.items():
            if "fp16" in use.precisions and name != "tensorrt":
                raise ValueError(f"nothing is lowered to fp16 for {name}; for tensorrt it is")
        return backends

    @field_validator("assumes")
    @classmethod
    def _agrees_with_backends(cls, assumes: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for name, use in info.data.get("backends", {}).items():
            if name in assumes and use.version not in (None, assumes[name]):
                raise ValueError(f"{name} is {assumes[name]} here and {use.version} in backends")
        return assumes

    @field_validator("assumes")
    @classmethod
    def _in_scope(cls, assumes: dict[str, str]) -> dict[str, str]:
        jetpack = re.match(r"\d+", assumes.get("jetpack", ""))
        if jetpack and int(jetpack[0]) < OLDEST_JETPACK:
            raise ValueError(JETPACK)
        return assumes

    @field_validator("assumes")
    @classmethod
    def _known_tensorrt(cls, assumes: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        version = _tensorrt(info.data.get("backends", {}), assumes)
        if not TENSORRT.fullmatch(version):
            raise ValueError(
                f"TensorRT {version}: files are for {TENSORRT_FROM} up to below {TENSORRT_BELOW}, said as in 10.3;"
                " JetPack 6.1 is the first that brings one"
            )
        return assumes

    @property
    def tensorrt(self) -> str:
        """The TensorRT that it is assumed to have; the oldest that is known where it does not say."""
        return _tensorrt(self.backends, self.assumes)

    @property
    def reduced_range(self) -> bool:
        """Whether 8-bit weights must keep to 7 bits: x86 without VNNI saturates in the 16-bit sum of two products.

        What may be one, because nothing tells, counts as one.
        """
        return self.arch != "aarch64" and not any("vnni" in flag for flag in self.isa)


def _tensorrt(backends: Mapping[str, BackendUse], assumes: Mapping[str, str]) -> str:
    use = backends.get("tensorrt")
    return assumes.get("tensorrt") or (use and use.version) or TENSORRT_FROM
