import pytest

from edgeprune.errors import ConfigError
from edgeprune.tensor import TensorSpec, parse_spec, shown


def test_free_dimensions_are_one_unless_set():
    spec = TensorSpec("x", "float32", ("batch", 3, "height"))
    assert spec.fixed() == (1, 3, 1)
    assert spec.fixed(batch=8, height=5) == (8, 3, 5)


@pytest.mark.parametrize("text", ["x:float32[1,3,224,224]", "ids:int64[batch, length]", "a.b/c:bool[]"])
def test_an_input_is_read_as_it_is_shown(text):
    spec = parse_spec(text)
    name, _, rest = text.partition(":")
    assert shown(spec).replace(" ", "") == f"{name}{rest}".replace(" ", "")


@pytest.mark.parametrize(
    "text", ["x", "x:float32", "x:float[1]", "x:float32[0]", "x:float32[1,]", ":float32[1]", "x:f[1"]
)
def test_what_is_written_wrong_is_refused_saying_how_it_is_written(text):
    with pytest.raises(ConfigError, match="write NAME:DTYPE"):
        parse_spec(text)
