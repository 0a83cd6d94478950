from __future__ import annotations

import pytest

from edgeprune.targets.machine import architecture, instruction_sets


@pytest.mark.parametrize(
    ("machine", "name"), [("AMD64", "x86_64"), ("arm64", "aarch64"), ("aarch64", "aarch64"), ("riscv64", "riscv64")]
)
def test_an_architecture_has_one_name(machine, name):
    assert architecture(machine) == name


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("flags\t\t: fpu avx2 fma avx_vnni", ("avx2", "fma", "avx_vnni")),
        ("Features\t: fp asimd asimddp", ("asimd", "asimddp")),
        ("bogomips\t: 5000", ()),
    ],
)
def test_flags_that_matter_are_picked(tmp_path, line, flags):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert instruction_sets(tmp_path) == flags


def test_where_nothing_tells_nothing_is_claimed(tmp_path):
    assert instruction_sets(tmp_path) == ()
