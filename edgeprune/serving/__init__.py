"""A model served while its precision follows the load: for devices, so standard library, NumPy and one runtime."""
