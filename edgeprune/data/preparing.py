"""What a recipe says of the samples, over what the data set says: the task, and what is done to them."""

from __future__ import annotations

from dataclasses import replace

from edgeprune.data.datasets import describe
from edgeprune.data.info import METRICS, DatasetInfo
from edgeprune.data.pixels import Pixels
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.preprocess_file import (
    IMAGES,
    TEXTS,
    PreprocessFile,
    applied_to_pixels,
    applied_to_text,
    check_keys,
    read_preprocess_file,
)
from edgeprune.data.vocabulary import read_tokenizer
from edgeprune.data.wordpiece import Text, WordPiece
from edgeprune.errors import ConfigError
from edgeprune.judge import CLASSIFICATION, QUESTIONS, UNJUDGED
from edgeprune.recipe import DataPart


def described(part: DataPart, preprocess: Preprocess | None = None) -> DatasetInfo:
    """The data set, asked what the recipe asks; images are resized as `preprocess` or else the recipe's file says.

    Raises ConfigError where the data set cannot be asked that.
    """
    if isinstance(preprocess, Pixels):
        info = describe(part.name, resize=preprocess.resize, channels=len(preprocess.mean))
    else:
        said = PreprocessFile() if preprocess is not None else _said(part)
        info = describe(part.name, resize=said.resizing, channels=_channels(said))
    return info if part.task in (None, info.task) else _asked(info, str(part.task))


def preprocessing(part: DataPart, info: DatasetInfo) -> Preprocess:
    """What is done to samples: as the recipe says, else as the data set does.

    Raises ConfigError for what does not apply to them, MissingError without the tokenizer of a text.
    """
    said = _said(part)
    if isinstance(info.preprocess, Pixels):
        check_keys(said, IMAGES, f"{part.name}, which holds images")
        return _pixels(said, info.preprocess, info)
    if isinstance(info.preprocess, Text):
        check_keys(said, TEXTS, f"{part.name}, which holds text")
        text = applied_to_text(said, info.preprocess)
        return WordPiece(text, read_tokenizer(said.vocabulary, lowercase=said.lowercase))
    check_keys(said, set(), f"{part.name}, which holds a model's inputs as they are")
    return info.preprocess


def _channels(said: PreprocessFile) -> int | None:
    """Three where something said makes sense for colours only: grey images then become RGB."""
    return 3 if said.channels is not None or len(said.mean or said.std or ()) == 3 else None


def _said(part: DataPart) -> PreprocessFile:
    """The recipe's file, and what the recipe says over it."""
    over = {
        "mean": part.normalize and part.normalize.mean,
        "std": part.normalize and part.normalize.std,
        "length": part.length,
        "vocabulary": part.vocabulary,
    }
    given = {name: value for name, value in over.items() if value is not None}
    return read_preprocess_file(part.preprocess).model_copy(update=given)


def _pixels(said: PreprocessFile, pixels: Pixels, info: DatasetInfo) -> Pixels:
    if info.name == "digits" and said.resizing is not None:
        raise ConfigError("size, resize: the built-in digits are 8x8 and stay so: leave it out, or choose other data")
    for name, values in (("mean", said.mean), ("std", said.std)):
        if values is not None and len(values) != len(pixels.mean):
            raise ConfigError(f"{name}: {info.name} has {len(pixels.mean)} channels, {len(values)} values are given")
    return applied_to_pixels(said, pixels)


def _asked(info: DatasetInfo, task: str) -> DatasetInfo:
    """The data set, asked something else than it is made for."""
    if task == UNJUDGED:
        return replace(info, task=task, metrics=METRICS[task])
    refused = ""
    if info.label is None:
        refused = "it has no labels"
    elif task == QUESTIONS or info.task == QUESTIONS:
        refused = "it holds no questions" if task == QUESTIONS else "its answers are pieces of a text"
    elif task == CLASSIFICATION:
        refused = "its labels are no classes"
    if refused:
        raise ConfigError(f"task {task}: {info.name} cannot be asked that: {refused}")
    return replace(info, task=task, metrics=METRICS[task], classes=())
