from __future__ import annotations

import sys

import pytest
import torch

from edgeprune.errors import MissingError, ModelError
from edgeprune.models.zoo import build, source_hash

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
    assert set(arguments) == {"input_shape", "classes", "task"}
    return make(arguments["classes"])

def none_of_them():
    return make(10)
"""


def forward(expression):
    """A file whose model answers with that expression of `x`."""
    return f"""
import sys, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(10, 64))
    def forward(self, x): return {expression}
make = Net
"""


ARGUMENTS = {"input_shape": [1, 8, 8], "classes": 10, "task": "classification"}


@pytest.fixture
def net(tmp_path):
    """Write a file and return its path."""

    def write(text):
        path = tmp_path / "net.py"
        path.write_text(text)
        return path

    return write


def build_from(path, factory="make", **given):
    return build(f"{path}:{factory}", {**ARGUMENTS, **given})


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
        ("\nimport torch.no_such_part", r"cannot be imported: ModuleNotFoundError: No module.*\(line 2\)"),
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
        ("from torch import nn\ndef make(): return nn.Flatten()", "has no parameters: there is nothing to train"),
        ("import sys\ndef make():\n    sys.exit()", r"make raised SystemExit \(line 3\)"),
        (forward("x.flatten(1) @ self.w.T[:, :9]"), r"to \[2, 9\] in evaluation, scores of \[2, 10\] are needed"),
        (forward("x.reshape(1, -1)[:, :64] @ self.w.T"), r"to \[1, 10\] in evaluation"),
        (forward("x[:1].flatten(1) @ self.w.T"), r"to \[1, 10\] in evaluation"),
        (forward("[x, 'y']"), "to what is no tensor in evaluation: Net returns list"),
        (forward("x"), r"to \[2, 1, 8, 8\] in evaluation, scores of \[2, 10\] are needed"),
        (forward("x.flatten(1) @ self.w.T if not self.training else 1 / 0"), r"in training: ZeroDivisionError.*line 7"),
        (forward("sys.exit(2)"), r"in evaluation: SystemExit: 2 \(line 7\)"),
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
        build(name, ARGUMENTS)


@pytest.mark.parametrize(
    "text",
    [
        "\nimport no_such_package.part",
        "def make():\n    import no_such_package",
        forward("__import__('no_such_package')"),
    ],
)
def test_a_package_that_is_not_installed_is_named(net, text):
    with pytest.raises(MissingError, match=r"net\.py: needs no_such_package, .*\(line [27]\): install it"):
        build_from(net(text))


def test_the_trial_leaves_the_model_as_it_was_made(net):
    text = "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(10), nn.BatchNorm1d(10))"
    model = build_from(net(text))
    assert model.training
    assert model[1].weight.shape == (10, 64)
    assert int(model[2].num_batches_tracked) == 0


WITH_SIBLING = "import parts, kit.layers\ndef make(): return kit.layers.layer(parts.WIDTH)"


@pytest.fixture
def sibling(net, tmp_path):
    """Write a file that uses a module and a package beside it, and return its path."""
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "layers.py").write_text(
        "from torch import nn\n"
        "def layer(width): return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))"
    )
    (tmp_path / "parts.py").write_text("WIDTH = 5")
    return net(WITH_SIBLING)


def test_what_lies_beside_the_file_can_be_imported_and_is_read_anew(sibling):
    paths = list(sys.path)
    assert build_from(sibling)[1].out_features == 5
    (sibling.parent / "parts.py").write_text("WIDTH = 6")
    assert build_from(sibling)[1].out_features == 6
    assert sys.path == paths
    assert not list(sibling.parent.rglob("__pycache__"))


def test_two_folders_may_have_files_of_one_name(sibling, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "parts.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))"
    )
    (other / "net.py").write_text("from parts import make")
    build_from(sibling)
    assert len(build_from(other / "net.py")) == 2
    assert len(build_from(sibling)) == 3


@pytest.mark.parametrize("file", ["net.py", "parts.py", "kit/layers.py"])
def test_a_model_is_another_when_a_file_that_it_imports_is(sibling, file):
    name = f"{sibling}:make"
    (sibling.parent / "stranger.py").write_text("")
    before = source_hash(name)
    (sibling.parent / "stranger.py").write_text("changed = True")
    assert source_hash(name) == before
    path = sibling.parent / file
    path.write_text(path.read_text() + "\n")
    assert source_hash(name) != before


TEXT = {"length": 6, "vocabulary": 20, "classes": 2, "task": "classification"}
READER = """
import torch
class Reader(torch.nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, 8)
        self.dense = torch.nn.Linear(8, %d)
    def forward(self, attention_mask, input_ids):
        found = self.dense(self.embedding(input_ids)) * attention_mask.unsqueeze(2)
        return %s
"""


@pytest.mark.parametrize(
    ("answers", "returned", "given"),
    [
        (2, "found.mean(1)", {}),
        (1, "found.mean(1)", {}),
        (1, "found.mean((1, 2))", {"task": "regression", "classes": 1}),
        (2, "found.unbind(2)", {"task": "question-answering", "classes": 0}),
        (7, "{'tokens': found, 'mean': found.mean(1)}", {"task": "none", "classes": 0}),
    ],
)
def test_a_model_may_take_several_inputs_by_name_and_give_several_outputs(net, answers, returned, given):
    model = build(f"{net(READER % (answers, returned))}:Reader", {**TEXT, **given})
    assert model.embedding.num_embeddings == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (READER % (3, "found.mean(1)"), r"maps attention_mask \[2, 6\], input_ids \[2, 6\] to \[2, 3\] in evaluation"),
        (READER.replace("attention_mask", "x") % (2, "found"), "takes x, the data give input_ids, attention_mask"),
        (READER.replace("(input_ids)", "(input_ids + 20)") % (2, "found"), "in evaluation: IndexError"),
    ],
)
def test_what_is_wrong_with_a_model_for_texts_is_told_in_one_line(net, text, message):
    with pytest.raises(ModelError, match=message) as caught:
        build(f"{net(text)}:Reader", TEXT)
    assert "\n" not in str(caught.value)


def test_a_model_may_take_arrays_of_the_users_by_name(net):
    path = net(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, inputs):\n"
        "        super().__init__()\n"
        "        self.dense = torch.nn.Linear(inputs['left'][1][1], 4)\n"
        "    def forward(self, right, left): return self.dense(left) + right.float().mean()\n"
    )
    inputs = {"left": ["float32", ["batch", 5]], "right": ["int32", ["batch", 2, 3]]}
    assert build(f"{path}:Net", {"inputs": inputs, "classes": 4, "task": "classification"}).dense.in_features == 5
