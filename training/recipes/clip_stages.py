"""Stages that render clips and encode their frames."""

import importlib.util

from recipe_settings import Settings, checkpoint, script
from stages import Command, Stage


# Kind of clips -> script, seeds, side of a frame in pixels, frames of a clip. One process renders each seed: with few
# processes, only the first seed, since each process takes a while to read the photographs.
TRAIN_CLIPS = {
    "people": ("render_people.py", (10, 11, 12, 13), 128, 3),
    "objects": ("render_objects.py", (20, 21, 22), 128, 3),
    "photographs": ("render_photographs.py", (100, 101, 102, 103, 104, 105), 128, 3),
    "photographs96": ("render_photographs.py", (130,), 96, 2),
    "photographs192": ("render_photographs.py", (110, 111), 192, 2),
    "photographs256": ("render_photographs.py", (120,), 256, 2),
}
FEW_JOBS = 8
# At most this many clips per process of a renderer. On a CPU, semantic features take longer than the clips, so there
# the clips of all processes are at most as many as can be encoded: so many for each core and minute of the budget.
LARGEST_CHUNK, CLIPS_PER_CORE_MINUTE = 4000, 15
# Folder -> script, seed, frames, number of clips, and their number in a short run.
VALIDATION_CLIPS = {
    "people": ("render_people.py", 2, 7, 120, 12),
    "objects": ("render_objects.py", 2, 3, 60, 8),
    "photographs": ("render_photographs.py", 2, 3, 150, 8),
}
# Share of F's samples for each kind of clips. Annotated ones, of generators of video, are not rendered.
KIND_WEIGHTS = {"people": 0.32, "objects": 0.13, "photographs": 0.45, "annotated": 0.1}
# Share of these samples in which F's things get other motions than in their clip: rotations, and people as a whole.
NEW_MOTIONS = {"people": 0.15, "objects": 0.6, "photographs": 0.6, "annotated": 0.0}
# At most this many processes encode frames at the same time: they share the GPU, or the memory of a small machine.
ENCODERS = {"cpu": 2, "cuda": 8}


def render(settings: Settings, name: str, split: str, seed: int, frames: int, *arguments: object) -> tuple[str, ...]:
    """The line that renders clips; the last part of the script's name says of what."""
    kind = name.removeprefix("render_").removesuffix(".py")
    sources: tuple[object, ...] = ("--photographs_dir", settings.source("photographs"))
    sources += {
        "people": ("--motions_dir", settings.source("motions")),
        "objects": ("--cutouts_dir", settings.source("stamps")),
        "photographs": ("--masks_dir", settings.source("masks")),
    }[kind]
    if kind == "photographs" and importlib.util.find_spec("patchmatch_cython") is None:
        sources += ("--filling", "smooth")
    return script(name, "--split", split, "--seed", seed, "--num_frames", frames, *sources, *arguments)


def train_sets(settings: Settings, *, only_128: bool = False) -> list[tuple[str, str, int]]:
    """(Folder, kind, seed) of all training clips, or of those of 128 x 128 pixels."""
    return [
        (f"{kind}-{seed}", kind, seed)
        for kind, (_, seeds, side, _) in TRAIN_CLIPS.items()
        for seed in (seeds if settings.jobs >= FEW_JOBS else seeds[:1])
        if side == 128 or not only_128
    ]


def train_clips(settings: Settings) -> list[Command]:
    """Renders the training clips, one process for each folder, as many as its minutes allow."""
    commands = []
    sets = train_sets(settings)
    number = LARGEST_CHUNK
    if settings.device == "cpu" and settings.bundle is None:
        number = max(1, int(CLIPS_PER_CORE_MINUTE * settings.jobs * settings.budget_minutes / len(sets)))
    for folder, kind, seed in sets:
        name, _, side, frames = TRAIN_CLIPS[kind]
        output = settings.work_dir / "clips" / folder
        arguments = ("--resolution", side, "--num_clips", number, "--output_dir", output)
        line = render(settings, name, "train", seed, frames, *arguments)
        commands.append(Command(folder, (line,), "--max_minutes", output))
    return commands


def validation_clips(settings: Settings) -> list[Command]:
    """Renders the validation clips, the same in all long runs, and a part of them in short ones."""
    commands = []
    for folder, (name, seed, frames, number, fewer) in VALIDATION_CLIPS.items():
        output = settings.work_dir / "validation_clips" / folder
        count = fewer if settings.is_short else number
        line = render(settings, name, "validation", seed, frames, "--num_clips", count, "--output_dir", output)
        commands.append(Command(folder, (line,), None, output))
    return commands


def train_folders(settings: Settings, *, only_128: bool = False) -> list[str]:
    """The folders of training clips, all or those of 128 x 128 pixels."""
    rendered = [settings.work_dir / "clips" / folder for folder, _, _ in train_sets(settings, only_128=only_128)]
    return [str(folder) for folder in (*rendered, settings.source("annotated_clips"))]


def validation_folders(settings: Settings) -> list[str]:
    """The folders of validation clips."""
    return [str(settings.work_dir / "validation_clips" / name) for name in VALIDATION_CLIPS]


def train_kinds(settings: Settings) -> list[str]:
    """The kind of each folder of training clips, without their size."""
    return ["".join(filter(str.isalpha, kind)) for _, kind, _ in train_sets(settings)] + ["annotated"]


def data_weights(settings: Settings) -> list[str]:
    """The share of each folder of training clips in the samples of F."""
    kinds = train_kinds(settings)
    return [f"{KIND_WEIGHTS[kind] / kinds.count(kind):.4f}" for kind in kinds]


def new_motions(settings: Settings) -> list[str]:
    """The share of new motions in the samples of F from each folder of training clips."""
    return [f"{NEW_MOTIONS[kind]:g}" for kind in train_kinds(settings)]


def cache(settings: Settings) -> list[Command]:
    """Encodes the frames of all clips, and their semantic features."""
    shared = ("--pretrained_vae", settings.vae, "--cache_dir", settings.work_dir / "cache")
    shared += ("--image_encoder", settings.source("image_encoder"), "--splits")
    train = script("cache_latents.py", "--train_data_dir", *train_folders(settings), *shared, "train")
    validation = script("cache_latents.py", "--train_data_dir", *validation_folders(settings), *shared, "validation")
    # Several processes divide the shards among them.
    parts = min(settings.jobs, ENCODERS[settings.device])
    return [Command("validation", (validation,)), *(Command(f"train-{part}", (train,)) for part in range(parts))]


SOURCES = ("photographs", "motions", "stamps", "masks", "bundle")
CLIPS = (
    Stage("validation_clips", validation_clips, ("validation_clips",), SOURCES, share=0.02),
    Stage("clips", train_clips, ("clips",), SOURCES, share=0.15),
)
ENCODED_FROM = ("validation_clips", "clips", "annotated_clips", "light_autoencoder", "image_encoder", "bundle")
LATENTS = Stage("cache", cache, ("cache",), ENCODED_FROM, checkpoint, 0.10)
