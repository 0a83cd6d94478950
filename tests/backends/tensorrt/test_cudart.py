from __future__ import annotations

import numpy as np
import pytest

from edgeprune.backends.tensorrt.cudart import Buffer, Cuda
from edgeprune.errors import DeviceError, MissingError


@pytest.fixture
def cuda():
    try:
        return Cuda()
    except MissingError as error:
        pytest.skip(str(error))


def test_a_library_that_is_not_there_is_missing_in_one_line():
    with pytest.raises(MissingError, match=r"libcudart, the CUDA runtime, is not found: .*JetPack") as raised:
        Cuda("libnothing.so.0")
    assert "\n" not in str(raised.value)


def test_here_there_is_a_gpu_or_one_line_that_says_why_not():
    try:
        gpu = Cuda().gpu
    except MissingError as error:
        told = str(error)
        assert "\n" not in told  # which of the two holds is the machine's
    else:
        assert float(gpu.compute_capability) >= 5
        assert gpu.multiprocessors > 0


@pytest.mark.device
@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 4), "float32"), ((), "int64"), ((2, 0), "int8"), ((1000, 1000), "float16")]
)
def test_what_goes_to_the_gpu_comes_back(cuda, shape, dtype):
    stream, sent, got = cuda.stream(), Buffer(cuda, shape, dtype), Buffer(cuda, shape, dtype)
    sent.array[...] = np.random.default_rng(0).integers(-9, 9, shape)
    want = sent.array.copy()
    sent.to_device(stream)
    cuda.call("cudaStreamSynchronize", stream)
    sent.array[...] = 0
    sent.to_host(stream)
    cuda.call("cudaStreamSynchronize", stream)
    np.testing.assert_array_equal(sent.array, want)
    for buffer in (sent, got):
        buffer.close()
        buffer.close()
    cuda.call("cudaStreamDestroy", stream)


@pytest.mark.device
def test_more_than_the_gpu_holds_is_refused_with_what_cuda_says(cuda):
    with pytest.raises(DeviceError, match=r"cudaMalloc|cudaHostAlloc"):
        Buffer(cuda, (1 << 50,), "int8")
