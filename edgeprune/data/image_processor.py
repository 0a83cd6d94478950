"""A preprocessor_config.json, which image models of transformers come with, in the words of a preprocess file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeprune.errors import ConfigError

PROCESSOR = "preprocessor_config.json"
SQUARE = {"", "ViT", "DeiT", "Beit", "Siglip", "EfficientNet"}
SHORTER = {"Bit", "CLIP", "ConvNext", "MobileNetV1", "MobileNetV2"}
"""Kinds that resize, crop, scale and normalize and do nothing else; what a single number as their size means."""
FILTERS = {2: "bilinear", 3: "bicubic"}
NAMES = ("image_processor_type", "feature_extractor_type")
FOLLOWED = {"do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct"}
FOLLOWED |= {"do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", *NAMES}
WITHOUT_EFFECT = {"do_convert_rgb", "processor_class", "default_to_square", "return_tensors", "data_format"}
CROPPED_BELOW, CROP = 384, 224 / 256
"""ConvNeXt crops images of fewer pixels, to this part of them where the file does not say (Liu et al., 2022)."""


def said_by(raw: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """What the file says of images. Raises ConfigError for what we cannot do, rather than do something else."""
    kind = re.sub(
        r"(FeatureExtractor|ImageProcessor)(Fast|Pil)?$", "", next((raw[one] for one in NAMES if one in raw), "")
    )
    if kind not in SQUARE | SHORTER:
        raise _beyond(file, f"{kind} does more to images than resize, crop and normalize")
    known = FOLLOWED | WITHOUT_EFFECT
    if other := [name for name, value in raw.items() if name not in known and name[0] != "_" and value]:
        raise _beyond(file, f"{other[0]} cannot be followed")
    try:
        return {**_values(raw), **(_sizes(raw, kind, file) if raw.get("do_resize", True) else _uncut(raw, file))}
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"{file}: damaged ({type(error).__name__} {error}): save the model again") from error


def _values(raw: Mapping[str, Any]) -> dict[str, Any]:
    levels = 1 / raw.get("rescale_factor", 1 / 255) if raw.get("do_rescale", True) else 1.0
    found: dict[str, Any] = {"levels": round(levels, 6), "mean": raw["image_mean"], "std": raw["image_std"]}
    if not raw.get("do_normalize", True):
        found |= {"mean": [0.0] * len(raw["image_mean"]), "std": [1.0] * len(raw["image_std"])}
    return found


def _sizes(raw: Mapping[str, Any], kind: str, file: Path) -> dict[str, Any]:
    size, crop = raw["size"], raw["crop_size"] if raw.get("do_center_crop") else None
    if isinstance(size, int):
        size = {"height": size, "width": size} if kind in SQUARE else {"shortest_edge": size}
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    resample = raw.get("resample", 2)
    if resample not in FILTERS:
        raise _beyond(file, f"resample {resample} is neither 2 (bilinear) nor 3 (bicubic)")
    how = {"filter": FILTERS[resample]}
    shorter = size.get("shortest_edge")
    if kind == "ConvNext" and shorter:
        if shorter >= CROPPED_BELOW:
            return how | {"size": [shorter, shorter]}
        return how | {"resize": {"shorter": int(shorter / (raw.get("crop_pct") or CROP)), "crop": shorter}}
    if shorter and crop is not None and crop["height"] == crop["width"] <= shorter:
        return how | {"resize": {"shorter": shorter, "crop": crop["height"]}}
    if shorter is None and crop in (None, size):
        return how | {"size": [size["height"], size["width"]]}
    raise _beyond(file, f"size {size}{f' with crop_size {crop}' if crop else ''} cannot be followed")


def _uncut(raw: Mapping[str, Any], file: Path) -> dict[str, Any]:
    if raw.get("do_center_crop"):
        raise _beyond(file, "do_center_crop without do_resize cannot be followed")
    return {}


def _beyond(file: Path, why: str) -> ConfigError:
    return ConfigError(f"{file}: {why}: say what is done to images with --preprocess")
