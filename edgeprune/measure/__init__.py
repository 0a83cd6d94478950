"""How latency, memory and energy are taken: standard library and NumPy, for it runs on devices."""
