"""A control: Mirror Gradient whose second step goes on down instead of back up."""

from __future__ import annotations

from mgstudy.training.gradient.mirror_gradient import MirrorGradient


class DoubleStep(MirrorGradient):
    """Mirror Gradient with the sign of its second step turned.

    Every ``interval``-th batch takes a step of strength ``alpha1`` down from θ to θ' and, on the
    same batch and negatives, one of strength ``alpha2`` *down* from θ'. It computes exactly what
    ``mirror_gradient`` computes, in either variant, and moves further; if Mirror Gradient does no
    better, its gain comes from taking more steps, not from going back. Clipping is as there.

    Cost: 1 + 1/``interval`` forward-and-backward passes per batch, as Mirror Gradient.
    """

    name = "double_step"
    second_direction = 1.0
