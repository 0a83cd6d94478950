"""Changes to the float graph by which it loses less when it is quantized."""
