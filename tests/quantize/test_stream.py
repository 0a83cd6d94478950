import numpy as np
import pytest

from edgeprune.quantize import stream
from edgeprune.quantize.stream import values

TEXT = "(float[batch, 2] x, float[batch, 2] z) => (float[batch, 2] y) { a = Add(x, z) r = Relu(a) y = Mul(r, r) }"
X = np.arange(-5, 5, dtype=np.float32).reshape(5, 2)


def batches(size: int):
    return ({"x": X[start : start + size], "z": X[start : start + size]} for start in range(0, len(X), size))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_values_come_batch_by_batch(parse, size):
    found = list(values(parse(TEXT), ["a", "x", "y"], batches(size)))
    assert [len(batch["a"]) for batch in found] == [len(batch["x"]) for batch in batches(size)]
    for name, expected in {"x": X, "a": 2 * X, "y": np.maximum(2 * X, 0) ** 2}.items():
        np.testing.assert_array_equal(np.concatenate([batch[name] for batch in found]), expected)


@pytest.mark.parametrize(("most", "sizes"), [(8, [1, 1, 1, 1, 1]), (24, [2, 2, 1]), (32, [4, 1]), (40, [5])])
def test_a_batch_is_run_in_parts_whose_values_fit(parse, monkeypatch, most, sizes):
    monkeypatch.setattr(stream, "MOST_BYTES", most)  # a sample has 8 bytes of `a`
    found = [batch["a"] for batch in values(parse(TEXT), ["a"], batches(5))]
    assert [len(part) for part in found] == sizes
    np.testing.assert_array_equal(np.concatenate(found), 2 * X)


def test_inputs_alone_are_handed_through(parse):
    assert [list(batch) for batch in values(parse(TEXT), ["x"], batches(3))] == [["x"], ["x"]]


def test_no_batch_is_taken_before_it_is_asked_for(parse):
    taken = 0

    def counted():
        nonlocal taken
        for batch in batches(1):
            taken += 1
            yield batch

    next(values(parse(TEXT), ["a"], counted()))
    assert taken == 1


def test_the_model_stays(parse):
    model = parse(TEXT)
    list(values(model, ["a"], batches(5)))
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert len(list(model.graph)) == 3
