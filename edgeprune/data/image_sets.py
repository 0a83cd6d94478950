"""The image data sets that are known by name."""

from __future__ import annotations

from edgeprune.data.default_splits import CALIBRATION_SAMPLES
from edgeprune.data.encoded import Resize
from edgeprune.data.info import DatasetInfo, Hub
from edgeprune.data.pixels import Pixels
from edgeprune.recipe import Rows
from edgeprune.tensor import IMAGE

_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_PIXELS = Pixels((32, 32), 255, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_DIGITS = tuple("0123456789")
_DIGITS_PIXELS = Pixels((8, 8), 16, (0.307,), (0.376,))
_MNIST_PIXELS = Pixels((28, 28), 255, (0.1307,), (0.3081,))
# The published means and deviations; "resize to 256, crop 224" is how every network of the zoo's kind was evaluated.
_IMAGENET_PIXELS = Pixels((224, 224), 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), Resize(256, 224))

IMAGE_SETS = (
    DatasetInfo(
        "digits",
        (IMAGE,),
        _DIGITS,
        _DIGITS_PIXELS,
        {
            "train": Rows(source="digits:all", stop=1097),
            "calibrate": Rows(source="digits:all", stop=256),
            "select": Rows(source="digits:all", start=1097, stop=1397),
            "report": Rows(source="digits:all", start=1397, stop=1797),
        },
        calibration="digits",
    ),
    DatasetInfo(
        "mnist",
        (IMAGE,),
        _DIGITS,
        _MNIST_PIXELS,
        {
            "train": Rows(source="mnist:train", stop=55_000),
            "calibrate": Rows(source="mnist:train", stop=CALIBRATION_SAMPLES),
            "select": Rows(source="mnist:train", start=55_000, stop=60_000),
            "report": Rows(source="mnist:test"),
        },
        calibration="mnist",
        hub=Hub("ylecun/mnist"),
    ),
    DatasetInfo(
        "cifar10",
        (IMAGE,),
        _CIFAR_CLASSES,
        _CIFAR_PIXELS,
        {
            "train": Rows(source="cifar10:train", stop=40_000),
            "calibrate": Rows(source="cifar10:train", stop=CALIBRATION_SAMPLES),
            "select": Rows(source="cifar10:train", start=40_000, stop=45_000),
            "report": Rows(source="cifar10:train", start=45_000, stop=50_000),
            "test": Rows(source="cifar10:test"),
        },
        calibration="cifar10",
        hub=Hub("uoft-cs/cifar10"),
    ),
    # Lossy, so nothing is trained on it and weights trained here are not judged by it: it compares a float with
    # a quantized network on equal rows.
    DatasetInfo(
        "cifar10_jpeg75",
        (IMAGE,),
        _CIFAR_CLASSES,
        _CIFAR_PIXELS,
        {
            "calibrate": Rows(source="cifar10:train", stop=CALIBRATION_SAMPLES),
            "select": Rows(source="cifar10_jpeg75:test", start=1000, stop=5500),
            "report": Rows(source="cifar10_jpeg75:test", start=5500, stop=10_000),
        },
        calibration="cifar10",
    ),
    # Without training rows: 1.3 million images do not fit in memory; weights for it are given, not made here. Nor is
    # it calibrated on any: the hub gives no few of them without all (138 GB). 10,000 report: one point is 100 images.
    # Classes are in the order of the hub's labels, which is that of the sorted WordNet ids, as published weights have.
    DatasetInfo(
        "imagenet",
        (IMAGE,),
        tuple(map(str, range(1000))),
        _IMAGENET_PIXELS,
        {
            "calibrate": Rows(source="imagenet:validation", stop=CALIBRATION_SAMPLES),
            "select": Rows(source="imagenet:validation", start=5_000, stop=10_000),
            "report": Rows(source="imagenet:validation", start=10_000, stop=20_000),
        },
        hub=Hub("ILSVRC/imagenet-1k"),
    ),
)
