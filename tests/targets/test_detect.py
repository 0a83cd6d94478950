from __future__ import annotations

from typing import Any

import pytest

from edgeprune.errors import MissingError
from edgeprune.targets.detect import detect
from edgeprune.targets.machine import architecture, instruction_sets
from edgeprune.worker.probe import probe

EVERYTHING = {"onnxruntime": "1.31.1", "openvino": "2026.4.1", "numpy": "2.4"}


def probed(**values: Any) -> dict[str, Any]:
    usual = {
        "machine": "Intel(R) Core(TM) i5-1340P",
        "arch": "x86_64",
        "isa": ("avx2", "avx_vnni"),
        "cores": 4,
        "memory_bytes": 8_000_000_000,
        "os": "Linux",
        "versions": EVERYTHING,
        "emulated": False,
    }
    return usual | values


def test_this_machine_is_described_as_it_is():
    target = detect(probe())
    assert (target.arch, target.isa, target.local) == (architecture(), instruction_sets(), True)
    assert target.backends["ort"].version
    assert target.memory_bytes == probe()["memory_bytes"]


def test_a_target_is_named_after_its_processor_or_as_told():
    assert detect(probed()).name == "intel-core-i5-1340p"
    assert detect(probed(), "mine").name == "mine"
    assert detect(probed(machine="?")).name == "this-machine"


@pytest.mark.parametrize(
    ("arch", "isa", "openvino", "alignment"),
    [
        ("x86_64", ("avx2",), ("fp32", "int8"), 8),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni"), ("fp32", "int8"), 16),
        ("x86_64", ("avx2", "avx512f", "avx512_bf16"), ("fp32", "bf16", "int8"), 16),
        ("x86_64", ("avx2", "avx512f", "amx_bf16"), ("fp32", "bf16", "int8"), 16),
        ("aarch64", ("asimd", "asimddp", "bf16"), ("fp32",), 16),
    ],
)
def test_precisions_and_alignment_follow_the_instruction_sets(arch, isa, openvino, alignment):
    target = detect(probed(arch=arch, isa=isa))
    assert target.backends["openvino"].precisions == openvino
    assert target.backends["ort"].precisions == ("fp32", "int8")
    assert target.channel_alignment == alignment
    assert f"multiples of {alignment}" in target.notes[0]


def test_only_runtimes_that_are_installed_are_named():
    assert detect(probed(versions={"onnxruntime": "1.24"})).backends.keys() == {"ort"}
    with pytest.raises(MissingError, match=r"pip install 'edgeprune\[ort\]'"):
        detect(probed(versions={"numpy": "2.4"}))


def test_what_a_reader_must_know_is_noted():
    notes = " ".join(detect(probed(emulated=True, isa=(), versions=EVERYTHING | {"tensorrt": "10.3"})).notes)
    for word in ("emulated", "TensorRT 10.3", "could not be read", "4 cores"):
        assert word in notes


@pytest.mark.parametrize(("arch", "reduced"), [("x86_64", True), ("aarch64", False)])
def test_where_instruction_sets_cannot_be_read_x86_keeps_weights_to_7_bits_and_says_so(arch, reduced):
    target = detect(probed(arch=arch, isa=()))
    assert target.reduced_range is reduced
    assert any("7 bits" in note for note in target.notes) is reduced


def test_an_architecture_without_runtimes_is_refused():
    with pytest.raises(MissingError, match="riscv64"):
        detect(probed(arch="riscv64"))
