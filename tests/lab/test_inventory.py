from __future__ import annotations

import pytest

from edgeprune.errors import ConfigError, EdgePruneError, UnknownNameError
from edgeprune.lab.inventory import read_lab

LAB = """
devices:
  - {name: pi-1, target: rpi5, host: 10.0.0.7, user: lab, key: keys/lab, tags: [arm, fast]}
  - {name: pi-2, target: rpi5, tags: [arm], cool_down_s: 30, power_cycle: [uhubctl, -a, cycle]}
  - {name: nuc, target: intel-nuc, tags: [fast]}
groups:
  desk: [nuc, pi-2]
  all: [desk, arm]
"""


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "lab.yaml").write_text(LAB)
    return read_lab(tmp_path / "lab.yaml")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((), ["pi-1", "pi-2", "nuc"]),
        (("pi-2",), ["pi-2"]),
        (("fast",), ["pi-1", "nuc"]),
        (("nuc", "arm"), ["pi-1", "pi-2", "nuc"]),
        (("desk",), ["pi-2", "nuc"]),
        (("all",), ["pi-1", "pi-2", "nuc"]),
    ],
)
def test_devices_are_chosen_by_name_tag_or_group_each_once_in_the_order_of_the_file(lab, names, found):
    assert [one.name for one in lab.select(names)] == found


def test_a_device_knows_its_type_its_address_and_its_key_beside_the_file(lab, tmp_path):
    first, second, _ = lab.instances
    assert (first.target.name, first.device.address, first.device.key) == ("rpi5", "10.0.0.7", tmp_path / "keys/lab")
    assert second.device.address == "pi-2"  # as ~/.ssh/config calls it


def test_a_target_of_ones_own_is_found_beside_the_inventory(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "{name: mine, title: Mine, arch: aarch64, backends: {ort: {precisions: [fp32]}}, sources: [me]}"
    )
    (tmp_path / "lab.yaml").write_text("devices: [{name: a, target: mine.yaml}]")
    assert read_lab(tmp_path / "lab.yaml").instances[0].target.name == "mine"


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("devices: [{name: a, target: rpi5}, {name: a, target: rpi5}]", ConfigError, "'a' is the name of a device and"),
        ("devices: [{name: a, target: rpi5}]\ngroups: {a: [a]}", ConfigError, "of a device and of a group"),
        ("devices: [{name: a, target: rpi5}, {name: b, target: rpi5, tags: [a]}]", ConfigError, "and a tag of b"),
        (
            "devices: [{name: a, target: rpi6}]",
            UnknownNameError,
            "device a: unknown target 'rpi6': did you mean 'rpi5'",
        ),
        ("devices: [{name: a, target: rpi5}]\ngroups: {g: [b]}", UnknownNameError, "group .* 'b': "),
        ("devices: [{name: a, target: rpi5}]\ngroups: {g: [h], h: [g]}", ConfigError, "let no group hold itself"),
        ("devices: [{name: a, target: rpi5, password: x}]", ConfigError, "line 1: no passwords in files"),
        ("devices:\n- name: a\n  target: rpi5\n  ssh_password : 'x'", ConfigError, "line 4: no passwords in files"),
        ("devices: [{name: a, target: rpi5, hots: b}]", ConfigError, "unknown key 'devices.0.hots'"),
        ("devices: [{name: a, target: rpi5, host: -oProxyCommand=x}]", ConfigError, "no dash in front"),
        ("devices: [{name: a, target: rpi5, user: 'a b'}]", ConfigError, "no dash in front"),
        ("devices: [{name: A/B, target: rpi5}]", ConfigError, "devices.0.name"),
        ("devices: []", ConfigError, "at least 1"),
        ("devices: [{name: a, target: rpi5, port: 70000}]", ConfigError, "devices.0.port"),
    ],
)
def test_what_makes_no_sense_is_one_line_that_says_where(tmp_path, text, kind, said):
    (tmp_path / "lab.yaml").write_text(text)
    with pytest.raises(kind, match=said) as raised:
        read_lab(tmp_path / "lab.yaml")
    assert isinstance(raised.value, EdgePruneError)
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "lab.yaml") in str(raised.value)


def test_a_missing_inventory_says_how_to_write_one(tmp_path):
    with pytest.raises(ConfigError, match=r"write one as docs/lab\.md shows"):
        read_lab(tmp_path / "lab.yaml")


def test_an_unknown_name_names_the_nearest(lab):
    with pytest.raises(UnknownNameError, match="did you mean 'pi-1'"):
        lab.select(["pi1"])
    with pytest.raises(UnknownNameError, match="did you mean 'nuc'"):
        lab.one("nucc")
