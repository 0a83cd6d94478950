"""Is one variant faster than another, by how much, and how sure is that: both by turns in one run.

The first takes part twice. What the machine itself makes of two equal programs stands beside the answer; where it
finds them different, no answer is given.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from edgeprune.backends.backend import Feeds
from edgeprune.bench import EvalSplit, Settings, measure
from edgeprune.bundle import Bundle, Core, Variant, seal
from edgeprune.data.preprocess import feeds
from edgeprune.errors import BudgetError, InputError
from edgeprune.metrics import Interval
from edgeprune.pipeline.measure import same_splits
from edgeprune.pipeline.places import located_data
from edgeprune.progress import SILENT, Progress
from edgeprune.recipe import read_yaml
from edgeprune.results import Measurement
from edgeprune.targets.target import Target
from edgeprune.tensor import shown
from edgeprune.transport.local import LocalTransport

SETTINGS = Settings(restarts=8, seconds=1.4, rounds=14, judged=False)
"""Eight restarts make an interval at 99 %: from the least to the greatest."""
WARM = 8


@dataclass(frozen=True)
class Comparison:
    """What one interleaved run of two variants says."""

    a: str
    """`<bundle>:<variant>`."""
    b: str
    speedup: Interval
    """Latency of A / latency of B."""
    control: Interval
    """Latency of A / latency of A once more, in the same run."""
    p50_ms: tuple[float, float]
    """Of A and of B."""
    measurements: tuple[Measurement, ...]
    """A, A once more, B, with their raw samples."""

    @property
    def verdict(self) -> str:
        """`faster`, `slower` or `no difference` of B, or `too noisy`."""
        if not self.control.low <= 1 <= self.control.high:
            return "too noisy"
        if self.speedup.low > 1:
            return "faster"
        return "slower" if self.speedup.high < 1 else "no difference"

    def check(self, percent: float) -> None:
        """Raise BudgetError where B is slower than A for sure, and by more than `percent`."""
        lost = 100 * (1 / self.speedup.estimate - 1)
        if self.verdict == "slower" and lost > percent:
            raise BudgetError(f"{self.b} takes {lost:.1f} % longer than {self.a}: {percent:g} % are allowed")


def compare(
    a: Bundle,
    of_a: Variant,
    b: Bundle,
    of_b: Variant,
    *,
    settings: Settings = SETTINGS,
    data: str | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """Time a variant of one bundle and one of another, or of the same, on this machine.

    `data` says where the user's own that A was made with lie now, if not where they were. Raises InputError where they
    are not at hand, where A and B take different inputs or are for a device that is not here; DataError for other data.
    """
    for bundle in (a, b):
        if not read_yaml(bundle.root / "target.yaml", Target).local:
            raise InputError(f"{bundle.root}: is for {bundle.core.target}, which is not this machine")
    if a.core.inputs != b.core.inputs:
        takes = [", ".join(map(shown, bundle.core.inputs)) for bundle in (a, b)]
        raise InputError(f"{a.root} takes {takes[0]}, {b.root} {takes[1]}: only like can be compared with like")
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        both = _both(a, of_a, b, of_b, Path(folder) / "both")
        target = read_yaml(a.root / "target.yaml", Target)
        first, found = measure(
            both, target, [sample_inputs(a, data)], settings, transport=LocalTransport(), progress=progress
        )
    again, other = found
    for one in found:
        if one.unmeasured or one.speedup is None:
            raise InputError(f"{one.variant}: {one.unmeasured or 'too few restarts for an interval: six at least'}")
    assert other.speedup is not None
    assert again.speedup is not None
    p50 = (first.percentile_ms(50) or 0.0, other.percentile_ms(50) or 0.0)
    names = (f"{a.root}:{of_a.name}", f"{b.root}:{of_b.name}")
    return Comparison(*names, other.speedup, again.speedup, p50, (first, again, other))


def _both(a: Bundle, of_a: Variant, b: Bundle, of_b: Variant, root: Path) -> Bundle:
    """A bundle in which A is the baseline, and A once more and B are the variants."""
    one, two = _copied(a, of_a, root, "a"), _copied(b, of_b, root, "b")
    core = {field.name: getattr(a.core, field.name) for field in fields(Core) if field.name != "sha256"}
    return seal(root, core | {"baseline": one, "variants": (replace(one, name="a-again"), two)})


def _copied(bundle: Bundle, variant: Variant, root: Path, name: str) -> Variant:
    files = {}
    for role, path in bundle.files(variant).items():
        files[role] = f"{name}/{path.name}"
        (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, root / files[role])
    return replace(variant, name=name, files=files)


def sample_inputs(bundle: Bundle, data: str | None, samples: int = WARM) -> EvalSplit:
    """The first samples that a bundle's variants were chosen by, real ones, as inputs."""
    splits = same_splits(bundle, located_data(bundle, data))

    def batches() -> Iterator[Feeds]:
        yield feeds(bundle.core.inputs, splits.preprocess(splits.first("select", samples).columns), splits.info.name)

    return EvalSplit("select", batches, None)
