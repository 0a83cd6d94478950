"""What range of values a tensor takes, seen batch by batch."""

OBSERVERS = {
    "minmax": "edgeprune.quantize.observers.minmax:MinMax",
    "moving-average": "edgeprune.quantize.observers.moving_average:MovingAverage",
    "percentile": "edgeprune.quantize.observers.percentile:percentile",
    "mse": "edgeprune.quantize.observers.mse:mse",
    "entropy": "edgeprune.quantize.observers.entropy:entropy",
}
"""Called without arguments, each gives a new observer."""
