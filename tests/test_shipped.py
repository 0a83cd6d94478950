from __future__ import annotations

import pytest

from edgeprune import shipped
from edgeprune.errors import UnknownNameError


@pytest.mark.parametrize("kind", ["targets", "calibration", "recipes"])
def test_every_name_is_found_and_is_a_file(kind):
    assert shipped.names(kind)
    assert all(shipped.find(kind, name).is_file() for name in shipped.names(kind))


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown recipe 'cnn-digit': did you mean 'cnn-digits'"):
        shipped.find("recipes", "cnn-digit")
