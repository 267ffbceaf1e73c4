import importlib.util
import os

import numpy as np
import pytest

from mgstudy.errors import InputError
from mgstudy.features.encoders.image_model import ImageModel


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed"
)
def test_without_its_library_the_encoder_says_what_to_install(tmp_path, encode) -> None:
    (tmp_path / "B1.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"needs torchvision; install it with `pip install"):
        encode("image_model", folder=str(tmp_path))


@pytest.mark.parametrize(("library", "model"), [("torchvision", "resnet18"), ("timm", "resnet18")])
def test_images_alike_have_features_alike(tmp_path, encode, library: str, model: str) -> None:
    pytest.importorskip(library, reason=f"needs {library} and its weights")
    image_module = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    for key, pixels in (
        ("B1", np.full((64, 64, 3), 200)),
        ("B2", np.full((64, 64, 3), 205)),
        ("B3", random.integers(0, 255, (64, 64, 3))),
    ):
        image_module.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{key}.png")
    encoded = encode("image_model", folder=str(tmp_path), library=library, model=model)
    noise, first, second = encoded.values[:3]
    assert encoded.known.tolist() == [True, True, True, False, False]
    assert np.linalg.norm(first - second) < np.linalg.norm(first - noise)


def test_what_is_called_like_an_image_and_is_no_file_is_refused(tmp_path) -> None:
    encoder = ImageModel(ImageModel.Parameters(folder=tmp_path))
    for make in (os.mkfifo, lambda path: path.symlink_to("nowhere")):
        path = tmp_path / "B1.jpg"
        make(path)
        with pytest.raises(InputError, match=r"B1\.jpg: is no file, or a link that leads nowhere"):
            encoder.recipe()
        path.unlink()
