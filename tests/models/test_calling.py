from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.errors import ModelError
from edgeprune.models.calling import inputs_of, run
from edgeprune.tensor import TensorSpec

IMAGE = (TensorSpec("image", "float32", ("batch", 1, 8, 8)),)
TEXT = tuple(TensorSpec(name, "int64", ("batch", 4)) for name in ("input_ids", "attention_mask", "token_type_ids"))


def module(forward):
    class Net(nn.Module):
        pass

    Net.forward = forward
    return Net()


def names(forward, specs):
    return [spec.name for spec in inputs_of(module(forward), specs)]


def test_tensors_go_by_name_in_the_order_of_the_parameters():
    assert names(lambda self, attention_mask, input_ids: 0, TEXT) == ["attention_mask", "input_ids"]
    assert names(lambda self, input_ids=None, labels=None, **more: 0, TEXT) == ["input_ids"]
    assert names(lambda self, *, input_ids: 0, TEXT) == ["input_ids"]
    assert names(lambda self, image: 0, IMAGE) == ["image"]


def test_a_single_tensor_goes_into_a_single_input_whatever_their_names():
    assert names(lambda self, x: 0, IMAGE) == ["input"]
    assert names(lambda self, x, scale=2: 0, IMAGE) == ["input"]
    assert names(lambda self, pixels=None, labels=None: 0, IMAGE) == ["input"]
    assert names(lambda self, *tensors: 0, IMAGE) == ["input"]
    assert inputs_of(nn.Flatten(), IMAGE)[0].shape == IMAGE[0].shape


def test_the_one_input_of_a_text_with_another_name_is_its_tokens_or_what_alone_is_left():
    assert names(lambda self, x: 0, TEXT) == ["x"]
    assert names(lambda self, attention_mask, words, lengths=None: 0, TEXT) == ["attention_mask", "words"]
    assert names(lambda self, input_ids, attention_mask, kinds: 0, TEXT) == ["input_ids", "attention_mask", "kinds"]
    assert inputs_of(module(lambda self, x: 0), TEXT)[0].shape == ("batch", 4)
    x = torch.ones(2)
    assert torch.equal(run(module(lambda self, words: words + 1), {"words": x})["output"], x + 1)


@pytest.mark.parametrize(
    ("forward", "specs", "wanted"),
    [
        (lambda self, x, y: 0, TEXT, "takes x, y, the data give input_ids, attention_mask, token_type_ids"),
        (lambda self, x, /: 0, TEXT, "takes x"),
        (lambda self, input_ids, positions: 0, TEXT, "takes positions"),
        (lambda self, a, b: 0, IMAGE, "takes a, b, the data give image"),
        (lambda self: 0, IMAGE, "takes nothing"),
        (lambda self, *, x: 0, IMAGE, "takes x"),
    ],
)
def test_what_the_data_do_not_give_is_named(forward, specs, wanted):
    with pytest.raises(ModelError, match=wanted):
        inputs_of(module(forward), specs)


def test_a_module_is_called_as_its_inputs_are_named():
    x, y = torch.ones(2), torch.zeros(2)
    assert torch.equal(run(module(lambda self, a: a + 1), {"input": x})["output"], x + 1)
    assert torch.equal(run(module(lambda self, b, a: a), {"a": x, "b": y})["output"], x)
    assert torch.equal(run(nn.Sequential(nn.ReLU()), {"input": x})["output"], x)


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (lambda x: x, ["output"]),
        (lambda x: (x,), ["output"]),
        (lambda x: [x, x], ["output_0", "output_1"]),
        (lambda x: {"b": x, "a": x}, ["b", "a"]),
    ],
)
def test_answers_have_names(returned, expected):
    assert list(run(module(lambda self, x: returned(x)), {"input": torch.ones(1)})) == expected


@pytest.mark.parametrize("returned", [None, "text", (), {}, (torch.ones(1), None), {"a": 3}])
def test_what_is_no_tensor_is_refused(returned):
    with pytest.raises(ModelError, match="return a tensor, a tuple or a dict of tensors"):
        run(module(lambda self, x: returned), {"input": torch.ones(1)})
