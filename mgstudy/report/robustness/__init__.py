"""Robustness of cells beside that of their baselines."""
