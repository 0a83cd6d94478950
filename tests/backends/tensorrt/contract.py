"""Run EdgePrune's own TensorRT code against real bindings that have no library behind them.

    LD_LIBRARY_PATH=STUBS PYTHONPATH=BINDINGS:EDGEPRUNE python contract.py MODEL BUILD [SNIPPET]

Every class, enumeration and signature is that of the bindings (pybind11 keeps signatures in docstrings). A stand-in of
a class refuses what the class does not have: a method or property of another name, a property that cannot be set,
arguments of another number, name or type. What it gives back is of the type that the signature says, or one of ANSWERS.
Prints what was called, as JSON. With SNIPPET that is run instead, on stand-ins called `builder` and `config`.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorrt_bindings as real

BATCH = 2
SIZES = {"x": (-1, 1, 8, 8), "y": (-1, 10)}
LAYER = {"Name": "conv1", "LayerType": "conv", "Inputs": [{"Name": "x", "Format/Datatype": "Int8"}], "Outputs": []}
ANSWERS = {
    "ICudaEngine.num_io_tensors": 2,
    "ICudaEngine.get_tensor_name": lambda index: "xy"[index],
    "ICudaEngine.get_tensor_mode": lambda name: real.TensorIOMode.INPUT if name == "x" else real.TensorIOMode.OUTPUT,
    "ICudaEngine.get_tensor_dtype": lambda name: real.DataType.FLOAT,
    "ICudaEngine.get_tensor_shape": lambda name: SIZES[name],
    "IExecutionContext.get_tensor_shape": lambda name: (BATCH, *SIZES[name][1:]),
    "EngineInspector.get_engine_information": lambda form: json.dumps({"Layers": [LAYER]}),
    "OnnxParser.num_errors": 0,
    "OnnxParser.get_error": lambda index: StandIn(real.ParserError),
}
called: set[str] = set()


class RefusedError(AssertionError):
    pass


class Signature:
    """One overload, as pybind11 writes it."""

    def __init__(self, text):
        inside, _, self.returns = text.rpartition(" -> ")
        parts = [part for part in _split(inside[inside.index("(") + 1 : inside.rindex(")")]) if part not in ("*", "/")]
        parts = parts[1:]  # the object itself, called `self` or `arg0`
        self.names = [part.partition(":")[0].strip() for part in parts]
        self.kinds = [part.partition(":")[2].partition("=")[0].strip() for part in parts]
        self.required = [name for name, part in zip(self.names, parts, strict=True) if "=" not in part]

    def why_not(self, args, kwargs):
        if len(args) > len(self.names) or set(kwargs) - set(self.names[len(args) :]):
            return f"takes {self.names}"
        given = dict(zip(self.names, args, strict=False)) | kwargs
        if missing := set(self.required) - set(given):
            return f"wants {sorted(missing)}"
        wrong = [name for name, value in given.items() if not _is(value, self.kinds[self.names.index(name)])]
        return f"{wrong[0]} is a {self.kinds[self.names.index(wrong[0])]}" if wrong else ""


def _split(text):
    """At the commas outside of brackets."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += letter
    if part.strip():
        yield part.strip()


def _is(value, kind):
    kind = re.sub(r"\b(typing|typing_extensions|collections\.abc)\.", "", kind)
    if "|" in kind:
        return any(_is(value, one.strip()) for one in kind.split("|"))
    if found := re.fullmatch(r"(?:Optional|Annotated)\[(.*?)(?:,.*)?\]", kind):
        return value is None or _is(value, found[1])
    plain = {"bool": bool, "str": str, "int": int, "SupportsInt": int, "SupportsIndex": int, "float": (int, float)}
    if kind in plain:
        return isinstance(value, plain[kind]) and (kind == "bool" or not isinstance(value, bool))
    if kind in ("Buffer", "buffer", "bytes"):
        return isinstance(value, (bytes, bytearray, memoryview))
    name = kind.rpartition(".")[2]
    if name in ("Dims", "Shape") or kind.startswith(("Sequence", "list", "List", "Tuple", "tuple")):
        return isinstance(value, (tuple, list)) and all(isinstance(size, int) for size in value)
    if name in ("object", "capsule"):
        return True
    cls = getattr(real, name, None)
    return (
        isinstance(value, StandIn) and issubclass(value._cls, cls)
        if cls is None or isinstance(value, StandIn)
        else isinstance(value, cls)
    )


class StandIn:
    """An object of a class of the bindings."""

    def __init__(self, cls):
        object.__setattr__(self, "_cls", cls)
        object.__setattr__(self, "_set", {})

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        member = _member(self._cls, name)
        full = f"{self._cls.__name__}.{name}"
        called.add(full)
        if isinstance(member, property):
            return self._set[name] if name in self._set else _answer(full, member.fget.__doc__ or "", (), {})
        return lambda *args, **kwargs: _answer(full, member.__doc__, args, kwargs)

    def __setattr__(self, name, value):
        member = _member(self._cls, name)
        full = f"{self._cls.__name__}.{name}"
        if not isinstance(member, property) or member.fset is None:
            raise RefusedError(f"{full} cannot be set")
        called.add(f"{full} =")
        signature = re.search(r"\(\w+: [\w.]+, \w+: (.*)\) -> None", member.fset.__doc__ or "")
        if signature and not _is(value, signature[1]):
            raise RefusedError(f"{full} is a {signature[1]}, set to {value!r}")
        self._set[name] = value

    def __bytes__(self):
        if self._cls is not real.IHostMemory:
            raise RefusedError(f"{self._cls.__name__} has no bytes")
        return b"plan"


