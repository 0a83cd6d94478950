"""Is one variant faster than another, by how much, and how sure is that: both by turns in one run.

The first takes part twice. What the machine itself makes of two equal programs, in this run and in those before it, is
its noise: what is less is no difference.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from edgeprune.backends.backend import Feeds
from edgeprune.bundle import Bundle, Core, Variant, seal
from edgeprune.data.preprocess import feeds
from edgeprune.errors import BudgetError, InputError
from edgeprune.interleaved.run import measure
from edgeprune.interleaved.settings import EvalSplit, Settings
from edgeprune.metrics import Interval
from edgeprune.noise import Noise, distance, read_noise, write_noise
from edgeprune.pipeline.measure import same_splits
from edgeprune.pipeline.places import located_data
from edgeprune.progress import SILENT, Progress
from edgeprune.recipe import read_yaml
from edgeprune.results import Measurement
from edgeprune.targets.target import Target
from edgeprune.tensor import shown
from edgeprune.transport.local import LocalTransport

SETTINGS = Settings(
    restarts=15,
    seconds=0.6,
    rounds=10,
    least=1,
    warm_max_s=0.5,
    energy_s=0,
    judged=False,
    quantile=0.1,
    confidence=0.99,
    limit_s=110.0,
)
"""Of fifteen restarts the third and the thirteenth are an interval at 99 %: two may be spoilt on either side. A slice's
tenth of a hundred is what inferences take that nobody interrupts, on a busy machine as well."""
WARM = 8
TOO_FEW = "too few restarts for an interval at 99 %: eight at least; --seconds makes each shorter, --restarts more"
REPEATS = 10
"""Comparisons of a program with itself that measure a machine's noise, two controls in each."""


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
    floor: float
    """The machine's noise floor, as a share."""
    floor_known: bool
    """Whether enough comparisons were made on this machine for that; else it is in part assumed."""
    p50_ms: tuple[float, float]
    """Of A and of B."""
    measurements: tuple[Measurement, ...]
    """A, A once more, B, with their raw samples."""

    @property
    def noise(self) -> float:
        """Below which no difference is told: the machine's floor, or this run's control where that is more."""
        return max(self.floor, distance(self.control.estimate))

    @property
    def verdict(self) -> str:
        """`faster` or `slower` of B where 1 is outside the interval and the noise is exceeded, else `no difference`."""
        sure = not self.speedup.low <= 1 <= self.speedup.high
        if not sure or distance(self.speedup.estimate) <= self.noise:
            return "no difference"
        return "faster" if self.speedup.low > 1 else "slower"

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
    noise_root: Path,
    settings: Settings = SETTINGS,
    data: str | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """Time a variant of one bundle and one of another, or of the same, on this machine.

    The control joins those that are kept below `noise_root` (`noise.py`), and the floor is made of those before it.
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
            raise InputError(f"{one.variant}: {one.unmeasured or TOO_FEW}")
    assert other.speedup is not None
    assert again.speedup is not None
    p50 = (first.percentile_ms(50) or 0.0, other.percentile_ms(50) or 0.0)
    names = (f"{a.root}:{of_a.name}", f"{b.root}:{of_b.name}")
    assert first.environment is not None
    known = read_noise(noise_root, first.environment.fingerprint())
    write_noise(known.with_controls(again.speedup.estimate), noise_root)
    return Comparison(*names, other.speedup, again.speedup, known.floor, known.known, p50, (first, again, other))


def measure_noise(
    bundle: Bundle,
    variant: Variant,
    *,
    noise_root: Path,
    repeats: int = REPEATS,
    settings: Settings = SETTINGS,
    data: str | None = None,
    progress: Progress = SILENT,
) -> tuple[Noise, Path]:
    """Compare a variant with itself several times; what is then known of this machine, and where it is kept."""
    for number in range(repeats):
        found = compare(
            bundle,
            variant,
            bundle,
            variant,
            noise_root=noise_root,
            settings=replace(settings, seed=settings.seed + number),
            data=data,
            progress=progress,
        )
        assert found.measurements[0].environment is not None
        known = read_noise(noise_root, found.measurements[0].environment.fingerprint())
        path = write_noise(known.with_controls(found.speedup.estimate), noise_root)
    return read_noise(noise_root, known.environment), path


def _both(a: Bundle, of_a: Variant, b: Bundle, of_b: Variant, root: Path) -> Bundle:
    """A bundle in which A is the baseline, and A once more and B are the variants."""
    one, two = copied(a, of_a, root, "a"), copied(b, of_b, root, "b")
    core = {field.name: getattr(a.core, field.name) for field in fields(Core) if field.name != "sha256"}
    return seal(root, core | {"baseline": one, "variants": (replace(one, name="a-again"), two)})


def copied(bundle: Bundle, variant: Variant, root: Path, name: str) -> Variant:
    """A variant under another name for a bundle that is made at `root`, with its files in a folder of that name."""
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
