"""Trials on Ray Tune: the driver, the workers, and what each gets of the machines."""
