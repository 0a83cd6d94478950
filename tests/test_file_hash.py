from __future__ import annotations

import hashlib

import pytest

from edgeprune.file_hash import BLOCK, sha256_of


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1])
def test_it_is_the_hash_of_all_bytes(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()