def _member(cls, name):
    for one in cls.__mro__:
        if name in vars(one):
            return vars(one)[name] if isinstance(vars(one)[name], property) else getattr(cls, name)
    raise RefusedError(f"TensorRT {real.__version__}: {cls.__name__} has no {name}")


def _answer(full, doc, args, kwargs):
    signatures = [Signature(line) for line in re.findall(r"^(?:\d+\. )?\w*\(.*\) -> .*$", doc, re.MULTILINE)]
    if signatures and not full.endswith("*"):
        whys = [signature.why_not(args, kwargs) for signature in signatures]
        if all(whys):
            raise RefusedError(f"TensorRT {real.__version__}: {full}{args}{kwargs}: {'; '.join(whys)}")
    if full in ANSWERS:
        return ANSWERS[full](*args, **kwargs) if callable(ANSWERS[full]) else ANSWERS[full]
    returns = signatures[0].returns.rpartition(".")[2] if signatures else "None"
    if not signatures and "property" not in full:
        return _by_name(full)
    plain = {"None": None, "bool": True, "int": 1, "str": "", "float": 1.0}
    return plain[returns] if returns in plain else StandIn(getattr(real, returns))


def _by_name(full):
    raise RefusedError(f"TensorRT {real.__version__}: {full} tells no signature; write its answer into ANSWERS")


class Module:
    """`import tensorrt`: classes whose making needs the library are stood in for, all else is real."""

    def __getattr__(self, name):
        if not hasattr(real, name):
            raise RefusedError(f"TensorRT {real.__version__} has no {name}")
        found = getattr(real, name)
        if name not in ("Builder", "OnnxParser", "Runtime"):
            return found

        def make(*args):
            called.add(name)
            _answer(f"{name}.__init__", found.__init__.__doc__, args, {})
            return StandIn(found)

        return make


class HostCuda:
    """What `cudart.Cuda` does, in the host's memory."""

    gpu = SimpleNamespace(compute_capability="8.7", multiprocessors=8)

    def __init__(self):
        self._kept = {}

    def call(self, name, *arguments):
        if name == "cudaMemcpyAsync":
            ctypes.memmove(*arguments[:3])

    def allocate(self, name, *arguments):
        memory = ctypes.create_string_buffer(arguments[0])
        self._kept[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def stream(self):
        return 7

    def free_bytes(self):
        return 2**30 - sum(len(memory) for memory in self._kept.values())


def main():
    sys.modules["tensorrt"] = Module()
    if len(sys.argv) > 3:
        builder = StandIn(real.Builder)
        exec(
            sys.argv[3], {"trt": sys.modules["tensorrt"], "builder": builder, "config": builder.create_builder_config()}
        )
        return
    from edgeprune.backends.tensorrt import run
    from edgeprune.errors import ModelError

    run.Cuda = HostCuda
    files = {"model": Path(sys.argv[1]), "build": Path(sys.argv[2])}
    assert not run.build(files, batch=BATCH).cached
    assert run.build(files, batch=BATCH).cached
    engine, found = run.engine(files, batch=BATCH, cuda=HostCuda())
    assert found
    assert engine.read_bytes() == b"plan"
    run.load(files | {"engine": engine}, {}, threads=1, batch=BATCH).close()
    HostCuda.gpu = SimpleNamespace(compute_capability="8.9", multiprocessors=8)
    with pytest.raises(ModelError, match=r"built elsewhere: its compute_capability is 8\.7, here it is 8\.9"):
        run.load(files | {"engine": engine}, {}, threads=1, batch=BATCH)
    HostCuda.gpu = SimpleNamespace(compute_capability="8.7", multiprocessors=8)
    with run.load(files, {}, threads=1, batch=BATCH) as runner:
        x = np.ones((BATCH, 1, 8, 8), np.float32)
        assert [spec.shape for spec in runner.inputs] == [x.shape]
        assert set(runner.infer({"x": x})) == {"y"}
        assert [node["layers"] for node in runner.evidence()["nodes"]] == [["conv1"]]
        runner.profile([{"x": x}], 0.0)
    if os.environ.get(run.BUILDER):
        print(json.dumps({"version": real.__version__, "called": sorted(called)}))
        return
    ANSWERS.update({"OnnxParser.parse_from_file": False, "OnnxParser.num_errors": 1, "ParserError.node_name": "odd"})
    with pytest.raises(ModelError, match="node 'odd'"):
        run.build(files, batch=1)
    print(json.dumps({"version": real.__version__, "called": sorted(called)}))


if __name__ == "__main__":
    main()
