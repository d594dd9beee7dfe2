# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A model loads from a Hub with and without this package. Each program runs in a process of its own."""

import copy
import itertools
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers.utils.dynamic_modules_utils import get_relative_imports
from huggingface_hub import snapshot_download
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

import mcdiff_pipeline
from mcdiff_pipeline import MCDiffPipeline, Stroke, StrokeSheet
from mcdiff_pipeline.hub import export_model
from mcdiff_pipeline.hub.modular_index import write_modular_index
from support.loopback_hub import TOKEN, LoopbackHub
from support.paths import REPOSITORY
from support.tiny_models import make_feature_pipeline


# Each program begins with this: `video` makes the same video with any pipeline, `save` gives results to the test.
PRELUDE = """
import sys, torch
results = {}
def video(pipe):
    generator = torch.Generator().manual_seed(0)
    return pipe("image.png", "strokes.json", generator=generator, output_type="pt").frames
def save():
    torch.save(results, "results.pt")
def refused(call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""


@pytest.fixture(scope="module")
def site_without_package(tmp_path_factory) -> Path:
    """A folder with links to all that is installed except this package, for `python -S`."""
    site = tmp_path_factory.mktemp("site")
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(folder).iterdir():
            # `python -S` reads no .pth file, so it does not find the sources of an editable installation either
            if not path.name.startswith(("mcdiff_", "__editable__")):
                (site / path.name).symlink_to(path)
    return site


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, MCDiffPipeline]:
    """Two models of one shape with different weights. Both have an image encoder."""
    first, second = make_feature_pipeline(), make_feature_pipeline()
    with torch.no_grad():
        for parameter in second.unet.parameters():
            parameter.mul_(1.1)
    return {"first": first, "second": second}


@pytest.fixture(scope="module")
def exports(models, tmp_path_factory) -> dict[str, Path]:
    """The models exported (one with a variant, one in shards), saved, and pickled; and a LoRA of the first."""
    folder = tmp_path_factory.mktemp("exports")
    models["first"].save_pretrained(folder / "plain")
    models["second"].save_pretrained(folder / "second")
    models["first"].save_pretrained(folder / "pickled", safe_serialization=False)
    export_model(folder / "plain", folder / "first", variant="fp16")
    write_modular_index(folder / "first", "owner/model")
    export_model(folder / "second", folder / "second-export", max_shard_size="50KB")
    unet = copy.deepcopy(models["first"].unet)
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    MCDiffPipeline.save_lora_weights(folder / "lora", unet_lora_layers=get_peft_model_state_dict(unet))
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def hub(exports):
    with LoopbackHub() as hub:
        hub.add("owner/model", exports["first"])
        hub.add("owner/model", exports["second-export"], branch="v1")
        pipeline = hub.repositories["owner/model"].commits[hub.repositories["owner/model"].branches["v1"]]
        hub.repositories["owner/model"].commit({"pipeline.py": pipeline["pipeline.py"] + b'\nBRANCH = "v1"\n'}, "v1")
        hub.add("owner/sharded", exports["second-export"])
        hub.add("owner/plain", exports["plain"])
        hub.add("owner/pickled", exports["pickled"])
        hub.add("owner/lora", exports["lora"])
        yield hub


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with an image and strokes, where the programs run."""
    folder = tmp_path_factory.mktemp("place")
    pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).resize((48, 40), PIL.Image.Resampling.BICUBIC).save(folder / "image.png")
    StrokeSheet([Stroke([(10, 10), (34, 26)])], 48, 40, num_frames=3).save(folder / "strokes.json")
    return folder


@pytest.fixture(scope="module")
def run(place, hub, site_without_package):
    """Runs a program with an empty HF_HOME, if none is given, and no token. Returns the results that it saves."""
    homes = itertools.count()

    def run(program: str, *, installed: bool, **environment: str) -> dict:
        variables = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHON"))}
        variables |= {"HF_HOME": str(place / f"hf-{next(homes)}"), "OMP_NUM_THREADS": "1"}
        variables |= hub.environment | environment
        interpreter = [sys.executable]
        if installed:
            variables["PYTHONPATH"] = str(Path(mcdiff_pipeline.__file__).parents[1])
        else:
            variables["PYTHONPATH"] = str(site_without_package)
            interpreter.append("-S")
        command = [*interpreter, "-c", PRELUDE + program]
        finished = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        return torch.load(place / "results.pt")

    return run


def expected_video(pipe: MCDiffPipeline, place: Path) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return pipe(place / "image.png", place / "strokes.json", generator=generator, output_type="pt").frames


