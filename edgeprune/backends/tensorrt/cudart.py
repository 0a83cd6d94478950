"""The CUDA runtime through ctypes: buffers, streams and what the GPU is, with nothing to install beside CUDA itself.

A board has `libcudart` from JetPack, and perhaps no network. All calls have one signature in CUDA 12 and 13.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgeprune.errors import DeviceError, MissingError

NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/aarch64-linux/lib")
PACKAGES = ("nvidia/cu13/lib", "nvidia/cuda_runtime/lib")
"""Where the wheels of CUDA 13 and 12 put it, below a folder of Python's path."""

TO_DEVICE, TO_HOST = 1, 2
"""`cudaMemcpyKind` (driver_types.h)."""
MULTIPROCESSORS, MAJOR, MINOR = 16, 75, 76
"""`cudaDeviceAttr` (driver_types.h)."""

_SIGNATURES: dict[str, Sequence[Any]] = {
    "cudaGetDeviceCount": (ctypes.POINTER(ctypes.c_int),),
    "cudaDeviceGetAttribute": (ctypes.POINTER(ctypes.c_int), ctypes.c_int, ctypes.c_int),
    "cudaMemGetInfo": (ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)),
    "cudaMalloc": (ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t),
    "cudaFree": (ctypes.c_void_p,),
    "cudaHostAlloc": (ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_uint),
    "cudaFreeHost": (ctypes.c_void_p,),
    "cudaMemcpyAsync": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p),
    "cudaStreamCreate": (ctypes.POINTER(ctypes.c_void_p),),
    "cudaStreamSynchronize": (ctypes.c_void_p,),
    "cudaStreamDestroy": (ctypes.c_void_p,),
}


@dataclass(frozen=True)
class Gpu:
    """The first GPU, as far as an engine depends on it."""

    compute_capability: str
    multiprocessors: int


class Buffer:
    """An array on the host, in memory that is never swapped out, and its twin on the GPU."""

    def __init__(self, cuda: Cuda, shape: Sequence[int], dtype: DTypeLike) -> None:
        self._cuda, self.bytes = cuda, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._host, self.device = 0, 0
        size = max(1, self.bytes)  # an empty tensor has an address, too
        try:
            self._host = cuda.allocate("cudaHostAlloc", size, 0)
            self.device = cuda.allocate("cudaMalloc", size)
        except DeviceError:
            self.close()
            raise
        memory = memoryview((ctypes.c_byte * size).from_address(self._host)).cast("B")
        flat = np.frombuffer(memory, dtype, self.bytes // np.dtype(dtype).itemsize)
        self.array: NDArray[Any] = flat.reshape(shape)

    def to_device(self, stream: int) -> None:
        """Copy it there, in the stream's order."""
        self._cuda.call("cudaMemcpyAsync", self.device, self._host, self.bytes, TO_DEVICE, stream)

    def to_host(self, stream: int) -> None:
        """Copy it back, in the stream's order."""
        self._cuda.call("cudaMemcpyAsync", self._host, self.device, self.bytes, TO_HOST, stream)

    def close(self) -> None:
        """Give both back; `array` must not be used any more."""
        for free, address in (("cudaFree", self.device), ("cudaFreeHost", self._host)):
            if address:
                self._cuda.call(free, address)
        self._host = self.device = 0


class Cuda:
    """The library. Raises MissingError where there is none, or no GPU that it can use."""

    def __init__(self, library: str | None = None) -> None:
        self._library = _load([library] if library else list(_places()))
        for name, arguments in _SIGNATURES.items():
            getattr(self._library, name).argtypes = arguments
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        self.gpu = self._first_gpu()

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of it. Raises DeviceError with what CUDA says."""
        if code := getattr(self._library, name)(*arguments):
            raise DeviceError(f"CUDA: {name}: {self._library.cudaGetErrorString(code).decode()} (error {code})")

    def allocate(self, name: str, *arguments: Any) -> int:
        """The address that a function of it puts where its first argument points."""
        address = ctypes.c_void_p()
        self.call(name, ctypes.byref(address), *arguments)
        return address.value or 0

    def stream(self) -> int:
        """A new stream; give it to `cudaStreamDestroy`."""
        return self.allocate("cudaStreamCreate")

    def free_bytes(self) -> int:
        """What is free of the GPU's memory; a Jetson's is that of the board."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def _first_gpu(self) -> Gpu:
        try:
            if not self._number("cudaGetDeviceCount"):
                raise MissingError("CUDA finds no GPU here: TensorRT runs on the board that it is for")
            major, minor, processors = (
                self._number("cudaDeviceGetAttribute", one, 0) for one in (MAJOR, MINOR, MULTIPROCESSORS)
            )
        except DeviceError as error:
            raise MissingError(
                f"no GPU that can be used here ({error}): TensorRT runs on the board that it is for"
            ) from error
        return Gpu(f"{major}.{minor}", processors)

    def _number(self, name: str, *arguments: int) -> int:
        found = ctypes.c_int()
        self.call(name, ctypes.byref(found), *arguments)
        return found.value


def _places() -> Iterator[str]:
    yield from NAMES  # where the system looks
    folders = [Path(one) for one in FOLDERS] + [Path(one) / package for one in sys.path for package in PACKAGES]
    yield from (str(folder / name) for folder in folders for name in NAMES)


def _load(places: Sequence[str]) -> Any:
    for place in places:
        try:
            return ctypes.CDLL(place)
        except OSError:
            continue
    raise MissingError(
        "libcudart, the CUDA runtime, is not found: on a Jetson JetPack brings it (apt install cuda-cudart-12-6), else"
        " pip install 'edgeprune[tensorrt]'"
    )
