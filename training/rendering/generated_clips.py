"""Which animations of which packages are realistic clips of openly licensed generators of video.

The packages are the previews of ComfyUI's workflow templates (MIT). A preview is taken if its file name names a
generator whose license (Apache-2.0 or MIT) sets no limit to what its output is used for, if all of its pixels were
generated, and if it shows one continuous scene. Other animations are left out: those of services (`api_*`), those of
generators with other licenses (LTX, Hunyuan, ...) or whose license was not found (ATI, SCAIL, HuMo, Wan-Move), inputs
and edits of videos of unknown origin, logos and mascots, split screens, overlays, dissolves, and drawings.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rendering.photograph_sources import Source


@dataclass(frozen=True)
class Generator:
    """A generator of video, and where its license is stated."""

    name: str
    license: str
    stated_in: str


# "We claim no rights over the your generated contents, granting you the freedom to use them" (Wan's READMEs).
WAN = Generator("Wan", "Apache-2.0", "https://github.com/Wan-Video/Wan2.1, https://github.com/Wan-Video/Wan2.2")
WAN_FUN = Generator("Wan-Fun", "Apache-2.0", "https://github.com/aigc-apps/VideoX-Fun")
WAN_DANCER = Generator("Wan-Dancer", "Apache-2.0", "https://github.com/Wan-Video/Wan-Dancer")
INFINITETALK = Generator("InfiniteTalk (Wan)", "Apache-2.0", "https://github.com/MeiGen-AI/InfiniteTalk")
KANDINSKY = Generator("Kandinsky 5", "MIT", "https://github.com/kandinskylab/kandinsky-5")


@dataclass(frozen=True)
class GeneratedClip:
    """An animation in one of `PACKAGES`: its name without `.webp`, and the split that all of it belongs to."""

    name: str
    generator: Generator
    package: str = "video"
    split: str = "train"


# Last part of the name of a package -> its version.
PACKAGES = {"assets-01": "0.1.48", "image": "0.3.160", "video": "0.3.101"}

CLIPS = (
    GeneratedClip("text_to_video_wan-1", WAN, split="validation"),
    GeneratedClip("video_wan2_2_14B_i2v-1", WAN),
    GeneratedClip("video_wan2_2_14B_s2v-1", WAN, split="validation"),
    GeneratedClip("video_wan2_2_14B_t2v-1", WAN),
    GeneratedClip("video_wan2_2_5B_ti2v-1", WAN),
    GeneratedClip("video_wan_vace_14B_ref2v-1", WAN),
    GeneratedClip("video_wan_vace_14B_t2v-1", WAN),
    GeneratedClip("video_wan_vace_14B_v2v-2", WAN),
    GeneratedClip("video_wan_vace_flf2v-1", WAN),
    GeneratedClip("video_wan_dancer-1", WAN_DANCER, "assets-01", split="validation"),
    GeneratedClip("video_wan2_1_infinitetalk-1", INFINITETALK),
    GeneratedClip("wan2.1_fun_control-1", WAN_FUN, "image"),
    GeneratedClip("wan2.1_fun_inp-1", WAN_FUN, "image"),
    GeneratedClip("video_wan2.1_fun_camera_v1.1_1.3B-1", WAN_FUN),
    GeneratedClip("video_wan2.1_fun_camera_v1.1_14B-1", WAN_FUN),
    GeneratedClip("video_wan2_2_14B_fun_camera-1", WAN_FUN),
    GeneratedClip("video_wan2_2_14B_fun_control-1", WAN_FUN),
    GeneratedClip("video_wan2_2_14B_fun_inpaint-1", WAN_FUN),
    GeneratedClip("video_wan2_2_5B_fun_control-1", WAN_FUN),
    GeneratedClip("video_kandinsky5_i2v-1", KANDINSKY, "image"),
    GeneratedClip("video_kandinsky5_t2v-1", KANDINSKY, "image"),
)


def clip_packages() -> Iterable[Source]:
    """The packages with the files that are taken from each."""
    for part, version in PACKAGES.items():
        package = f"comfyui-workflow-templates-media-{part}"
        folder = package.replace("-", "_") + "/templates"
        names = tuple(f"{folder}/{clip.name}.webp" for clip in CLIPS if clip.package == part)
        yield Source(package, "wheel", names, version=version)
