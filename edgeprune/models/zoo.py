"""Models by name, and the weights that go into them."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeprune.errors import CorruptError, ModelError
from edgeprune.models import user_file
from edgeprune.registry import resolve

ZOO = {
    "cnn": "edgeprune.models.cnn:Cnn",
    "cnn-fc": "edgeprune.models.cnn:CnnFc",
    "lenet5": "edgeprune.models.lenet:LeNet5",
    "mobilenetv2": "edgeprune.models.mobilenet:MobileNetV2",
    "resnet18": "edgeprune.models.projected_resnet:resnet18",
    "resnet20": "edgeprune.models.resnet:resnet20",
    "resnet32": "edgeprune.models.resnet:resnet32",
    "resnet44": "edgeprune.models.resnet:resnet44",
    "resnet50": "edgeprune.models.projected_resnet:resnet50",
    "resnet56": "edgeprune.models.resnet:resnet56",
}
HINT = "or file.py:factory"


def build(name: str, *, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Make a model of the zoo, or one of `file.py:factory`, for images [C, H, W]; PyTorch's seed decides its weights.

    A factory is called with those of `input_shape` and `classes` that it takes by name.

    Raises UnknownNameError with the nearest name, ModelError where a factory cannot be used.
    """
    if is_file(name):
        return user_file.call_factory(name, input_shape=input_shape, classes=classes)
    model: nn.Module = resolve(ZOO, name, "model", hint=HINT)(input_shape=input_shape, classes=classes)
    return model


def is_file(name: str) -> bool:
    """Whether `name` says `file.py:factory` and not a name of the zoo."""
    return ".py" in name


def source_hash(name: str) -> str:
    """The hash of the files a model's factory is in: where it differs, what was cached is stale."""
    if is_file(name):
        paths = user_file.sources(name)
    else:
        resolve(ZOO, name, "model", hint=HINT)
        spec = importlib.util.find_spec(ZOO[name].partition(":")[0])
        paths = (Path(str(spec.origin)),) if spec else ()
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def load_weights(model: nn.Module, path: Path) -> None:
    """Read a safetensors state dict into `model`; counters of batches (`num_batches_tracked`) may be absent.

    Raises CorruptError where the file is damaged or another format, ModelError where it is missing, holds values that
    are not finite, or does not fit the model: what is missing, unexpected or of another shape is named.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptError(
            f"{path}: truncated, damaged or not safetensors ({error}); pickled weights are not read, "
            f"save them with safetensors.torch.save_file"
        ) from error
    if misfit := _misfit(model.state_dict(), found):
        raise ModelError(f"{path}: weights do not fit the model: {misfit}")
    for name, tensor in found.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds NaN or infinite values: these weights come from a failed training")
    model.load_state_dict(found, strict=False)


def _misfit(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in found if name not in wanted]
    reshaped = [
        f"{name} {list(found[name].shape)} for {list(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    return "; ".join(f"{fault}: {_shortened(names)}" for fault, names in faults.items() if names)


def _shortened(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
