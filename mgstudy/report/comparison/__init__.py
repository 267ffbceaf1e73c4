"""Cells beside their baselines: which, how they differ, and how sure that is."""
