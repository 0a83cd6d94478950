from __future__ import annotations

import pytest

from edgeprune.backends import LOWER
from edgeprune.errors import ConfigError, UnknownNameError
from edgeprune.meters import METERS
from edgeprune.shipped import find
from edgeprune.targets import target
from edgeprune.targets.load import by_name, load_target, target_names
from edgeprune.targets.machine import architecture, instruction_sets

SHIPPED = target_names()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_target_is_called_as_its_file_and_has_sources(name):
    target = load_target(name)
    assert target.name == name
    assert target.sources


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_target_uses_runtimes_that_exist(name):
    assert load_target(name).backends.keys() <= LOWER.keys()


def test_the_names_a_target_may_use_are_those_of_the_tables():
    assert set(target.BACKENDS) == LOWER.keys()
    assert set(target.METERS) == METERS.keys()


def test_only_the_cpu_of_this_machine_is_measured_here():
    assert [name for name in SHIPPED if load_target(name).local] == ["cpu"]


def test_an_alias_finds_its_target():
    assert load_target("jetson").name == "jetson-orin-nano"


def test_a_target_that_assumes_a_runtime_agrees_with_itself():
    jetson = load_target("jetson")
    assert jetson.backends["tensorrt"].version == jetson.assumes["tensorrt"]


def test_a_path_is_read():
    assert load_target(str(find("targets", "cpu"))) == load_target("cpu")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'jetson'"):
        load_target("jetsom")


def test_an_unknown_key_is_refused_and_the_known_ones_are_told(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(find("targets", "cpu").read_text() + "colour: red\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: unknown key 'colour': .*known: .*channel_alignment"):
        load_target(str(path))


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_target("nowhere.yaml")


def test_this_machine_is_known_by_its_instruction_sets():
    cpu = load_target("cpu")
    assert cpu.arch == architecture()
    assert cpu.isa == instruction_sets()


def test_what_a_file_says_of_this_machine_stands(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(find("targets", "cpu").read_text().replace("arch: any", f"arch: {architecture()}\nisa: [avx2]"))
    old = load_target(str(path))
    assert (old.arch, old.isa) == (architecture(), ("avx2",))


def test_no_shipped_target_loses_a_bit_because_its_file_does_not_say_what_it_has():
    for name in SHIPPED:
        target = load_target(name)
        assert target.isa or not target.reduced_range or target.backends.keys() == {"tensorrt"}  # not the GPU's concern


ELSEWHERE = "aarch64" if architecture() == "x86_64" else "x86_64"


@pytest.mark.parametrize(
    ("given", "wrong", "said"),
    [
        ("openvino:", "openvin:", r"backends: unknown runtime 'openvin': did you mean 'openvino'\?"),
        ("meters: [rapl]", "meters: [rapp]", r"meters: unknown meter 'rapp': did you mean 'rapl'\?"),
        ("arch: any", f"arch: {ELSEWHERE}", f"arch: {ELSEWHERE}, but this machine, .* is {architecture()}"),
        ("name: cpu", "name: ../up", r"name: .*\(got '\.\./up'\)"),
        ("name: cpu", "name: CPU", r"name: .*\(got 'CPU'\)"),
        ("this-machine", "this machine", r"aliases\.0: .*\(got 'this machine'\)"),
    ],
)
def test_what_is_impossible_is_told_in_one_line_with_the_file(tmp_path, given, wrong, said):
    path = tmp_path / "mine.yaml"
    text = find("targets", "cpu").read_text()
    assert given in text
    path.write_text(text.replace(given, wrong))
    with pytest.raises(ConfigError, match=rf"^{path}: {said}") as error:
        load_target(str(path))
    assert "\n" not in str(error.value)


def test_a_target_without_a_runtime_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, title: Mine, arch: any, backends: {}, sources: []}")
    with pytest.raises(ConfigError, match=r"mine\.yaml: backends: .*at least 1"):
        load_target(str(path))


def test_another_device_may_have_meters_that_are_not_known_here(tmp_path):
    path = tmp_path / "board.yaml"
    path.write_text(
        f"{{name: board, title: Board, arch: {ELSEWHERE}, backends: {{ort: {{precisions: [fp32]}}}},"
        " meters: [ina9999], sources: [the board]}"
    )
    assert load_target(str(path)).meters == ("ina9999",)


def test_two_targets_must_not_share_a_name():
    cpu = load_target("cpu")
    other = cpu.model_copy(update={"name": "other"})
    with pytest.raises(ConfigError, match="targets 'cpu' and 'other' are both called 'this-machine'"):
        by_name([cpu, other])


@pytest.mark.parametrize(
    ("arch", "isa", "reduced"),
    [
        ("x86_64", ("avx2",), True),
        ("x86_64", ("avx2", "avx_vnni"), False),
        ("x86_64", ("avx512_vnni",), False),
        ("x86_64", (), True),
        ("any", (), True),
        ("aarch64", ("asimd",), False),
        ("aarch64", (), False),
    ],
)
def test_what_may_be_x86_without_vnni_keeps_weights_to_7_bits(arch, isa, reduced):
    target = load_target("cpu").model_copy(update={"arch": arch, "isa": isa})
    assert target.reduced_range is reduced
