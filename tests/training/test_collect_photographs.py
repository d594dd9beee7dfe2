import numpy as np
from collect_photographs import Photograph, split_of_photograph, without_duplicates
from PIL import Image, ImageFilter

from rendering.photograph_sources import SOURCES
from rendering.wholes import held_out_files


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


def test_no_photograph_of_an_evaluation_is_trained_on():
    sources = {source.package: source for source in SOURCES}
    for package, file in held_out_files():
        if package in sources:
            held_out = Photograph(sources[package], f"/{file}", Image.new("RGB", (8, 8)), "CC0")
            assert split_of_photograph(held_out) in (None, "test")
