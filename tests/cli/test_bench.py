from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgeprune.cli.main import main


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "photos"], "--data photos: {bundle} was made with digits, which is found by its name"),
        (["--metric", "score.py:fn"], "--metric score.py:fn: {bundle} is judged by top1"),
        (["--compare", "{bundle}", "--metric", "score.py:fn"], "--metric has no effect with --compare"),
        (["--compare", "{bundle}", "--data", "photos"], "--data photos: {bundle} was made with digits"),
    ],
)
def test_an_option_that_says_where_nothing_is_looked_for_is_refused_in_one_line(bundles, tmp_path, options, said):
    bundle = str(bundles["cpu"])
    given = [one.format(bundle=bundle) for one in options]
    shown = CliRunner().invoke(main, ["bench", bundle, "--out", str(tmp_path), *given])
    assert shown.exit_code == 2
    assert said.format(bundle=bundle) in " ".join(shown.stderr.split())
