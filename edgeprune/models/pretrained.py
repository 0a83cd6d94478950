"""Models with their weights from the Hugging Face hub, or from a folder laid out as there: `hf:<id or folder>`.

Weights are read from safetensors only, and no code that comes with a model is ever run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeprune.errors import CorruptError, MissingError, ModelError
from edgeprune.judge import CLASSIFICATION, QUESTIONS
from edgeprune.models.transformer import ATTENTION, head
from edgeprune.registry import require

PREFIX = "hf:"
CONFIG = "config.json"
TOKENIZERS = ("tokenizer.json", "vocab.txt")
PROCESSOR = "preprocessor_config.json"
WANTED = (CONFIG, "*.safetensors", "*.safetensors.index.json", *TOKENIZERS, "tokenizer_config.json", PROCESSOR)


def is_pretrained(name: str) -> bool:
    """Whether `name` says `hf:<id or folder>`: a model that comes with its weights."""
    return name.startswith(PREFIX)


def is_folder(name: str) -> bool:
    """Whether it lies in a folder of this machine, not on the hub."""
    return Path(name.removeprefix(PREFIX)).expanduser().is_dir()


def files(name: str) -> tuple[Path, ...]:
    """What the model is made from. Raises what `folder_of` raises."""
    folder = folder_of(name)
    return tuple(sorted({path for pattern in WANTED for path in folder.glob(pattern)}))


def tokenizer_of(name: str) -> Path | None:
    """The tokenizer that lies with the model; None where there is none. Raises what `folder_of` raises."""
    folder = folder_of(name)
    return next((folder / one for one in TOKENIZERS if (folder / one).is_file()), None)


def processor_of(name: str) -> Path | None:
    """What lies with the model and says how images are prepared; None where nothing does. Raises like `folder_of`."""
    file = folder_of(name) / PROCESSOR
    return file if file.is_file() else None


def load(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The model with its weights, and the head that the task needs.

    `arguments` are those of a factory. Raises ModelError where it does not fit the data, has no weights in safetensors,
    lacks some or needs code of its own; MissingError without the library.
    """
    folder = folder_of(name)
    require("transformers", extra="text")
    with _quiet():
        return _loaded(name, folder, arguments)


def _loaded(name: str, folder: Path, arguments: Mapping[str, Any]) -> nn.Module:
    import transformers

    config = _config(name, folder)
    _check_fits(name, config, arguments)
    if not any(folder.glob("*.safetensors")):
        pickled = "pickled weights are not read, " if any(folder.glob("*.bin")) else ""
        raise ModelError(f"{name}: no .safetensors in it: {pickled}save the model with save_pretrained")
    task = str(arguments.get("task", CLASSIFICATION))
    kind = "AutoModelForImageClassification" if "input_shape" in arguments else head(task, "Auto")
    try:
        model, found = getattr(transformers, kind).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            attn_implementation=ATTENTION,
        )
    except ImportError as error:
        raise MissingError(f"{name}: needs a package that is not installed: {_first_line(error)}") from error
    except (ValueError, RuntimeError, OSError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{name}: cannot be loaded as {kind}: {_first_line(error)}") from error
    except Exception as error:  # safetensors has an error of its own for a damaged file
        raise CorruptError(f"{name}: its weights cannot be read: {_first_line(error)}") from error
    if missing := sorted(found["missing_keys"]):
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ModelError(f"{name}: no weights for {shown}: it was trained for another task than {task}")
    loaded: nn.Module = model.train()
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines and no bars of the library: what matters is raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@cache
def _downloaded(repository: str) -> Path:
    require("huggingface_hub", extra="text")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, allow_patterns=list(WANTED)))
    except LocalEntryNotFoundError as error:
        raise MissingError(f"{PREFIX}{repository}: no such folder, and the hub cannot be reached") from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise ModelError(f"{PREFIX}{repository}: no such folder, and the hub says: {_first_line(error)}") from error
    except OSError as error:
        raise MissingError(f"{PREFIX}{repository}: cannot be downloaded: {_first_line(error)}") from error


