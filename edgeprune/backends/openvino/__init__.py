"""Intel OpenVINO on the CPU."""
