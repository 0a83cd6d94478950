from __future__ import annotations

import pytest

from edgeprune.errors import ConfigError
from edgeprune.recipe import validated
from edgeprune.targets.target import Target

GIVEN = {
    "name": "board",
    "title": "A board",
    "arch": "aarch64",
    "backends": {"tensorrt": {"precisions": ["fp32"], "version": "10.3"}},
    "assumes": {"tensorrt": "10.3"},
    "sources": ["its data sheet"],
}


def test_what_is_possible_is_taken():
    assert validated(Target, GIVEN, "board.yaml").name == "board"


@pytest.mark.parametrize(
    ("version", "assumes", "found"),
    [("10.9", {}, "10.9"), (None, {"tensorrt": "11.1"}, "11.1"), (None, {"jetpack": "6-DP"}, "10.0")],
)
def test_its_tensorrt_is_found_wherever_it_is_said(version, assumes, found):
    use = {"tensorrt": {"precisions": ["fp32"], "version": version}}
    assert validated(Target, GIVEN | {"backends": use, "assumes": assumes}, "board.yaml").tensorrt == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"assumes": {"tensorrt": "10.4"}}, r"board\.yaml: assumes: .*tensorrt is 10\.4 here and 10\.3 in backends"),
        ({"assumes": {"jetpack": "5.1.2"}}, "JetPack 5 and older are out of scope"),
        ({"assumes": {"jetpack": "5-DP"}}, "JetPack 5 and older are out of scope"),
        (
            {"assumes": {}, "backends": {"tensorrt": {"precisions": ["fp32"], "version": "8.5"}}},
            r"TensorRT 8\.5: files are",
        ),
        ({"assumes": {"tensorrt": "12.1"}, "backends": {"tensorrt": {"precisions": ["fp32"]}}}, "up to below 12.0"),
        ({"assumes": {"tensorrt": "10"}, "backends": {"tensorrt": {"precisions": ["fp32"]}}}, "said as in 10.3"),
        ({"assumes": {"tensorrt": "newest"}}, r"assumes\.tensorrt: .*a version begins with numbers"),
        ({"backends": {}}, "backends: .*at least 1"),
        ({"backends": {"ort": {"precisions": []}}}, r"backends\.ort\.precisions: .*at least 1"),
        ({"backends": {"ort": {"precisions": ["int3"]}}}, "int3"),
        ({"backends": {"ort": {"precisions": ["fp16"]}}}, "nothing is lowered to fp16 for ort"),
        ({"sources": []}, "sources: .*at least 1"),
        ({"name": "../up"}, "name: .*pattern"),
        ({"channel_alignment": 0}, "channel_alignment"),
    ],
)
def test_what_is_impossible_is_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        validated(Target, GIVEN | change, "board.yaml")
