"""Accuracy against what it costs: dense networks of many widths beside sparse ones."""
