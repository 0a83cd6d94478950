"""The worker needs the standard library, NumPy and one runtime, and Python 3.10: what a board has."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from edgeprune.backends import LOAD
from edgeprune.meters import METERS

ROOT = Path(__file__).parents[2]
RUNTIMES = {"onnxruntime", "openvino", "tensorrt"}
ENTRIES = ["edgeprune.worker.__main__", *(name.partition(":")[0] for name in (*LOAD.values(), *METERS.values()))]


def imports_of(module):
    """Modules that `module` imports when it runs: not those that only a type checker reads."""
    path = ROOT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(source.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield node.module
            yield from (name for name in inner if (ROOT / (name.replace(".", "/") + ".py")).exists())


def test_nothing_else_is_imported():
    seen, left, others = set(), list(ENTRIES), set()
    while left:
        module = left.pop()
        if module in seen:
            continue
        seen.add(module)
        parts = module.split(".")
        left += [".".join(parts[:i]) for i in range(1, len(parts))]
        for name in imports_of(module):
            top = name.partition(".")[0]
            if top == "edgeprune":
                left.append(name)
            elif top not in sys.stdlib_module_names:
                others.add(top)
    assert "edgeprune.worker.worker" in seen
    assert others <= {"numpy", "pynvml", "mlperf_loadgen", "zeus", *RUNTIMES}


def test_nothing_else_is_loaded_when_it_starts():
    code = "import json, sys; import edgeprune.worker.worker; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    heavy = {"pydantic", "yaml", "click", "rich", "onnx", "onnx_ir", "torch", "datasets", *RUNTIMES}
    assert not loaded & heavy


def test_it_works_on_python_310(python310, folder):
    commands = [
        {"command": "probe"},
        {"command": "prepare", "backend": "ort"},
        {"command": "open", "backend": "ort", "files": {"model": "model.onnx"}, "options": {}},
        {"command": "warm", "inputs": "inputs.npz", "min_s": 0, "max_s": 1},
        {"command": "time", "seconds": 0, "least": 3, "most": 3},
        {"command": "memory"},
        {"command": "evidence"},
        {"command": "energy", "meters": list(METERS), "seconds": 0.1},
        {"command": "predict", "inputs": "inputs.npz", "out": "out.npz"},
        {"command": "quit"},
    ]
    done = subprocess.run(
        [python310, "-m", "edgeprune.worker"],
        input="".join(json.dumps(command) + "\n" for command in commands),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["ok"] for answer in answers] == [True] * len(commands), answers
    assert answers[0]["environment"]["python"].startswith("3.10.")
    assert (folder / "out.npz").exists()
