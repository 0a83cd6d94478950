from __future__ import annotations

import sys

import pytest
import torch

from edgeprune.errors import ModelError
from edgeprune.models.zoo import build

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Widths:
    hidden: int = 5

def make(classes, hidden=Widths().hidden):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.Linear(hidden, classes))

def any_of_them(**arguments):
    assert set(arguments) == {"input_shape", "classes"}
    return make(arguments["classes"])

def none_of_them():
    return make(10)
"""


@pytest.fixture
def net(tmp_path):
    """Write a file and return its path."""

    def write(text):
        path = tmp_path / "net.py"
        path.write_text(text)
        return path

    return write


def build_from(path, factory="make"):
    return build(f"{path}:{factory}", input_shape=(1, 8, 8), classes=10)


@pytest.mark.parametrize("factory", ["make", "any_of_them", "none_of_them"])
def test_a_factory_is_given_what_it_takes(net, factory):
    model = build_from(net(GOOD), factory)
    assert model.training
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_the_file_is_run_anew_and_leaves_no_module_of_its_name(net):
    build_from(net(GOOD))
    path = net(GOOD.replace("hidden: int = 5", "hidden: int = 6"))
    assert build_from(path)[1].out_features == 6
    assert "net" not in sys.modules
    assert not (path.parent / "__pycache__").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make(:\n", r"cannot be imported: SyntaxError: .* \(line 1\)"),
        ("\nimport no_such_module_anywhere", r"cannot be imported: ModuleNotFoundError: No module.*\(line 2\)"),
        ("import sys\nsys.exit(3)", r"cannot be imported: SystemExit: 3 \(line 2\)"),
        ("\0", "cannot be imported: SyntaxError|cannot be imported: ValueError"),
        ("def other(): pass", "no factory 'make' in it; it defines other"),
        ("", "no factory 'make' in it; it defines nothing callable"),
        ("make = 3", "no factory 'make'"),
        ("def make():\n    return {}['width']", r"make raised KeyError: 'width' \(line 2\)"),
        ("def make(a_b_c): pass", "make raised TypeError: .*missing 1 required positional argument"),
        ("def make(): return 'net'", r"make returned str, a torch\.nn\.Module is needed"),
        ("from torch import nn\ndef make(): return nn.Linear", r"make returned type, a torch\.nn\.Module is needed"),
        ("from torch import nn\ndef make(): return nn.Linear(3, 3)", "cannot take an input of .*RuntimeError"),
        ("from torch import nn\ndef make(): return nn.Flatten()", r"to \[1, 64\], scores of \[1, 10\] are needed"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_one_line_with_its_name(net, text, message):
    path = net(text)
    with pytest.raises(ModelError, match=message) as caught:
        build_from(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere/net.py:make", "net.py", "net.py:"])
def test_a_name_that_leads_to_no_file_is_told(name):
    with pytest.raises(ModelError, match=r"no such file|is written file\.py:factory"):
        build(name, input_shape=(1, 8, 8), classes=10)
