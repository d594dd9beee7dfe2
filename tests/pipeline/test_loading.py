# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Saving, loading, sharing, casting and offloading, as the tests of diffusers require of a pipeline."""

import ast
import inspect
import json
import logging
import shutil
import sys
from pathlib import Path

import diffusers.pipelines
import pytest
import torch
from accelerate import cpu_offload
from diffusers import AutoPipelineForImage2Image, DDIMScheduler, DiffusionPipeline, EulerDiscreteScheduler
from diffusers.models.attention_processor import AttnProcessor
from diffusers.utils.dynamic_modules_utils import get_relative_imports
from torch.nn.attention import SDPBackend, sdpa_kernel

import mcdiff_pipeline
from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from support.pipeline_runs import STROKES, seeded
from support.tiny_models import FULL_CONDITIONING, make_feature_pipeline, make_pipeline, make_unet


SOURCES = Path(mcdiff_pipeline.__file__).parent
NETWORKS = ("vae", "flow_completion", "unet")


def video_of(pipe, image, **arguments) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    return pipe(image, STROKES, num_frames=3, generator=seeded(), output_type="pt", **arguments).frames


def assert_same_video(found, expected):
    """Equal up to rounding: the layout of weights in memory decides which kernels run."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.fixture
def warnings_of_diffusers():
    """What diffusers logs as a warning or worse during the test."""
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    logger = logging.getLogger("diffusers")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


# Saving and loading


def test_saving_and_loading_gives_the_same_video(tiny_pipeline, image, tmp_path, warnings_of_diffusers):
    tiny_pipeline.save_pretrained(tmp_path)
    loaded = MCDiffPipeline.from_pretrained(tmp_path)
    size = {"height": 40, "width": 48}
    assert_same_video(video_of(loaded, image, **size), video_of(tiny_pipeline, image, **size))
    assert not any(getattr(loaded, name).training for name in NETWORKS)
    assert [record.getMessage() for record in warnings_of_diffusers] == []


def test_loaded_model_can_be_saved_and_loaded_again(tiny_pipeline, image, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "first")
    MCDiffPipeline.from_pretrained(tmp_path / "first", dtype=torch.float16).save_pretrained(tmp_path / "second")
    MCDiffPipeline.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second", variant="full")
    loaded = MCDiffPipeline.from_pretrained(tmp_path / "second", variant="full")
    assert torch.equal(loaded.unet.conv_in.weight, tiny_pipeline.unet.conv_in.weight)
    assert_same_video(video_of(loaded, image), video_of(tiny_pipeline, image))
    indices = [json.loads((tmp_path / name / "model_index.json").read_text()) for name in ("first", "second")]
    assert indices[1] == indices[0] | {"_name_or_path": str(tmp_path / "first")}


def test_configuration_survives_saving(tmp_path):
    settings = {
        "conditioning": "dense_flow,previous_frame",
        "flow_scale": 2.5,
        "residual_condition": "previous_frame",
        "residual_scale": 1.5,
        "default_height": 40,
        "default_width": 48,
        "default_num_frames": 7,
        "default_num_inference_steps": 9,
        "default_guidance_scale": 1.5,
    }
    make_pipeline(**settings | {"conditioning": ["dense_flow", "previous_frame"]}).save_pretrained(tmp_path)
    loaded = MCDiffPipeline.from_pretrained(tmp_path)
    assert {name: loaded.config[name] for name in settings} == settings
    assert loaded.conditioning == ("dense_flow", "previous_frame")


def test_model_index_names_our_module_and_leaves_optional_components_null(tiny_model_dir):
    index = json.loads((tiny_model_dir / "model_index.json").read_text())
    assert index["_class_name"] == "MCDiffPipeline"
    assert index["flow_completion"] == ["mcdiff_pipeline.flow_completion_unet", "FlowCompletionUNet"]
    assert index["text_encoder"] == index["tokenizer"] == index["image_encoder"] == [None, None]
    # on the Hub, diffusers treats every list as a component
    components = {*NETWORKS, "scheduler", "text_encoder", "tokenizer", "image_encoder"}
    assert {name for name, value in index.items() if isinstance(value, list)} == components
    folders = {path.name for path in tiny_model_dir.iterdir() if path.is_dir()}
    assert folders == {*NETWORKS, "scheduler"}


def test_module_of_flow_completion_is_registered_with_diffusers():
    module = getattr(diffusers.pipelines, "mcdiff_pipeline.flow_completion_unet")
    assert module.FlowCompletionUNet is FlowCompletionUNet


def test_half_precision_variant_is_saved_and_loaded(tiny_pipeline, image, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    tiny_pipeline.to(torch.float16)
    tiny_pipeline.save_pretrained(tmp_path, variant="fp16")
    for name in NETWORKS:
        assert (tmp_path / name / "diffusion_pytorch_model.fp16.safetensors").exists()
    loaded = MCDiffPipeline.from_pretrained(tmp_path, variant="fp16", dtype=torch.float16)
    assert all(getattr(loaded, name).dtype == torch.float16 for name in NETWORKS)
    torch.testing.assert_close(video_of(loaded, image), video_of(tiny_pipeline, image), rtol=0, atol=0.02)
    assert MCDiffPipeline.from_pretrained(tmp_path).dtype == torch.float32


def test_models_are_saved_in_shards(tiny_pipeline, image, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path, max_shard_size="50KB")
    assert all(len(list((tmp_path / name).glob("*.safetensors"))) > 1 for name in NETWORKS)
    loaded = MCDiffPipeline.from_pretrained(tmp_path)
    assert_same_video(video_of(loaded, image), video_of(tiny_pipeline, image))


def test_components_can_be_loaded_in_several_dtypes(tiny_model_dir, image):
    dtypes = {"unet": torch.bfloat16, "flow_completion": torch.float16, "default": torch.float32}
    pipe = MCDiffPipeline.from_pretrained(tiny_model_dir, dtype=dtypes)
    assert {name: getattr(pipe, name).dtype for name in NETWORKS} == {
        "vae": torch.float32,
        "flow_completion": torch.float16,
        "unet": torch.bfloat16,
    }
    assert video_of(pipe, image).isfinite().all()
    # both get the same latents, in the dtype of `unet`
    assert torch.equal(pipe.predict_flow(image, STROKES), pipe(image, STROKES).dense_flow[:, 0])


def test_components_and_settings_can_be_replaced_on_loading(tiny_model_dir):
    scheduler = EulerDiscreteScheduler()
    pipe = MCDiffPipeline.from_pretrained(tiny_model_dir, scheduler=scheduler, default_num_frames=7)
    assert pipe.scheduler is scheduler
    assert pipe.config.default_num_frames == 7


def test_unet_that_does_not_fit_the_conditions_is_refused_on_loading(tiny_model_dir):
    with pytest.raises(ValueError, match="`unet` takes 5 channels"):
        MCDiffPipeline.from_pretrained(tiny_model_dir, unet=make_unet(5))


# Sharing components


def test_components_rebuild_the_pipeline(image):
    pipe = make_pipeline(("previous_frame", "dense_flow"))
    settings = {name: value for name, value in pipe.config.items() if name.startswith("default_")}
    rebuilt = MCDiffPipeline(**pipe.components, **settings)
    assert set(pipe.components) == {*NETWORKS, "scheduler", "text_encoder", "tokenizer", "image_encoder"}
    assert torch.equal(video_of(rebuilt, image), video_of(pipe, image))


def test_from_pipe_shares_models_and_keeps_settings(tiny_pipeline, image):
    shared = MCDiffPipeline.from_pipe(tiny_pipeline)
    assert all(getattr(shared, name) is getattr(tiny_pipeline, name) for name in NETWORKS)
    assert shared.conditioning == FULL_CONDITIONING
    assert torch.equal(video_of(shared, image), video_of(tiny_pipeline, image))
    scheduler = EulerDiscreteScheduler()
    assert MCDiffPipeline.from_pipe(tiny_pipeline, scheduler=scheduler).scheduler is scheduler
    assert MCDiffPipeline.from_pipe(tiny_pipeline, default_num_frames=7).config.default_num_frames == 7


def test_to_takes_device_and_dtype_in_each_form_of_diffusers(tiny_pipeline, image):
    forms = [
        lambda pipe: pipe.to("cpu", torch.bfloat16),
        lambda pipe: pipe.to(torch.float16),
        lambda pipe: pipe.to(dtype=torch.bfloat16, device="cpu"),
        lambda pipe: pipe.to(torch.device("cpu"), dtype=torch.float32),
    ]
    dtypes = [torch.bfloat16, torch.float16, torch.bfloat16, torch.float32]
    for form, dtype in zip(forms, dtypes, strict=True):
        assert form(tiny_pipeline) is tiny_pipeline
        assert {getattr(tiny_pipeline, name).dtype for name in NETWORKS} == {dtype} and tiny_pipeline.dtype == dtype
        assert video_of(tiny_pipeline, image).isfinite().all()


def test_classes_that_choose_a_pipeline_by_its_task_do_not_know_strokes(tiny_pipeline):
    for chooser in (AutoPipelineForImage2Image, DiffusionPipeline):
        with pytest.raises(ValueError, match="Pipeline"):
            chooser.from_pipe(tiny_pipeline)


def test_call_has_the_arguments_of_every_pipeline():
    parameters = inspect.signature(MCDiffPipeline.__call__).parameters
    names = list(parameters)
    assert names[:3] == ["self", "image", "strokes"]
    for name in ("num_inference_steps", "generator", "latents", "output_type", "return_dict"):
        assert parameters[name].default is not inspect.Parameter.empty
    assert all(parameters[name].default is not inspect.Parameter.empty for name in names[3:])
    assert all(f"\n            {name} (`" in MCDiffPipeline.__call__.__doc__ for name in names[1:])


# Dtypes, casting and offloading


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_half_precision_runs(tiny_pipeline, image, dtype, guidance_scale):
    expected = video_of(tiny_pipeline, image, guidance_scale=guidance_scale)
    tiny_pipeline.to(dtype)
    assert {getattr(tiny_pipeline, name).dtype for name in NETWORKS} == {dtype}
    output = tiny_pipeline(image, STROKES, output_type="latent")
    assert output.frames.dtype == dtype and output.dense_flow.dtype == torch.float32
    frames = video_of(tiny_pipeline, image, guidance_scale=guidance_scale)
    assert frames.dtype == torch.float32
    assert torch.equal(frames[:, 0], expected[:, 0])  # the image is not rounded
    torch.testing.assert_close(frames, expected, rtol=0, atol=0.15)


@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_layerwise_casting_runs(tiny_pipeline, image, storage):
    expected = video_of(tiny_pipeline, image)
    for name in NETWORKS:
        getattr(tiny_pipeline, name).enable_layerwise_casting(storage_dtype=storage, compute_dtype=torch.bfloat16)
    assert tiny_pipeline.unet.conv_in.weight.dtype == storage
    frames = video_of(tiny_pipeline, image)
    assert frames.isfinite().all()
    assert (frames - expected).abs().mean() < 0.1


def test_model_offload_gives_the_same_video_and_frees_the_models(tiny_pipeline, image):
    expected = video_of(tiny_pipeline, image)
    flow = tiny_pipeline.predict_flow(image, STROKES)
    tiny_pipeline.enable_model_cpu_offload(device="cpu")
    assert len(tiny_pipeline._all_hooks) == 3
    for use in (lambda: video_of(tiny_pipeline, image), lambda: tiny_pipeline.predict_flow(image, STROKES)):
        hooks = list(tiny_pipeline._all_hooks)
        found = use()
        assert torch.equal(found, expected if found.ndim == 5 else flow)
        # models are moved back to the CPU, and get new hooks for the next call
        assert not set(map(id, tiny_pipeline._all_hooks)) & set(map(id, hooks))


def test_sequential_offload_gives_the_same_video(tiny_pipeline, image):
    # `enable_sequential_cpu_offload` does this to each model, but accelerate fails with the CPU as the device
    expected = video_of(tiny_pipeline, image)
    flow = tiny_pipeline.predict_flow(image, STROKES)
    for name in NETWORKS:
        model = getattr(tiny_pipeline, name)
        cpu_offload(model, torch.device("cpu"), offload_buffers=len(model._parameters) > 0)
    for _ in range(2):
        # on this device, weights that no hook fetches raise an error
        assert {getattr(tiny_pipeline, name).device.type for name in NETWORKS} == {"meta"}
        assert_same_video(video_of(tiny_pipeline, image), expected)
        assert torch.equal(tiny_pipeline.predict_flow(image, STROKES), flow)
    assert len(list(tiny_pipeline.stream(image, STROKES, num_frames=2))) == 2


@pytest.mark.gpu
@pytest.mark.parametrize("enable", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_offload_from_a_gpu_gives_the_same_video(tiny_pipeline, image, enable):
    expected = video_of(tiny_pipeline, image)
    getattr(tiny_pipeline, enable)()
    for _ in range(2):
        torch.testing.assert_close(video_of(tiny_pipeline, image).cpu(), expected, rtol=0, atol=1e-2)


def test_group_offload_of_the_whole_pipeline_gives_the_same_video(tiny_pipeline, image):
    expected = video_of(tiny_pipeline, image)
    tiny_pipeline.enable_group_offload(onload_device="cpu", offload_device="cpu", offload_type="leaf_level")
    for _ in range(2):
        assert_same_video(video_of(tiny_pipeline, image), expected)


@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
def test_group_offload_gives_the_same_video(tiny_pipeline, image, tmp_path, offload_type):
    expected = video_of(tiny_pipeline, image)
    cpu = torch.device("cpu")
    for name in NETWORKS:
        settings = {"offload_type": offload_type, "offload_to_disk_path": str(tmp_path / name)}
        if offload_type == "block_level":
            settings["num_blocks_per_group"] = 1
        getattr(tiny_pipeline, name).enable_group_offload(cpu, cpu, **settings)
    for _ in range(2):
        assert_same_video(video_of(tiny_pipeline, image), expected)


# Attention and compilation


def test_other_ways_to_compute_attention_give_the_same_video(tiny_pipeline, image):
    expected = video_of(tiny_pipeline, image)
    with sdpa_kernel(SDPBackend.MATH):
        assert_same_video(video_of(tiny_pipeline, image), expected)
    for model in (tiny_pipeline.unet, tiny_pipeline.flow_completion):
        model.set_attn_processor(AttnProcessor())
    assert_same_video(video_of(tiny_pipeline, image), expected)
    tiny_pipeline.enable_attention_slicing()
    tiny_pipeline.vae.enable_slicing()
    assert_same_video(video_of(tiny_pipeline, image), expected)
    tiny_pipeline.disable_attention_slicing()
    assert_same_video(video_of(tiny_pipeline, image), expected)


def test_networks_compile_without_graph_breaks(tiny_pipeline, image):
    expected = video_of(tiny_pipeline, image)
    torch._dynamo.reset()
    tiny_pipeline.unet.compile(fullgraph=True, backend="eager")
    tiny_pipeline.flow_completion.compile(fullgraph=True, backend="eager")
    tiny_pipeline.vae.decode = torch.compile(tiny_pipeline.vae.decode, fullgraph=True, backend="eager")
    assert_same_video(video_of(tiny_pipeline, image), expected)
    torch._dynamo.reset()


# Code that travels with a model


# What the pipeline imports. The files import only one another.
FLAT = sorted(get_relative_imports(SOURCES / "pipeline_mcdiff.py"))


def imported_names(path: Path) -> set[str]:
    """Absolute modules that a file imports anywhere, by their first part."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_pipeline_imports_every_file_that_travels_with_it():
    # diffusers copies only the files that a regular expression finds in the file of the pipeline
    for name in FLAT:
        assert set(get_relative_imports(SOURCES / f"{name}.py")) <= set(FLAT)


