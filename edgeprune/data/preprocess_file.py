"""A file that says what is done to samples: `--preprocess FILE`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from edgeprune.data.encoded import Filter, Resize, Resizing, Stretch
from edgeprune.data.image_processor import PROCESSOR, said_by
from edgeprune.data.pixels import Channels, Layout, Pixels
from edgeprune.data.wordpiece import Keep, Text
from edgeprune.errors import ConfigError
from edgeprune.recipe import read_yaml, validated

Size = Annotated[int, Field(gt=0)]


class _Resize(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    shorter: Size
    crop: Size


class PreprocessFile(BaseModel):
    """What the file may say; None: as the data set says. Which keys apply depends on what the samples are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[Size, Size] | None = None
    """Height and width that images are stretched to."""
    resize: _Resize | None = None
    """Or: the shorter side is brought to `shorter`, then the middle `crop` x `crop` is taken."""
    filter: Filter | None = None
    """How pixels are found between others in that; None: bilinear."""
    levels: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    layout: Layout | None = None
    channels: Channels | None = None

    vocabulary: Path | None = None
    """A vocab.txt, a tokenizer.json, or a folder that has one; beside this file, unless it is absolute."""
    lowercase: bool | None = None
    length: Annotated[int, Field(gt=2)] | None = None
    keep: Keep | None = None
    stride: Annotated[int, Field(ge=0)] | None = None

    @property
    def resizing(self) -> Resizing | None:
        """How images are brought to one size."""
        by = self.filter or "bilinear"
        if self.resize is not None:
            return Resize(self.resize.shorter, self.resize.crop, by)
        return None if self.size is None else Stretch(*self.size, by)


IMAGES = {"size", "resize", "filter", "levels", "mean", "std", "layout", "channels"}
TEXTS = {"vocabulary", "lowercase", "length", "keep", "stride"}


def read_preprocess_file(path: Path | None) -> PreprocessFile:
    """Read a file, or what a model of transformers says of itself; None says nothing.

    Raises ConfigError with the key that is wrong.
    """
    if path is None:
        return PreprocessFile()
    if path.name == PROCESSOR:
        return _of_processor(path)
    read = read_yaml(path, PreprocessFile)
    if read.filter is not None and read.resizing is None:
        raise ConfigError(f"{path}: filter: goes with size or resize: say one of them, or leave it out")
    if read.size is not None and read.resize is not None:
        raise ConfigError(f"{path}: size and resize: say one of them")
    if read.vocabulary is not None:
        read = read.model_copy(update={"vocabulary": path.parent / read.vocabulary})
    return read


def _of_processor(path: Path) -> PreprocessFile:
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__}): save the model again") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: holds {type(raw).__name__}, not what an image processor says: save the model again")
    return validated(PreprocessFile, said_by(raw, path), str(path))


def check_keys(said: PreprocessFile, allowed: set[str], what: str) -> None:
    """Refuse keys that do not apply to `what`. Raises ConfigError."""
    if foreign := sorted(said.model_dump(exclude_none=True).keys() - allowed):
        raise ConfigError(f"{foreign[0]}: does not apply to {what}: leave it out")


def applied_to_pixels(said: PreprocessFile, pixels: Pixels) -> Pixels:
    """What is done to images, with what the file says in place. Raises ConfigError."""
    resizing = said.resizing or pixels.resize
    return Pixels(
        resizing.size if resizing else pixels.size,
        pixels.levels if said.levels is None else said.levels,
        pixels.mean if said.mean is None else said.mean,
        pixels.std if said.std is None else said.std,
        resizing,
        said.layout or pixels.layout,
        said.channels or pixels.channels,
    )


def applied_to_text(said: PreprocessFile, text: Text) -> Text:
    """How texts become tokens, with what the file says in place; shorter windows share fewer tokens unless it says so.

    Raises ConfigError.
    """
    changed = {name: value for name in ("length", "keep", "stride") if (value := getattr(said, name)) is not None}
    if said.length is not None and said.stride is None:
        changed["stride"] = min(text.stride, said.length * text.stride // text.length)
    return replace(text, **changed)
