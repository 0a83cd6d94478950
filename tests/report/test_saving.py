from __future__ import annotations

import os

import pytest

from edgeprune.errors import OutputError
from edgeprune.report.saving import save


def test_a_page_is_written_whole_with_its_folder(tmp_path):
    save("<p>", tmp_path / "new" / "report.html")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"report\.html: cannot be written \(Permission denied\)"):
        save("<p>", tmp_path / "report.html")


def test_a_file_where_a_folder_should_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save("<p>", tmp_path / "file" / "report.html")
