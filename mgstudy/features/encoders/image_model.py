"""Image files by a network trained on ImageNet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.data.encoder import Encoded, Encoder, EncoderParameters, Items
from mgstudy.data.sources.base import RawPath, Recipe
from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import listed
from mgstudy.fingerprint import fingerprint

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class ImageModel(Encoder):
    """Images, a file per item in a folder, by a network of torchvision or timm.

    A file is named after the item's raw id, as `B00005N7P0.jpg`. The features are those before the
    network's classifier. Runs on a GPU where there is one.
    """

    name: ClassVar[str] = "image_model"
    reads_records = False
    packages = ("torchvision", "timm", "torch", "pillow")

    class Parameters(EncoderParameters):
        folder: RawPath = parameter(..., "folder of the images")
        library: Literal["torchvision", "timm"] = parameter("torchvision", "which has the network")
        model: str = parameter("resnet50", "name of the network in the library", min_length=1)
        batch_size: int = parameter(32, "images that are encoded at once", ge=1)
        device: str | None = parameter(None, "cpu, cuda, ...; by default a GPU if there is one")

    parameters: Parameters

    def recipe(self) -> Recipe:
        # Hashing a hundred thousand images takes longer than asking for their sizes and times.
        states = [
            [path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in self._images()
        ]
        settings = self.parameters.model_dump(include={"library", "model"})
        return Recipe({**settings, "images": fingerprint({"files": states})})

    def encode(self, items: Items) -> Encoded:
        import torch  # noqa: PLC0415

        device = self.parameters.device or ("cuda" if torch.cuda.is_available() else "cpu")
        network, transform = self._load(torch)
        network.eval().to(device)
        paths = self._paths(items)
        known = np.zeros(items.count, dtype=np.bool_)
        known[list(paths)] = True
        values: Any = None
        done = 0
        with torch.inference_mode():
            for rows, images in self._batches(paths, transform, torch):
                block = network(images.to(device)).flatten(1).float().cpu().numpy()
                if values is None:
                    values = np.zeros((items.count, block.shape[1]), dtype=np.float32)
                values[rows] = block
                done += len(rows)
                items.progress("encode images", done, len(paths))
        if values is None:
            raise InputError(
                f"{self.parameters.folder}: holds no image of the dataset's {items.count:,} items, "
                f"such as {items.name(0)}.jpg"
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

    def _batches(
        self, paths: dict[int, Path], transform: Any, torch: Any
    ) -> Iterator[tuple[list[int], Any]]:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

        entries = list(paths.items())
        for start in range(0, len(entries), self.parameters.batch_size):
            batch = entries[start : start + self.parameters.batch_size]
            images = []
            for _, path in batch:
                try:
                    with Image.open(path) as image:
                        images.append(transform(image.convert("RGB")))
                except (UnidentifiedImageError, OSError) as error:
                    raise InputError(f"{path}: not an image: {error}") from error
            yield [item for item, _ in batch], torch.stack(images)

    def _load(self, torch: Any) -> tuple[Any, Any]:
        """The network without its classifier, and what prepares an image for it."""
        name, library = self.parameters.model, self.parameters.library
        try:
            if library == "timm":
                import timm  # noqa: PLC0415

                network = timm.create_model(name, pretrained=True, num_classes=0)
                settings = timm.data.resolve_model_data_config(network)
                return network, timm.data.create_transform(**settings, is_training=False)
            import torchvision  # noqa: PLC0415

            weights = torchvision.models.get_model_weights(name).DEFAULT
            network = torchvision.models.get_model(name, weights=weights)
            for head in ("fc", "classifier", "heads", "head"):
                if hasattr(network, head):
                    setattr(network, head, torch.nn.Identity())
                    return network, weights.transforms()
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
                "network, or use 'precomputed'"
            ) from error
        raise InputError(f"the classifier of torchvision's {name!r} is not known; use timm")
