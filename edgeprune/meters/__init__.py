"""Energy sensors, one file each."""

METERS = {"rapl": "edgeprune.meters.rapl:RaplMeter"}
