"""Measured comparisons, run by hand: `make bench`. Ratios side by side in one run, for machines are noisy."""
