import numpy as np
from collect_photographs import Photograph, without_duplicates
from PIL import Image, ImageFilter

from rendering.photograph_sources import SOURCES


def photograph(seed: int, size: int, package: str = "mate-backgrounds") -> Photograph:
    noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(3)).resize((size, size))
    source = next(source for source in SOURCES if source.package == package)
    return Photograph(source, f"/{seed}-{size}.jpg", image, "CC0")


def test_largest_copy_of_an_image_stays():
    kept = list(without_duplicates([photograph(1, 200), photograph(1, 400), photograph(2, 300)]))
    assert [item.name for item in kept] == ["/1-400.jpg", "/2-300.jpg"]


def test_copy_of_a_package_held_out_for_testing_stays():
    kept = list(without_duplicates([photograph(1, 400), photograph(1, 200, package="scikit-image")]))
    assert [item.source.package for item in kept] == ["scikit-image"]
