"""How robust the models of a study are: what to measure, measuring it, what was measured."""