@pytest.mark.parametrize("name", ["pipeline_mcdiff", *FLAT])
def test_files_that_travel_import_only_core_dependencies(name):
    core = {"diffusers", "numpy", "PIL", "safetensors", "torch", "transformers"}
    assert imported_names(SOURCES / f"{name}.py") <= core | set(sys.stdlib_module_names)


def test_library_needs_neither_torchvision_nor_mediapipe():
    # diffusers and transformers may import torchvision if it is installed, so this reads the sources
    for path in SOURCES.glob("*.py"):
        assert not imported_names(path) & {"torchvision", "mediapipe", "mcdiff_pipeline"}, path.name


def test_code_of_a_folder_is_not_run_without_trust(tiny_model_dir):
    shutil.copy(SOURCES / "pipeline_mcdiff.py", tiny_model_dir / "pipeline.py")
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(tiny_model_dir, custom_pipeline=str(tiny_model_dir))


def test_scheduler_of_the_tiny_model_is_loaded_as_saved(tiny_pipeline, tiny_model_dir):
    loaded = MCDiffPipeline.from_pretrained(tiny_model_dir).scheduler
    assert isinstance(loaded, DDIMScheduler)
    assert loaded.config.prediction_type == tiny_pipeline.scheduler.config.prediction_type


def test_loading_shows_no_second_progress_bar(tmp_path, capfd):
    from transformers.utils import logging

    make_feature_pipeline().save_pretrained(tmp_path)
    capfd.readouterr()
    MCDiffPipeline.from_pretrained(tmp_path)
    assert "Loading weights" not in capfd.readouterr().err
    assert logging.is_progress_bar_enabled()
