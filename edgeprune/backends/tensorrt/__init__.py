"""NVIDIA TensorRT: engines are built on the device, so here are the files and the build as data."""
