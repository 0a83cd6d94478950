"""Where the user's own data and metric lie: the core of a bundle says what they are called, a file beside it where."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeprune.bundle import CORE, PLACES, PLAN, Bundle
from edgeprune.data.datasets import KNOWN
from edgeprune.errors import ConfigError, CorruptError, InputError
from edgeprune.latency_table import FILE
from edgeprune.recipe import DataPart, Recipe, Rows, validated
from edgeprune.whole_file import whole

ROLES = ("train", "calibrate", "select", "report")


def portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe without the folders its files lie in, which say nothing of the result and differ between machines."""
    names = {path: name for name, path in _own(recipe.data).items()}
    data = _renamed(recipe.data, lambda path: names.get(path, path))
    whole: dict[str, Any] = recipe.model_copy(update={"data": data}).model_dump(mode="json", exclude_none=True)
    if recipe.latency_table is not None:
        whole["latency_table"] = FILE  # which the bundle holds
    for part, key in ((whole, "weights"), *((whole["data"], key) for key in ("metric", "calibration", "preprocess"))):
        if key in part:
            part[key] = Path(part[key]).name
    if recipe.data.vocabulary is not None:
        whole["data"]["vocabulary"] = recipe.data.vocabulary.resolve().name
    if recipe.prune.rl.policy is not None:
        whole["prune"]["rl"]["policy"] = recipe.prune.rl.policy.name
    if recipe.quantize.plan is not None:
        whole["quantize"]["plan"] = PLAN  # which the bundle holds
    return whole | {"model": _model(recipe.model)}


def remember(recipe: Recipe, root: Path) -> None:
    """Write beside the core of a bundle where its samples and its metric lie, so that it can be measured again."""
    own = _own(recipe.data)
    if recipe.data.metric is not None:
        file, _, _ = recipe.data.metric.rpartition(":")
        own[Path(file).name] = file
    if own:
        places = {name: str(Path(path).resolve()) for name, path in own.items()}
        with whole(root / PLACES) as partial:
            partial.write_text(json.dumps(places, indent=1) + "\n", encoding="utf-8")


def located_data(bundle: Bundle, given: str | None = None) -> DataPart:
    """What judges a bundle, no metric, with the user's own data where they are: as given, else where they were.

    Raises InputError where they are not, ConfigError where a bundle is of a named set and needs none of the user's own.
    """
    part = validated(Recipe, bundle.core.recipe, str(bundle.root / CORE)).data
    if given is not None and part.name in KNOWN:
        raise ConfigError(f"--data {given}: {bundle.root} was made with {part.name}, which is found by its name")
    over = {} if given is None else {part.name: given}

    def there(name: str) -> str:
        return name if name in KNOWN else _there(bundle, name, over, "--data DIR")

    part = part.model_copy(update={"train": None, "calibrate": None, "calibration": None, "metric": None})
    return _renamed(part, there)


def located_metric(bundle: Bundle, given: str | None = None) -> str | None:
    """The user's own metric that judges a bundle, where it is: as given, else where it was; None where there is none.

    Raises InputError where it is not, ConfigError where the bundle is not judged by a function of that name.
    """
    metric = validated(Recipe, bundle.core.recipe, str(bundle.root / CORE)).data.metric
    file, _, function = (metric or "").rpartition(":")
    if given is not None and (metric is None or given.rpartition(":")[2] != function):
        judged = ", ".join(bundle.core.task.metrics) or "nothing"
        raise ConfigError(f"--metric {given}: {bundle.root} is judged by {judged}")
    if metric is None:
        return None
    over = {} if given is None else {file: given.rpartition(":")[0]}
    return f"{_there(bundle, file, over, f'--metric FILE.py:{function}')}:{function}"


def _there(bundle: Bundle, name: str, given: Mapping[str, str], option: str) -> str:
    place = {name: name, **_places(bundle.root), **given}[name]
    if not Path(place).exists():
        raise InputError(
            f"{place}: not there, but {bundle.root} was made with it: edgeprune bench {bundle.root} {option}"
        )
    return place


def _own(part: DataPart) -> dict[str, str]:
    """The user's own folders and files of samples, by what a bundle calls them: their name, where it is no other's."""
    sources = [rows.source for role in ROLES if (rows := getattr(part, role))]
    sources += [rows.source for rows in part.also_report.values()]
    paths = [path for path in (part.name, *(source.rpartition(":")[0] for source in sources)) if path not in KNOWN]
    places = {path: Path(path).resolve() for path in paths}
    taken = Counter([*KNOWN, *(place.name for place in set(places.values()))])
    return {place.name if taken[place.name] == 1 else str(place): path for path, place in places.items()}


def _renamed(part: DataPart, called: Callable[[str], str]) -> DataPart:
    """The same with every data set, by itself and as the source of rows, called as said."""

    def rows(given: Rows) -> Rows:
        name, _, split = given.source.rpartition(":")
        return given.model_copy(update={"source": f"{called(name)}:{split}"})

    update = {role: rows(given) for role in ROLES if (given := getattr(part, role))}
    also = {name: rows(given) for name, given in part.also_report.items()}
    return part.model_copy(update={"name": called(part.name), "also_report": also, **update})


def _places(root: Path) -> dict[str, str]:
    file = root / PLACES
    try:
        raw = json.loads(file.read_bytes()) if file.is_file() else {}
        return {str(name): str(place) for name, place in raw.items()}
    except (ValueError, AttributeError) as error:
        raise CorruptError(
            f"{file}: damaged: remove it, and say where with --data DIR and --metric FILE.py:FN"
        ) from error


def _model(name: str) -> str:
    """`hf:` and an id stay; of a path, what it is called."""
    prefix, rest = ("hf:", name[3:]) if name.startswith("hf:") else ("", name)
    return prefix + (Path(rest).name if not prefix or Path(rest).expanduser().is_dir() else rest)
