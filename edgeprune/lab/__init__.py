"""Many devices: an inventory, one job at a time on each, a journal of what came of it, and tables."""
