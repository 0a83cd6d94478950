"""Ways to a device: files there and back, and a process on it."""
