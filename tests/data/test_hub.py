from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PROGRAM = """
import sys
from edgeprune.data.cells import to_samples
from edgeprune.data.hub import read
from edgeprune.data.info import Hub
cells = read(Hub(sys.argv[1]), "train", ("image", "label"), 2, None)
samples = to_samples(cells, ("image",), "label", "classification", 2, None)
print(samples.columns["image"][:, 0, 0, 0].tolist(), samples.labels.tolist(), cells.places[0].rpartition(":")[2])
"""


def test_the_datasets_library_gives_the_rows_with_their_bytes_as_stored(tmp_path):
    images = []
    for value in range(5):
        buffer = io.BytesIO()
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
    features = (
        b'{"info": {"features": {"img": {"_type": "Image"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}'
    )
    table = pa.table({"img": images, "label": [0, 1, 0, 1, 0]}).replace_schema_metadata({b"huggingface": features})
    repository = tmp_path / "set"  # the library takes a folder where it takes a repository of the hub
    repository.mkdir()
    pq.write_table(table, repository / "train-00000-of-00001.parquet")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(repository)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[2, 3, 4] [0, 1, 0] train row 2"
