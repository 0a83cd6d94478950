"""Energy sensors, one file each."""

METERS = {
    "rapl": "edgeprune.meters.rapl:RaplMeter",
    "nvml": "edgeprune.meters.nvml:NvmlMeter",
    "ina3221": "edgeprune.meters.ina3221:Ina3221Meter",
    "ina238": "edgeprune.meters.ina238:Ina238Meter",
    "zeus": "edgeprune.meters.zeus:ZeusMeter",
    "command": "edgeprune.meters.command:CommandMeter",
}
