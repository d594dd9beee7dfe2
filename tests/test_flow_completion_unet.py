# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""F: its input and output, and what diffusers expects of a model."""

import json

import pytest
import torch
from accelerate import cpu_offload
from diffusers import ModelMixin
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.training_utils import EMAModel

from mcdiff_pipeline import FlowCompletionOutput, FlowCompletionUNet
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet as FlowCompletionUNetOfModule
from mcdiff_pipeline.flow_completion_unet import spread_strokes
from support.tiny_models import make_flow_completion


def make_inputs(batch_size=2, height=8, width=12, in_channels=4):
    """Latents, and sparse flow with two specified cells for each sample."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(batch_size, 1, height, width, dtype=torch.bool)
    mask[:, :, 2, 3] = True
    mask[:, :, 5, 2] = True
    return {
        "sample": torch.randn(batch_size, in_channels, height, width, generator=generator),
        "sparse_flow": torch.randn(batch_size, 2, height, width, generator=generator) * mask * 8,
        "mask": mask,
    }


@torch.no_grad()
def complete(model, inputs):
    return model(**inputs).dense_flow


def gradients(model, inputs):
    model.zero_grad()
    model(**inputs).dense_flow.square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


# Input and output


def test_dense_flow_covers_the_latent_grid():
    assert complete(make_flow_completion(), make_inputs(3, 16, 4)).shape == (3, 2, 16, 4)


def test_latents_can_have_any_number_of_channels():
    assert complete(make_flow_completion(in_channels=3), make_inputs(in_channels=3)).shape == (2, 2, 8, 12)


def test_held_cell_differs_from_free_cell():
    model, inputs = make_flow_completion(), make_inputs()
    inputs["sparse_flow"] = torch.zeros_like(inputs["sparse_flow"])
    held = complete(model, inputs)
    inputs["mask"] = torch.zeros_like(inputs["mask"])
    free = complete(model, inputs)
    assert (held - free).abs().max() > 1e-3


def test_held_cell_differs_from_free_cell_by_the_embedding_without_the_mask():
    model, inputs = make_flow_completion(), make_inputs()
    with torch.no_grad():
        model.conv_in.weight[:, -1] = 0  # blind to the mask
    inputs["sparse_flow"] = torch.zeros_like(inputs["sparse_flow"])
    held = complete(model, inputs)
    inputs["mask"] = torch.zeros_like(inputs["mask"])
    assert (held - complete(model, inputs)).abs().max() > 1e-3


def test_mask_distinguishes_a_displacement_from_an_equal_embedding():
    model, inputs = make_flow_completion(), make_inputs()
    with torch.no_grad():
        model.unspecified.zero_()
    inputs["sparse_flow"] = torch.zeros_like(inputs["sparse_flow"])
    held = complete(model, inputs)
    inputs["mask"] = torch.zeros_like(inputs["mask"])
    assert (held - complete(model, inputs)).abs().max() > 1e-3


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_values_in_unspecified_cells_are_ignored(value):
    model, inputs = make_flow_completion(), make_inputs()
    expected = complete(model, inputs)
    inputs["sparse_flow"] = torch.where(inputs["mask"], inputs["sparse_flow"], value)
    assert torch.equal(complete(model, inputs), expected)


def test_values_in_specified_cells_are_read():
    model, inputs = make_flow_completion(), make_inputs()
    expected = complete(model, inputs)
    inputs["sparse_flow"] = -inputs["sparse_flow"]
    assert (complete(model, inputs) - expected).abs().max() > 1e-3


def test_latents_are_read():
    model, inputs = make_flow_completion(), make_inputs()
    expected = complete(model, inputs)
    inputs["sample"] = -inputs["sample"]
    assert (complete(model, inputs) - expected).abs().max() > 1e-3


def test_embedding_has_gradients_only_from_unspecified_cells():
    model, inputs = make_flow_completion(), make_inputs()
    assert gradients(model, inputs)["unspecified"].abs().min() > 0
    inputs["mask"] = torch.ones_like(inputs["mask"])
    assert gradients(model, inputs)["unspecified"].abs().max() == 0


@pytest.mark.parametrize("settings", [{"flow_scale": 3.0}, {"vae_scale_factor": 8, "flow_scale": 1.5}])
def test_flow_is_in_pixels_and_divided_inside_by_cell_and_flow_scale(settings):
    # 4 pixels a unit, then 12: equal numbers inside the network are three times as many pixels outside
    inputs = make_inputs()
    expected = 3 * complete(make_flow_completion(), inputs)
    inputs["sparse_flow"] = 3 * inputs["sparse_flow"]
    torch.testing.assert_close(complete(make_flow_completion(**settings), inputs), expected)


def test_output_is_a_dataclass_or_a_tuple():
    model, inputs = make_flow_completion(), make_inputs()
    output = model(**inputs)
    assert isinstance(output, FlowCompletionOutput)
    found = model(**inputs, return_dict=False)
    assert isinstance(found, tuple) and len(found) == 1
    assert torch.equal(found[0], output.dense_flow)


@pytest.mark.parametrize("training", [False, True])
def test_output_is_deterministic(training):
    model, inputs = make_flow_completion().train(training), make_inputs()
    assert torch.equal(complete(model, inputs), complete(model, inputs))


def test_a_sample_in_a_batch_equals_the_same_sample_alone():
    model, inputs = make_flow_completion(), make_inputs(3)
    alone = complete(model, {name: tensor[1:2] for name, tensor in inputs.items()})
    torch.testing.assert_close(complete(model, inputs)[1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("height, width", [(9, 8), (8, 7)])
def test_grid_that_cannot_be_halved_is_refused(height, width):
    with pytest.raises(ValueError, match=f"{height} x {width} cells cannot be halved for each of the 2 levels.*2 div"):
        complete(make_flow_completion(), make_inputs(height=height, width=width))


# Sizes


@pytest.mark.parametrize(
    "settings, millions",
    [
        ({"block_out_channels": (32, 64, 64), "layers_per_block": 1}, 1),
        ({}, 10),
        # the UNet of LDM-4 (Rombach et al. 2022): 224 base channels, multipliers 1, 2, 3, 4
        (
            {
                "block_out_channels": (224, 448, 672, 896),
                "down_block_types": ("DownBlock2D",) + ("AttnDownBlock2D",) * 3,
                "up_block_types": ("AttnUpBlock2D",) * 3 + ("UpBlock2D",),
            },
            261,
        ),
    ],
    ids=["small", "default", "LDM-4"],
)
def test_number_of_parameters_is_as_documented(settings, millions):
    with torch.device("meta"):
        model = FlowCompletionUNet(**settings)
    assert round(model.num_parameters() / 1e6) == millions
    assert f"{millions} M" in FlowCompletionUNet.__doc__


@pytest.mark.parametrize(
    "settings",
    [
        {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)},
        {"layers_per_block": 2},
        {
            "block_out_channels": (8, 16, 24),
            "down_block_types": ("DownBlock2D",) * 3,
            "up_block_types": ("UpBlock2D",) * 3,
        },
    ],
    ids=["one level", "two layers", "three levels without attention"],
)
def test_other_shapes_run(settings):
    assert complete(make_flow_completion(**settings), make_inputs()).shape == (2, 2, 8, 12)


def test_levels_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"`block_out_channels` \(3 levels\), `down_block_types` \(2\)"):
        make_flow_completion(block_out_channels=(8, 16, 16))


# What diffusers expects of a model


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_gradient_checkpointing_recomputes_and_gives_the_same_gradients(dropout):
    model, inputs = make_flow_completion(dropout=dropout).train(), make_inputs()
    calls = []
    for block in (*model.down_blocks, model.mid_block, *model.up_blocks):
        block.resnets[-1].register_forward_pre_hook(lambda *_: calls.append(1))
    torch.manual_seed(0)
    expected = gradients(model, inputs)
    assert len(calls) == 5

    model.enable_gradient_checkpointing()
    assert model.is_gradient_checkpointing
    calls.clear()
    torch.manual_seed(0)
    found = gradients(model, inputs)
    assert len(calls) == 10
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)

    model.disable_gradient_checkpointing()
    assert not model.is_gradient_checkpointing


def test_every_parameter_has_gradients():
    found = gradients(make_flow_completion().train(), make_inputs())
    assert [name for name, gradient in found.items() if not gradient.abs().max() > 0] == []


def test_attention_processors_can_be_exchanged():
    model, inputs = make_flow_completion(), make_inputs()
    assert len(model.attn_processors) == 4  # one level down, the middle, two layers up
    model.set_attn_processor(AttnProcessor2_0())
    fused = complete(model, inputs)
    model.set_attn_processor(AttnProcessor())
    assert all(type(processor) is AttnProcessor for processor in model.attn_processors.values())
    torch.testing.assert_close(complete(model, inputs), fused, rtol=1e-4, atol=1e-5)

    model.set_attn_processor({name: AttnProcessor2_0() for name in model.attn_processors})
    assert all(type(processor) is AttnProcessor2_0 for processor in model.attn_processors.values())
    assert torch.equal(complete(model, inputs), fused)
    with pytest.raises(ValueError, match="number of"):
        model.set_attn_processor({"mid_block.attentions.0.processor": AttnProcessor()})


def test_attention_processor_is_used():
    class Zero:
        def __call__(self, attn, hidden_states, *args, **kwargs):
            return torch.zeros_like(hidden_states)

    model, inputs = make_flow_completion(), make_inputs()
    expected = complete(model, inputs)
    model.set_attn_processor(Zero())
    assert (complete(model, inputs) - expected).abs().max() > 1e-4


@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_layerwise_casting_stores_layers_in_8_bits_and_computes_in_more(storage, compute):
    model, inputs = make_flow_completion(), make_inputs()
    expected = complete(model, inputs)
    model.to(compute).enable_layerwise_casting(storage_dtype=storage, compute_dtype=compute)
    assert model.dtype == compute
    stored = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert stored["conv_in.weight"] == stored["mid_block.attentions.0.to_q.weight"] == storage
    assert all(dtype == compute for name, dtype in stored.items() if "norm" in name)
    assert stored["unspecified"] == compute

    inputs["sample"] = inputs["sample"].to(compute)
    flow = complete(model, inputs)
    assert flow.dtype == compute
    assert 0 < (flow.float() - expected).norm() < 0.5 * expected.norm()
    assert {name: parameter.dtype for name, parameter in model.named_parameters()} == stored


def test_layerwise_casting_can_train():
    model, inputs = make_flow_completion().train(), make_inputs()
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flow = model(**inputs).dense_flow
    flow.float().square().mean().backward()
    assert model.unspecified.grad.isfinite().all()


@pytest.mark.parametrize("to_disk", [False, True])
@pytest.mark.parametrize(
    "settings", [{"offload_type": "block_level", "num_blocks_per_group": 1}, {"offload_type": "leaf_level"}]
)
def test_group_offload_gives_the_same_flow(settings, to_disk, tmp_path):
    model, inputs = make_flow_completion(), make_inputs()
    expected = complete(model, inputs)
    if to_disk:  # frees the weights in memory, so a weight that no hook loads raises an error
        settings = settings | {"offload_to_disk_path": str(tmp_path)}
    model.enable_group_offload(torch.device("cpu"), torch.device("cpu"), **settings)
    for _ in range(2):
        torch.testing.assert_close(complete(model, inputs), expected, rtol=0, atol=1e-4)


def test_sequential_offload_gives_the_same_flow():
    model, inputs = make_flow_completion(), make_inputs()
    expected = complete(model, inputs)
    cpu_offload(model, torch.device("cpu"), offload_buffers=True)
    for _ in range(2):
        # weights on this device that no hook fetches raise an error
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
        torch.testing.assert_close(complete(model, inputs), expected, rtol=0, atol=1e-4)


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_compiles_without_graph_breaks(fresh_compiler):
    model, inputs = make_flow_completion(), make_inputs()
    expected = complete(model, inputs)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(complete(compiled, inputs), expected)


def test_repeated_blocks_compile_without_graph_breaks(fresh_compiler):
    one_level = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    model, inputs = make_flow_completion(**one_level), make_inputs()
    expected = complete(model, inputs)
    model.compile_repeated_blocks(fullgraph=True, backend="eager")
    assert torch.equal(complete(model, inputs), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_output_in_half_precision_has_its_dtype(dtype):
    model, inputs = make_flow_completion(), make_inputs()
    expected = complete(model, inputs)
    inputs["sample"] = inputs["sample"].to(dtype)  # the sparse flow stays float32, as in the pipeline
    flow = complete(model.to(dtype), inputs)
    assert flow.dtype == dtype
    torch.testing.assert_close(flow.float(), expected, rtol=0.1, atol=0.05 * expected.abs().max().item())


def test_mixed_precision_trains():
    model, inputs = make_flow_completion().train(), make_inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flow = model(**inputs).dense_flow
    assert flow.dtype == torch.bfloat16
    flow.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_averaged_weights_are_saved_and_loaded_by_EMAModel(tmp_path):
    model = make_flow_completion()
    average = EMAModel(model.parameters(), decay=0.5, model_cls=FlowCompletionUNet, model_config=model.config)
    before = model.unspecified.detach().clone()
    with torch.no_grad():
        model.unspecified += 1
    average.step(model.parameters())
    average.save_pretrained(tmp_path / "unet_ema")

    loaded = EMAModel.from_pretrained(tmp_path / "unet_ema", FlowCompletionUNet)
    assert loaded.optimization_step == 1
    averaged = make_flow_completion()
    loaded.copy_to(averaged.parameters())
    assert ((before < averaged.unspecified) & (averaged.unspecified <= model.unspecified)).all()


# Saving and loading


def test_saving_and_loading_keeps_flow_and_configuration(tmp_path):
    model, inputs = make_flow_completion(flow_scale=2.5), make_inputs()
    with torch.no_grad():
        model.unspecified += 7
    model.save_pretrained(tmp_path)
    loaded = FlowCompletionUNet.from_pretrained(tmp_path)
    assert loaded.config.flow_scale == 2.5
    assert not loaded.training
    torch.testing.assert_close(complete(loaded, inputs), complete(model, inputs), rtol=0, atol=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "FlowCompletionUNet"


def test_model_is_rebuilt_from_its_configuration():
    model = make_flow_completion(layers_per_block=2)
    rebuilt = FlowCompletionUNet.from_config(model.config)
    assert {name: p.shape for name, p in rebuilt.named_parameters()} == {
        name: p.shape for name, p in model.named_parameters()
    }


def test_large_models_are_saved_in_shards(tmp_path):
    model, inputs = make_flow_completion(), make_inputs()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert (tmp_path / "diffusion_pytorch_model.safetensors.index.json").exists()
    loaded = FlowCompletionUNet.from_pretrained(tmp_path)
    torch.testing.assert_close(complete(loaded, inputs), complete(model, inputs), rtol=0, atol=1e-4)


def test_variants_are_saved_beside_each_other(tmp_path):
    model = make_flow_completion()
    model.save_pretrained(tmp_path)
    model.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "diffusion_pytorch_model.fp16.safetensors").exists()
    half = FlowCompletionUNet.from_pretrained(tmp_path, variant="fp16", dtype=torch.float16)
    assert half.dtype == torch.float16
    assert torch.equal(half.conv_in.weight, model.conv_in.weight)
    assert FlowCompletionUNet.from_pretrained(tmp_path).dtype == torch.float32


def test_module_has_what_remote_code_needs():
    # a model folder names this module, in which diffusers looks for the class and for `ModelMixin`
    import mcdiff_pipeline.flow_completion_unet as module

    assert FlowCompletionUNetOfModule is FlowCompletionUNet
    assert module.ModelMixin is ModelMixin


def test_strokes_are_spread_over_larger_and_larger_windows():
    displacement = torch.zeros(1, 2, 8, 8)
    displacement[:, :, 1, 1] = torch.tensor([3.0, -2.0])
    displacement[:, :, 1, 6] = torch.tensor([5.0, 0.0])
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[:, :, 1, 1] = mask[:, :, 1, 6] = True
    spread = spread_strokes(displacement, mask, num_levels=3).unflatten(1, (3, 3))  # [B, level, (u, v, number), h, w]
    torch.testing.assert_close(spread[0, 0, :, 0, 0], torch.tensor([3.0, -2.0, 1.0]), rtol=0.02, atol=0)
    assert (spread[0, 0, :, 4:, :] == 0).all()  # two cells are too narrow to reach the lower half
    torch.testing.assert_close(spread[0, 2, :2, 7, 7], torch.tensor([4.0, -1.0]), rtol=0.02, atol=0)  # their mean


def test_without_spreading_the_input_is_as_in_the_paper():
    model = make_flow_completion(num_spread_levels=0)
    assert model.conv_in.in_channels == model.config.in_channels + 2 + 1


# Separate foreground


@pytest.mark.parametrize("logit, share", [(0.0, 0.5), (30.0, 1.0), (-30.0, 0.0)])
def test_dense_flow_is_mixed_of_two_flows_by_the_foreground(logit, share):
    model, inputs = make_flow_completion(separate_foreground=True, flow_scale=2.0), make_inputs()
    with torch.no_grad():
        model.conv_out.weight.zero_()
        model.conv_out.bias.copy_(torch.tensor([3.0, 0.0, 0.0, 5.0, logit]))
        output = model(**inputs)
        dense_flow, foreground = model(**inputs, return_dict=False)
    torch.testing.assert_close(output.foreground, torch.full((2, 1, 8, 12), share))
    expected = torch.tensor([3.0 * share, 5.0 * (1 - share)]) * 8  # 4 pixels a cell, 2 cells a unit
    torch.testing.assert_close(output.dense_flow, expected[None, :, None, None].expand(2, 2, 8, 12))
    assert torch.equal(dense_flow, output.dense_flow) and torch.equal(foreground, output.foreground)


def test_every_parameter_of_two_flows_has_gradients():
    found = gradients(make_flow_completion(separate_foreground=True).train(), make_inputs())
    assert [name for name, gradient in found.items() if not gradient.abs().max() > 0] == []


def test_two_flows_compile_without_graph_breaks(fresh_compiler):
    model, inputs = make_flow_completion(separate_foreground=True), make_inputs()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(complete(compiled, inputs), complete(model, inputs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_two_flows_are_mixed_in_half_precision(dtype):
    model, inputs = make_flow_completion(separate_foreground=True), make_inputs()
    expected = complete(model, inputs)
    inputs["sample"] = inputs["sample"].to(dtype)
    flow = complete(model.to(dtype), inputs)
    assert flow.dtype == dtype
    torch.testing.assert_close(flow.float(), expected, rtol=0.1, atol=0.05 * expected.abs().max().item())
