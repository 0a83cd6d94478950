"""How long a page about many bundles takes, and how large it is.

python benchmarks/report_pages.py build/resnet20-given build/cnn-cpu --copies 100

The bundles are copied until there are so many, without their models, which a report does not read.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from time import perf_counter, process_time

from edgeprune.report.html import render
from edgeprune.report.source import find


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("bundles", nargs="+", type=Path)
    options.add_argument("--copies", type=int, default=100)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        for number in range(chosen.copies):
            bundle = chosen.bundles[number % len(chosen.bundles)]
            ignored = shutil.ignore_patterns("*.onnx", "*.safetensors", "*.npz")
            shutil.copytree(bundle, Path(folder) / f"{bundle.name}-{number:03}", ignore=ignored)
        wall, cpu = perf_counter(), process_time()
        page = render(find([Path(folder)]))
        wall, cpu = perf_counter() - wall, process_time() - cpu
    size = len(page.encode()) / 1e6
    print(f"{chosen.copies} bundles: {wall:.2f} s ({cpu:.2f} s of the processor), {size:.2f} MB")


if __name__ == "__main__":
    main()
