"""The bodies, motions and photographs that clips of people are made of."""

from dataclasses import dataclass, field
from pathlib import Path

from rendering.people.bodies import Body, Skeleton, read_bodies
from rendering.people.motions import Motion, read_motion
from rendering.photographs import check_split, list_photographs


TEST_MOTIONS = ("dance_b", "spinkick", "getup_facedown")
VALIDATION_MOTIONS = ("punch", "kick", "dance_a", "jump", "getup_faceup")
BODIES_FILE = Path(__file__).parents[2] / "data" / "bodies.npz"


@dataclass
class Assets:
    """What clips of one split are made of.

    Attributes:
        recombined: whether limbs follow motions of their own, and bodies are mixtures.
        ground: the lowest height that a body reaches in a motion, by (index of the body, name of the motion). It is
            filled as clips are rendered.
    """

    skeleton: Skeleton
    bodies: list[Body]
    motions: list[Motion]
    photographs: list[Path]
    recombined: bool = False
    ground: dict[tuple[int, str], float] = field(default_factory=dict)


def load_assets(
    split: str,
    *,
    motions_dir: str | Path,
    photographs_dir: str | Path,
    bodies: str | Path = BODIES_FILE,
    recombined: bool = False,
) -> Assets:
    """Read what the clips of `split` may use.

    Args:
        split: `train`, `validation` or `test`.
        motions_dir: folder of motion files in the 44-number format, `humanoid3d_*.txt`.
        photographs_dir: folder with one subfolder of JPEG or PNG photographs for each split.
        bodies: file made by `export_bodies.py`.
        recombined: whether limbs follow motions of their own, and bodies are mixtures.

    Raises:
        ValueError: if the split is unknown.
        FileNotFoundError: if there is no motion or no photograph for it.
    """
    check_split(split)
    motions = read_motions(Path(motions_dir), split)
    if not motions:
        raise FileNotFoundError(
            f"{motions_dir} holds no motion for the split {split!r}: unpack the wheel that `pip download pybullet` "
            "fetches and give its folder pybullet_data/data/motions."
        )
    photographs = list_photographs(photographs_dir, split)
    skeleton, people = read_bodies(bodies, split)
    return Assets(skeleton, people, motions, photographs, recombined)


def read_motions(folder: Path, split: str) -> list[Motion]:
    """The motions of a split. Training uses the first 70 % of the validation motions, validation the last quarter."""
    motions = []
    for path in sorted(folder.glob("humanoid3d_*.txt")):
        motion = read_motion(path)
        if (motion.name in TEST_MOTIONS) != (split == "test"):
            continue
        if motion.name in VALIDATION_MOTIONS:
            motions.append(motion.part(0.75, 1) if split == "validation" else motion.part(0, 0.7))
        elif split != "validation":
            motions.append(motion)
    return motions
