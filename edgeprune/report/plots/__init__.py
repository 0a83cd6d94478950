"""Plots as inline SVG: text stays text, ink takes the page's own colour, so one picture suits dark and light pages."""
