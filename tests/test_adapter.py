from edgeprune.adapter import adapter
from edgeprune.results import Environment


def test_an_adapter_is_built_once():
    assert adapter(Environment) is adapter(Environment)
    assert adapter(tuple[int, ...]).validate_json("[1, 2]") == (1, 2)
