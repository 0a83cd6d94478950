"""Every error EdgePrune raises on purpose, and the exit code a command ends with.

EdgePruneError
├── InputError             2  something the user gave cannot be used
│   ├── UnknownNameError      a name that stands in no table; the nearest is named
│   ├── ConfigError           a recipe, target, calibration or plan file says something impossible
│   │   └── OutOfReachError    a fraction that is smaller than what can be reached
│   ├── ModelError            a factory, weights file or graph cannot be used
│   │   └── DivergedError      a training's loss is no number, or grew beyond bounds
│   ├── DataError             samples are missing, unreadable, too few or do not fit the model
│   ├── CorruptError          bytes are not those that were written
│   └── OutputError           results cannot be written: read-only, full, or not ours to replace
├── BudgetError            3  a budget or threshold is not met
├── MissingError           4  a dependency or device needed for this is not here
├── DeviceError            5  a device or the process on it failed
│   └── BusyError             somebody else has the device now
└── FallbackError          6  an operator ran in another precision than intended, and that was not allowed

0 is success, 1 a bug of ours (a traceback), 130 an interrupt. A message is one line: what, where, what to do.
"""

from __future__ import annotations


class EdgePruneError(Exception):
    """Root of the tree; never raised itself."""

    exit_code = 1


class InputError(EdgePruneError):
    """Something the user gave cannot be used."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name that stands in no table."""


class ConfigError(InputError):
    """A file people write says something impossible."""


class OutOfReachError(ConfigError):
    """What is asked for is less than all that can go leaves."""


class ModelError(InputError):
    """A model, its weights or its graph cannot be used."""


class DivergedError(ModelError):
    """A training's loss is no number, or grew beyond bounds; the network is as it was before that epoch."""


class DataError(InputError):
    """Samples are missing, unreadable, too few or do not fit the model."""


class CorruptError(InputError):
    """Bytes are not those that were written."""


class OutputError(InputError):
    """Results cannot be written where they should go."""


class BudgetError(EdgePruneError):
    """A budget or threshold is not met."""

    exit_code = 3


class MissingError(EdgePruneError):
    """A dependency or device needed for this is not here."""

    exit_code = 4


class DeviceError(EdgePruneError):
    """A device, or the process on it, failed."""

    exit_code = 5


class BusyError(DeviceError):
    """Somebody else has the device now."""


class FallbackError(EdgePruneError):
    """An operator ran in another precision than intended, and that was not allowed."""

    exit_code = 6