def assert_same_video(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def with_package(run, exports) -> dict:
    """The results of a program that uses the package and the Hub: importing everything twice would take longest."""
    program = """
connections = []
sys.addaudithook(lambda event, arguments: connections.append(arguments) if event == "socket.connect" else None)
from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
results["connections on import"] = len(connections)

def load(name, **keywords):
    return MCDiffPipeline.from_pretrained(name, cache_dir=f"cache/{len(results)}", **keywords)

results["model"] = video(load("owner/model"))
results["plain"] = video(load("owner/plain"))
results["sharded"] = video(load("owner/sharded"))
results["revision"] = video(load("owner/model", revision="v1"))
half = load("owner/model", variant="fp16")
results["variant"] = video(half)
results["files of the variant"] = [str(path) for path in __import__("pathlib").Path("cache/5").rglob("*.safetensors")]
component = FlowCompletionUNet.from_pretrained("owner/model", subfolder="flow_completion", cache_dir="cache/component")
results["component"] = {key: value for key, value in component.state_dict().items()}
results["remote code"] = [name for name in sys.modules if name.startswith("diffusers_modules")]

load("owner/model").push_to_hub("owner/pushed", token=SECRET)
results["pushed"] = video(load("owner/pushed"))

load("owner/pushed").save_pretrained("saved")
results["saved"] = video(MCDiffPipeline.from_pretrained("saved"))

import contextlib, io
from mcdiff_commands.main import main

def mcdiff(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()

import os
results["no token"] = mcdiff("push", EXPORT, "owner/new")
os.environ["HF_TOKEN"] = SECRET
results["push"] = mcdiff("push", EXPORT, "owner/new", "--private")
results["again"] = mcdiff("push", EXPORT, "owner/new")
results["info"] = mcdiff("info", "owner/new")
results["pickled"] = mcdiff("info", "owner/pickled")
results["missing"] = mcdiff("info", "owner/missing")
save()
"""
    program = program.replace("EXPORT", repr(str(exports["first"]))).replace("SECRET", repr(TOKEN))
    return run(program, installed=True)


def test_every_kind_of_repository_loads_with_the_package_without_trust(with_package, models, place):
    results = with_package
    first, second = (expected_video(models[name], place) for name in ("first", "second"))
    assert (first - second).abs().max() > 1e-3
    assert results["connections on import"] == 0
    for name in ("model", "plain", "pushed", "saved"):
        assert_same_video(results[name], first)
    for name in ("sharded", "revision"):
        assert_same_video(results[name], second)
    assert_same_video(results["variant"], first, atol=0.02)
    assert not torch.equal(results["variant"], results["model"])  # fp16 rounds the weights
    names = [Path(path).name for path in results["files of the variant"]]
    assert set(names) == {"diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors"}
    for key, value in models["first"].flow_completion.state_dict().items():
        assert torch.equal(results["component"][key], value)
    assert results["remote code"] == []


def test_repository_loads_without_the_package_if_its_code_is_trusted(run, exports, models, place):
    joined = place / "mcdiff.py"
    script = REPOSITORY / "examples" / "community" / "join_modules.py"
    subprocess.run([sys.executable, script, joined], check=True)
    assert get_relative_imports(joined) == []
    results = run(
        """
from diffusers import DiffusionPipeline
results["import"] = refused(__import__, "mcdiff_pipeline")
results["plain"] = refused(DiffusionPipeline.from_pretrained, "owner/plain")
results["untrusted"] = refused(DiffusionPipeline.from_pretrained, "owner/model", custom_pipeline="owner/model")
results["code before trust"] = [name for name in sys.modules if name.startswith("diffusers_modules")]
trusted = {"custom_pipeline": "owner/model", "trust_remote_code": True}
pipe = DiffusionPipeline.from_pretrained("owner/model", **trusted)
results["model"] = video(pipe)
results["class"] = type(pipe).__name__
results["variant"] = video(DiffusionPipeline.from_pretrained("owner/model", variant="fp16", **trusted))
pipe.load_lora_weights("owner/lora")
results["lora"] = video(pipe)

# The blocks of Modular Diffusers, from the Hub and from a folder.
from diffusers import ModularPipeline
def blocks(name):
    pipe = ModularPipeline.from_pretrained(name, trust_remote_code=True)
    pipe.load_components()
    generator = torch.Generator().manual_seed(0)
    return pipe(image="image.png", strokes="strokes.json", generator=generator, output_type="pt", output="videos")
results["untrusted blocks"] = refused(ModularPipeline.from_pretrained, "owner/model")
results["blocks"] = blocks("owner/model")
results["blocks of a folder"] = blocks(EXPORT)

# Code and weights of a revision.
pipe = DiffusionPipeline.from_pretrained(
    "owner/model", revision="v1", custom_pipeline="pipeline", trust_remote_code=True
)
results["revision"] = video(pipe)
results["branch"] = sys.modules[type(pipe).__module__].BRANCH

# The code in one file, as in diffusers' community folder.
pipe = DiffusionPipeline.from_pretrained("owner/model", custom_pipeline="mcdiff.py", trust_remote_code=True)
results["community"] = video(pipe)
results["file"] = sys.modules[type(pipe).__module__].__name__
save()
""".replace("EXPORT", repr(str(exports["first"]))),
        installed=False,
    )
    expected = expected_video(models["first"], place)
    assert results["import"].startswith("ModuleNotFoundError")
    assert results["plain"] is not None
    assert "trust_remote_code=True" in results["untrusted"] and results["untrusted"].startswith("ValueError")
    assert results["code before trust"] == []
    assert results["class"] == "MCDiffPipeline"
    assert_same_video(results["model"], expected)
    assert_same_video(results["variant"], expected, atol=0.02)
    adapted = copy.deepcopy(models["first"])
    adapted.load_lora_weights(exports["lora"])
    adapted = expected_video(adapted, place)
    assert (adapted - expected).abs().max() > 1e-2
    assert_same_video(results["lora"], adapted)
    assert "trust_remote_code=True" in results["untrusted blocks"]
    for name in ("blocks", "blocks of a folder"):
        assert torch.equal(results[name], results["model"])
    assert results["branch"] == "v1"
    assert_same_video(results["revision"], expected_video(models["second"], place))
    assert results["file"].endswith(".mcdiff")
    assert_same_video(results["community"], expected)


def test_each_module_is_asked_for_once_when_the_class_is_looked_up(run, hub):
    before = len(hub.requests)
    run(
        """
from diffusers import DiffusionPipeline
DiffusionPipeline.from_pretrained("owner/model", custom_pipeline="owner/model", trust_remote_code=True)
save()
""",
        installed=False,
    )
    asked = Counter(request for request in hub.requests[before:] if request.endswith(".py"))
    assert len(asked) > 20
    assert max(asked.values()) == 2  # diffusers looks the class up twice


def test_downloaded_folder_works_offline_with_and_without_the_package(run, hub, models, place):
    offline = {"HF_HOME": str(place / "hf"), "HF_HUB_OFFLINE": "1"}
    folder = snapshot_download("owner/model", endpoint=hub.endpoint, cache_dir=place / "hf" / "hub")
    expected = expected_video(models["first"], place)
    requests = len(hub.requests)
    without = """
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
results["folder"] = video(pipe)
save()
"""
    program = without.replace("FOLDER", repr(folder))
    assert_same_video(run(program, installed=False, **offline)["folder"], expected)
    within = """
from mcdiff_pipeline import MCDiffPipeline
results["folder"] = video(MCDiffPipeline.from_pretrained(FOLDER))
results["name"] = video(MCDiffPipeline.from_pretrained("owner/model"))
save()
"""
    results = run(within.replace("FOLDER", repr(folder)), installed=True, **offline)
    assert_same_video(results["folder"], expected)
    assert_same_video(results["name"], expected)
    assert len(hub.requests) == requests


def test_commands_push_and_describe_and_report_what_is_wrong(with_package, hub, exports):
    results = with_package
    code, out, err = results["no token"]
    assert code == 1 and "hf auth login" in err and err.count("\n") == 1

    code, out, err = results["push"]
    assert (code, out) == (0, f"{hub.endpoint}/owner/new\n"), err
    repository = hub.repositories["owner/new"]
    assert repository.private
    files = repository.commits[repository.branches["main"]]
    local = {path.relative_to(exports["first"]).as_posix(): path for path in exports["first"].rglob("*")}
    assert files.keys() == {name for name, path in local.items() if path.is_file()}
    assert all(files[name] == local[name].read_bytes() for name in files)
    assert b'from_pretrained("owner/new"' in files["README.md"] and b"owner/name" not in files["README.md"]
    assert files["modular_model_index.json"].count(b'"pretrained_model_name_or_path": "owner/new"') == 5
    assert results["again"][0] == 0

    assert results["info"][0] == 0 and "FlowCompletionUNet" in results["info"][1]
    for name in ("pickled", "missing"):
        code, out, err = results[name]
        assert code == 1 and "no: " in out, results[name]
    assert "safetensors" in results["pickled"][1]
