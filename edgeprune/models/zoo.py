"""Models by name, and the weights that go into them."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeprune.errors import CorruptError, ModelError
from edgeprune.judge import QUESTIONS
from edgeprune.models import pretrained, user_file
from edgeprune.registry import resolve
from edgeprune.tensor import IMAGE, TEXT, TensorSpec

ZOO = {
    "bert-base": "edgeprune.models.transformer:bert_base",
    "bert-mini": "edgeprune.models.transformer:bert_mini",
    "bilstm": "edgeprune.models.recurrent:BiLstm",
    "cnn": "edgeprune.models.cnn:Cnn",
    "cnn-fc": "edgeprune.models.cnn:CnnFc",
    "distilbert": "edgeprune.models.transformer:distilbert",
    "lenet5": "edgeprune.models.lenet:LeNet5",
    "lstm": "edgeprune.models.recurrent:Lstm",
    "mobilenetv2": "edgeprune.models.mobilenet:MobileNetV2",
    "resnet18": "edgeprune.models.projected_resnet:resnet18",
    "resnet20": "edgeprune.models.resnet:resnet20",
    "resnet32": "edgeprune.models.resnet:resnet32",
    "resnet44": "edgeprune.models.resnet:resnet44",
    "resnet50": "edgeprune.models.projected_resnet:resnet50",
    "resnet56": "edgeprune.models.resnet:resnet56",
}
HINT = "or file.py:factory, or hf:<id or folder>"
KINDS = {"input_shape": "images", "vocabulary": "texts"}
"""What data are that give a factory an argument of that name."""


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Make a model of the zoo, of `file.py:factory` or of `hf:<id or folder>`; PyTorch's seed decides new weights.

    `arguments` is what the data say of it; a factory is called with those that it takes by name. Of images
    `input_shape` [C, H, W], of texts `length` and `vocabulary`, of other arrays `inputs`, name: [dtype, shape]; of all
    of them `classes` (1 for a value) and `task`.

    Raises UnknownNameError with the nearest name, ModelError where a model cannot be used or is made for other data.
    """
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    if is_file(name):
        return user_file.call_factory(name, arguments, specs_of(arguments))
    if pretrained.is_pretrained(name):
        return pretrained.load(name, arguments)
    factory: Callable[..., nn.Module] = resolve(ZOO, name, "model", hint=HINT)
    _check_kind(name, factory, arguments)
    return factory(**{key: arguments[key] for key in inspect.signature(factory).parameters})


def specs_of(arguments: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """The tensors that data of those arguments give, with a free `batch` in front."""
    if "input_shape" in arguments:
        return (TensorSpec(IMAGE, "float32", ("batch", *arguments["input_shape"])),)
    if "vocabulary" in arguments:
        return tuple(TensorSpec(name, "int64", ("batch", arguments["length"])) for name in TEXT)
    return tuple(TensorSpec(name, dtype, tuple(shape)) for name, (dtype, shape) in arguments["inputs"].items())


def is_file(name: str) -> bool:
    """Whether `name` says `file.py:factory` and not a name of the zoo."""
    return ".py" in name and not pretrained.is_pretrained(name)


def is_local(name: str) -> bool:
    """Whether `name` holds a path of this machine."""
    return is_file(name) or (pretrained.is_pretrained(name) and pretrained.is_folder(name))


def source_hash(name: str) -> str:
    """The hash of the files a model is made from: where it differs, what was cached is stale."""
    if is_file(name):
        paths = user_file.sources(name)
    elif pretrained.is_pretrained(name):
        paths = pretrained.files(name)
    else:
        resolve(ZOO, name, "model", hint=HINT)
        spec = importlib.util.find_spec(ZOO[name].partition(":")[0])
        paths = (Path(str(spec.origin)),) if spec else ()
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


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


def _check_kind(name: str, factory: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> None:
    """Refuse data that do not say what the factory needs to know. Raises ModelError."""
    takes = inspect.signature(factory).parameters
    if missing := [key for key in takes if key not in arguments]:
        kind = next((kind for key, kind in KINDS.items() if key in missing), f"data that say {', '.join(missing)}")
        given = next((kind for key, kind in KINDS.items() if key in arguments), "arrays of numbers")
        raise ModelError(f"{name} takes {kind}, the data are {given}: choose other data (--data) or another model")
    if arguments.get("task") == QUESTIONS and "task" not in takes:
        raise ModelError(f"{name} answers a sample as a whole, questions are answered by a span: choose bert-base")
