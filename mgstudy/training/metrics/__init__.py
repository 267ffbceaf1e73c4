"""Metrics beyond accuracy, one file each."""
