import pytest

from edgeprune.errors import ModelError
from edgeprune.graph.specs import tensor_specs
from edgeprune.tensor import TensorSpec


def test_a_value_is_told_by_name_type_and_sizes(parse):
    model = parse("(int64[n, ?, 3] ids, float t) => (int64[n, k, 3] y) { y = Neg(ids) }")
    assert tensor_specs(model.graph.inputs) == (
        TensorSpec("ids", "int64", ("n", "ids_1", 3)),
        TensorSpec("t", "float32", ()),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(seq(float[n]) x) => (float[n] y) { y = ConcatFromSequence<axis = 0>(x) }", "'x' is no tensor"),
        ("(optional(float[n]) x) => (float[n] y) { y = OptionalGetElement(x) }", "'x' is no tensor"),
        ("(string[n] x) => (string[n] y) { y = Identity(x) }", "'x' holds STRING: only numbers"),
    ],
)
def test_what_is_no_tensor_of_numbers_is_refused(parse, text, said):
    with pytest.raises(ModelError, match=said):
        tensor_specs(parse(text).graph.inputs)