def folder_of(name: str) -> Path:
    """Where the model lies; one of the hub is downloaded once.

    Raises ModelError where there is no such model, MissingError where the hub cannot be reached.
    """
    given = name.removeprefix(PREFIX)
    folder = Path(given).expanduser()
    if not given:
        raise ModelError(f"{name}: say which model: hf:<id or folder>")
    if not folder.is_dir():
        if folder.is_absolute() or given.startswith(".") or given.count("/") > 1:
            raise ModelError(f"{name}: no such folder")
        folder = _downloaded(given)
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{name}: no {CONFIG} in it: give a folder that save_pretrained wrote")
    return folder


def _config(name: str, folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        raw = json.loads((folder / CONFIG).read_bytes())
        known = isinstance(raw, dict) and raw.get("model_type")
    except ValueError as error:
        raise CorruptError(f"{name}: {CONFIG} is damaged: {_first_line(error)}") from error
    if not known:
        raise ModelError(f"{name}: {CONFIG} names no model_type: give a folder that save_pretrained wrote")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, OSError, TypeError) as error:
        own = " and code that comes with a model is never run" if "auto_map" in raw else ""
        raise ModelError(f"{name}: transformers has no model of type {raw['model_type']!r}{own}") from error


def _check_fits(name: str, config: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse what would fail in the middle of it or answer something else. Raises ModelError."""
    classes = arguments["classes"]
    if arguments.get("task") != QUESTIONS and config.num_labels != classes:
        asked = "one value" if classes == 1 else f"{classes} classes"
        raise ModelError(f"{name}: has {config.num_labels} labels, the data have {asked}: choose another model")
    _check_order(name, config, arguments.get("labels", ()))
    if "input_shape" in arguments:
        _check_images(name, config, arguments["input_shape"])
        return
    if "vocabulary" not in arguments:
        raise ModelError(f"{name}: takes texts or images, the data are arrays: give the model as file.py:factory")
    rows = getattr(config, "vocab_size", None)
    if rows is None:
        raise ModelError(f"{name}: is no model for texts ({config.model_type}): choose another model")
    if rows < arguments["vocabulary"]:
        raise ModelError(
            f"{name}: knows {rows} tokens, the tokenizer has {arguments['vocabulary']}: give the one it was trained"
            " with (--vocabulary)"
        )
    positions = getattr(config, "max_position_embeddings", None)
    if config.model_type in {"roberta", "xlm-roberta", "camembert"} and positions:
        positions -= config.pad_token_id + 1  # their positions are counted from behind the padding's number
    if positions and positions < arguments["length"]:
        raise ModelError(
            f"{name}: takes {positions} tokens at most, the data give {arguments['length']}: --length {positions}"
        )


def _check_order(name: str, config: Any, labels: Sequence[str]) -> None:
    """Refuse classes that are those of the data in another order: every answer would be taken for another."""
    own = [str(config.id2label[i]).casefold() for i in range(config.num_labels)]
    asked = [label.casefold() for label in labels]
    if own != asked and sorted(own) == sorted(asked):
        raise ModelError(
            f"{name}: its classes are in the order {', '.join(own)}, those of the data {', '.join(asked)}:"
            " wrap it in a file.py:factory that puts them in order"
        )


def _check_images(name: str, config: Any, shape: tuple[int, int, int]) -> None:
    channels, size = getattr(config, "num_channels", None), getattr(config, "image_size", None)
    if channels is None:
        raise ModelError(f"{name}: is no model for images ({config.model_type}): choose another model")
    sides = (size, size) if isinstance(size, int) else tuple(size or shape[1:])
    if (channels, *sides) != shape:
        wanted = [channels, *sides]
        raise ModelError(f"{name}: takes images of {wanted}, the data give {list(shape)}: choose another model or data")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
