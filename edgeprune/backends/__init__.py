"""The runtimes EdgePrune lowers to, each in a folder: `lower` and `profile` on the host, `run` on the device.

What `BUILD` names is made on the device before it is opened, once, which may take minutes; it returns a `Compilation`.
"""

LOWER = {
    "ort": "edgeprune.backends.ort.lower:lower",
    "openvino": "edgeprune.backends.openvino.lower:lower",
    "tensorrt": "edgeprune.backends.tensorrt.lower:lower",
}
BUILD = {
    "tensorrt": "edgeprune.backends.tensorrt.run:build",
}
LOAD = {
    "ort": "edgeprune.backends.ort.run:load",
    "openvino": "edgeprune.backends.openvino.run:load",
    "tensorrt": "edgeprune.backends.tensorrt.run:load",
}
EFFECTIVE = {
    "ort": "edgeprune.backends.ort.profile:effective",
    "openvino": "edgeprune.backends.openvino.profile:effective",
    "tensorrt": "edgeprune.backends.tensorrt.profile:effective",
}
TIMES = {
    "ort": "edgeprune.backends.ort.profile:times",
    "openvino": "edgeprune.backends.openvino.profile:times",
    "tensorrt": "edgeprune.backends.tensorrt.profile:times",
}
