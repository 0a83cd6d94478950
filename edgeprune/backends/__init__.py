"""The runtimes EdgePrune lowers to, each in a folder: `lower` and `profile` on the host, `run` on the device."""

LOWER = {
    "ort": "edgeprune.backends.ort.lower:lower",
    "openvino": "edgeprune.backends.openvino.lower:lower",
    "tensorrt": "edgeprune.backends.tensorrt.lower:lower",
}
LOAD = {
    "ort": "edgeprune.backends.ort.run:load",
    "openvino": "edgeprune.backends.openvino.run:load",
}
EFFECTIVE = {
    "ort": "edgeprune.backends.ort.profile:effective",
    "openvino": "edgeprune.backends.openvino.profile:effective",
}
TIMES = {
    "ort": "edgeprune.backends.ort.profile:times",
    "openvino": "edgeprune.backends.openvino.profile:times",
}
