"""What the commands of the recipe are made from: folders, the machine, and how a script is called."""

import json
from dataclasses import dataclass
from pathlib import Path

from stages import REPOSITORY


TRAINING = REPOSITORY / "training"
CONFIGS = TRAINING / "configs/small-128"
# With a smaller budget, validation is short.
SHORT_MINUTES = 60


@dataclass(frozen=True)
class Settings:
    """What the commands of all stages are made from.

    Args:
        work_dir (`Path`): folder of all outputs.
        device (`str`): `cpu` or `cuda`.
        jobs (`int`): processes that run at the same time.
        budget_minutes (`float`): the budget, by which also the evaluation is sized.
        packages_dir (`Path`, *optional*): folder of downloaded packages; None downloads them.
        sources_dir (`Path`, *optional*): folder with sources that are there already.
        bundle (`Path`, *optional*): folder that `bundle.py make` wrote.
        from_checkpoint (`Path`, *optional*): pipeline folder to start from.
        make_bundle (`Path`, *optional*): folder of the bundle to write.
        bundle_mib (`float`): its largest size.
        result_dir (`Path`): folder of the weights that a run from a bundle saves.
        readme (`Path`, *optional*): file that gets the section of the report.
    """

    work_dir: Path
    device: str
    jobs: int
    budget_minutes: float
    packages_dir: Path | None
    sources_dir: Path | None
    bundle: Path | None
    from_checkpoint: Path | None
    make_bundle: Path | None
    bundle_mib: float
    result_dir: Path
    readme: Path | None

    def is_given(self, name: str) -> bool:
        """Whether a folder of sources is there already, in `sources_dir`."""
        return self.sources_dir is not None and (self.sources_dir / name).exists()

    def source(self, name: str) -> Path:
        """A folder of sources: of the bundle, given, or collected."""
        if self.bundle is not None and name != "image_encoder":  # the bundle has that one packed
            return self.bundle / name
        if self.sources_dir is not None and self.is_given(name):
            return self.sources_dir / name
        return self.work_dir / "data" / name

    @property
    def is_short(self) -> bool:
        """Whether validation takes few clips, so that most of the time is for training."""
        return self.bundle is not None or self.budget_minutes < SHORT_MINUTES

    @property
    def start(self) -> Path | None:
        """The pipeline folder to start from."""
        return self.from_checkpoint if self.bundle is None else self.work_dir / "data/start"

    @property
    def teacher(self) -> Path | None:
        """The autoencoder that the light one is trained from; None if the model to start from has a light one."""
        if self.start is None:
            return self.work_dir / "runs/autoencoder/vae"
        packed = self.start if self.bundle is None else self.bundle / "start"
        light = json.loads((CONFIGS / "vae_light.json").read_text())
        config = json.loads((packed / "vae/config.json").read_text())
        sizes = ("encoder_block_out_channels", "decoder_block_out_channels")
        is_larger = all(sum(config.get(name, [])) > sum(light[name]) for name in sizes)
        return self.start / "vae" if is_larger else None

    @property
    def vae(self) -> Path:
        """The autoencoder of the model."""
        if self.start is not None and self.teacher is None:
            return self.start / "vae"
        return self.work_dir / "runs/light_autoencoder/vae"

    @property
    def precision(self) -> str:
        """bfloat16 on a GPU, and on a CPU with instructions for it."""
        information = Path("/proc/cpuinfo")
        flags = information.read_text() if information.exists() else ""
        return "bf16" if self.device == "cuda" or "avx512_bf16" in flags or "amx_bf16" in flags else "no"

    def package(self, pattern: str) -> Path | None:
        """The downloaded package whose name fits the pattern; None if there is none."""
        found = sorted(self.packages_dir.glob(pattern)) if self.packages_dir is not None else []
        return found[0].resolve() if found else None


def script(name: str, *arguments: object) -> tuple[str, ...]:
    """The line that runs a script of `training/`."""
    return ("python", str(TRAINING / name), *map(str, arguments))


def option(name: str, value: Path | None) -> tuple[str, ...]:
    """An argument with its value; nothing for None."""
    return () if value is None else (name, str(value))


def checkpoint(settings: Settings) -> list[Path]:
    """The files of the pipeline folder to start from, for the state of a stage."""
    return [] if settings.from_checkpoint is None else [settings.from_checkpoint]
