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
from mcdiff_pipeline.flow_completion_unet import (
    fit_regions,
    region_channels,
    shrink_small_motion,
    spread_strokes,
)
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


def make_region_inputs(batch_size=2, height=8, width=12):
    """The inputs of `make_inputs`, and two regions with one of the strokes each; the last of the three is padding."""
    inputs = make_inputs(batch_size, height, width)
    regions = torch.zeros(batch_size, 3, height, width)
    regions[:, 0, :4, :6] = 1
    regions[:, 1, 4:8, :6] = 1
    regions[:, :2, 3:5, :6] = 0.5  # both have a part of these cells
    region_mask = torch.zeros(batch_size, 3, 1, height, width, dtype=torch.bool)
    region_mask[:, 0, 0, 2, 3] = region_mask[:, 1, 0, 5, 2] = True
    region_sparse_flow = torch.where(region_mask, inputs["sparse_flow"][:, None], 0.0)
    return inputs | {"regions": regions, "region_sparse_flow": region_sparse_flow, "region_mask": region_mask}


REGIONS = {"reads_regions": True, "fits_regions": True}


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


# Motion that is small beside that of the strokes


def shrunk(flow, strokes, threshold=0.5, from_strokes=0.0):
    """Lengths of flow `[n]` along x after it shrinks beside strokes of these displacements along x."""
    cells = max(len(flow), len(strokes))
    field, displacement = torch.zeros(1, 2, 1, cells), torch.zeros(1, 2, 1, cells)
    field[0, 0, 0, : len(flow)] = torch.tensor(flow)
    displacement[0, 0, 0, : len(strokes)] = torch.tensor(strokes)
    mask = (torch.arange(cells) < len(strokes)).view(1, 1, 1, cells)
    kept = shrink_small_motion(field, displacement, mask, torch.full((1, 1, 1, cells), from_strokes), threshold)
    assert not kept[:, 1].any()
    return kept[0, 0, 0, : len(flow)].tolist()


def test_flow_below_the_threshold_becomes_still():
    small, half, large = shrunk([0.2, 2.0, 20.0], [4.0])
    assert small == pytest.approx(0.2 * 0.1**4 / (1 + 0.1**4)) and half == 1.0
    assert large == pytest.approx(20, rel=2e-4)
    assert shrunk([0.0, -2.0], [4.0]) == [0.0, -1.0]
    assert shrunk([2.0], [4.0], threshold=0.0) == [2.0]


def test_a_slow_stroke_lowers_the_threshold_and_holds_do_not_count():
    assert shrunk([2.0], [4.0, 0.0, 0.0]) == [1.0]
    assert shrunk([0.1], [8.0, 0.1], threshold=0.2) == pytest.approx([0.1], rel=0.05)  # the harmonic mean is 0.2
    assert shrunk([0.1], [0.0, 0.0]) == pytest.approx([0.1])  # nothing but holds
    assert shrunk([0.1], []) == pytest.approx([0.1])


def test_motion_of_strokes_does_not_shrink():
    assert shrunk([2.0, 0.2], [4.0], from_strokes=1.0) == pytest.approx([2.0, 0.2])
    assert shrunk([2.0], [4.0], from_strokes=0.5) == pytest.approx([1.5])


@pytest.mark.parametrize("settings", [{}, {"flow_scale": 2.0}, {"separate_foreground": True}])
def test_model_with_a_threshold_is_still_where_little_moves(settings, tmp_path):
    model, inputs = make_flow_completion(motion_threshold=0.5, **settings), make_inputs()
    with torch.no_grad():
        for parameter in model.conv_out.parameters():
            parameter.zero_()
        model.conv_out.bias[:1] = 0.01
    inputs["sparse_flow"] = inputs["mask"] * torch.tensor([4.0, 0.0]).view(1, 2, 1, 1)
    model.save_pretrained(tmp_path)
    loaded = FlowCompletionUNet.from_pretrained(tmp_path)
    assert loaded.config.motion_threshold == 0.5
    assert complete(loaded, inputs).abs().max() < 1e-4
    in_training = complete(loaded.train(), inputs)  # F learns from flow as it is
    assert in_training[:, 0].min() > 0
    inputs["sparse_flow"] = inputs["sparse_flow"] / 1000
    torch.testing.assert_close(complete(loaded.eval(), inputs), in_training, rtol=1e-3, atol=0)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_impossible_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match=r"`motion_threshold` is .* in \[0, 1\)"):
        make_flow_completion(motion_threshold=threshold)


# Regions


@pytest.fixture
def three_strokes():
    """The arguments of `region_channels` on a 1 x 6 grid: two regions with one stroke each, a stroke outside."""
    regions = torch.zeros(1, 2, 1, 6)
    regions[0, 0, 0] = torch.tensor([1.0, 0.75, 0.0, 0.0, 0.0, 0.0])
    regions[0, 1, 0] = torch.tensor([0.0, 0.25, 1.0, 0.5, 0.0, 0.0])
    mask = torch.tensor([True, False, True, False, False, True])[None, None, None]
    displacement = torch.tensor([[2.0, 0, 4, 0, 0, 6], [1.0, 0, 0, 0, 0, 0]])[None, :, None]
    region_mask = torch.zeros(1, 2, 1, 1, 6, dtype=torch.bool)
    region_mask[0, 0, 0, 0, 0] = region_mask[0, 1, 0, 0, 2] = True
    region_displacement = torch.where(region_mask, displacement[:, None], 0.0)
    return displacement, mask, regions, region_displacement, region_mask


def test_cells_of_a_region_get_the_mean_of_its_strokes_by_shares(three_strokes):
    u, v, stroked, inside, outline, given = region_channels(*three_strokes, num_levels=0)[0, :, 0]
    torch.testing.assert_close(u, torch.tensor([2.0, 0.75 * 2 + 0.25 * 4, 4, 2, 0, 0]))
    torch.testing.assert_close(v, torch.tensor([1.0, 0.75, 0, 0, 0, 0]))
    torch.testing.assert_close(stroked, torch.tensor([1.0, 1, 1, 0.5, 0, 0]))
    torch.testing.assert_close(inside, torch.tensor([1.0, 1, 1, 0.5, 0, 0]))
    torch.testing.assert_close(outline, torch.tensor([0.25, 0.75, 0.75, 0.5, 0.5, 0]))
    assert (given == 1).all()


def test_strokes_are_spread_only_inside_their_region(three_strokes):
    spread = region_channels(*three_strokes, num_levels=3)[0, 6:, 0].unflatten(0, (3, 3))
    u, _, number = spread[2]  # windows of eight cells
    torch.testing.assert_close(u[[0, 2, 4, 5]], torch.tensor([2.0, 4.0, 6.0, 6.0]), rtol=0.05, atol=0)
    assert (number > 0).all()


def test_hold_in_a_region_differs_from_no_stroke(three_strokes):
    displacement, mask, regions, region_displacement, region_mask = three_strokes
    held = region_channels(0 * displacement, mask, regions, 0 * region_displacement, region_mask, 0)
    region_mask = torch.zeros_like(region_mask)
    free = region_channels(0 * displacement, mask, regions, 0 * region_displacement, region_mask, 0)
    assert (held - free)[0, 2].amax() == 1 and (held - free)[0, [0, 1, 3, 4, 5]].abs().amax() == 0


def similarity_of_strokes(points, displacements, size=12):
    """The flow of `fit_regions` for one region that covers the grid, with strokes at cells (x, y): `[2, h, w]`."""
    mask = torch.zeros(1, 1, 1, size, size, dtype=torch.bool)
    displacement = torch.zeros(1, 1, 2, size, size)
    for (x, y), vector in zip(points, displacements):
        mask[0, 0, 0, y, x] = True
        displacement[0, 0, :, y, x] = torch.tensor(vector)
    fitted, fit = fit_regions(torch.ones(1, 1, size, size), displacement, mask)
    assert (fitted == (1 if points else 0)).all()
    return fit[0]


def test_region_with_one_stroke_is_translated():
    flow = similarity_of_strokes([(3, 4)], [(1.5, -2.0)])
    torch.testing.assert_close(flow, torch.tensor([1.5, -2.0])[:, None, None].expand(2, 12, 12))


def test_region_with_two_strokes_turns_and_grows():
    # both strokes on the x axis around (5, 5): a turn by 90 degrees maps (x, 0) to (0, x)
    flow = similarity_of_strokes([(0, 5), (10, 5)], [(5.0, -5.0), (-5.0, 5.0)])
    kept = 50 / (50 + 1)  # of rotation and growth, by the ridge
    torch.testing.assert_close(flow[:, 5, 5], torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(flow[:, 5, 10], kept * torch.tensor([-5.0, 5.0]))
    torch.testing.assert_close(flow[:, 10, 5], kept * torch.tensor([-5.0, -5.0]))
    grown = similarity_of_strokes([(0, 5), (10, 5)], [(-1.0, 0.0), (1.0, 0.0)])
    torch.testing.assert_close(grown[:, 8, 7], kept * torch.tensor([0.4, 0.6]))


def test_region_without_strokes_has_no_fit():
    assert (similarity_of_strokes([], []) == 0).all()


def test_each_region_has_its_own_fit(three_strokes):
    _, _, regions, region_displacement, region_mask = three_strokes
    fitted, fit = fit_regions(regions, region_displacement, region_mask)
    torch.testing.assert_close(fitted, regions.sum(dim=1, keepdim=True))
    torch.testing.assert_close(fit[0, 0, 0], torch.tensor([2.0, 0.75 * 2 + 0.25 * 4, 4, 2, 0, 0]))


@pytest.mark.parametrize("settings", [{"reads_regions": True}, REGIONS], ids=["channels", "fit"])
def test_regions_are_read(settings):
    model, inputs = make_flow_completion(**settings), make_region_inputs()
    changes = {
        "regions": inputs["regions"].flip(3),
        "region_sparse_flow": -inputs["region_sparse_flow"],
        "region_mask": torch.zeros_like(inputs["region_mask"]),
    }
    expected = complete(model, inputs)
    for name, value in changes.items():
        assert (complete(model, inputs | {name: value}) - expected).abs().max() > 1e-3, name


def test_regions_can_be_in_any_order_and_padded():
    model, inputs = make_flow_completion(**REGIONS), make_region_inputs()
    expected = complete(model, inputs)
    names = ("regions", "region_sparse_flow", "region_mask")
    for order in ([2, 1, 0], [0, 1]):
        torch.testing.assert_close(
            complete(model, inputs | {name: inputs[name][:, order] for name in names}), expected
        )


def test_regions_of_zeros_equal_no_regions():
    model, inputs = make_flow_completion(**REGIONS), make_region_inputs()
    inputs["regions"][0] = 0
    found = complete(model, inputs)
    torch.testing.assert_close(found[:1], complete(model, make_inputs())[:1])
    assert (found[1:] - complete(model, make_inputs())[1:]).abs().max() > 1e-3


def test_open_gate_gives_the_fit_inside_regions_and_changes_nothing_outside():
    model, inputs = make_flow_completion(**REGIONS, flow_scale=2.0), make_region_inputs()
    closed = complete(model, inputs)
    with torch.no_grad():
        model.conv_gate.bias.fill_(30)
    opened = complete(model, inputs)
    stroke = inputs["sparse_flow"][:, :, 2, 3]
    torch.testing.assert_close(opened[:, :, :3, :6], stroke[:, :, None, None].expand(-1, -1, 3, 6))
    torch.testing.assert_close(opened[:, :, :, 6:], closed[:, :, :, 6:])


def test_every_parameter_of_a_model_with_regions_has_gradients():
    found = gradients(make_flow_completion(**REGIONS).train(), make_region_inputs())
    assert [name for name, gradient in found.items() if not gradient.abs().max() > 0] == []


def test_gradients_reach_the_regions_and_their_strokes():
    model, inputs = make_flow_completion(**REGIONS), make_region_inputs()
    for name in ("regions", "region_sparse_flow"):
        inputs[name].requires_grad_()
    model(**inputs).dense_flow.square().mean().backward()
    for name in ("regions", "region_sparse_flow"):
        assert inputs[name].grad.isfinite().all() and inputs[name].grad.abs().max() > 0, name


def test_regions_compile_without_graph_breaks(fresh_compiler):
    model, inputs = make_flow_completion(**REGIONS), make_region_inputs()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(complete(compiled, inputs), complete(model, inputs))
    assert torch.equal(complete(compiled, make_inputs()), complete(model, make_inputs()))


def test_fit_is_computed_in_float32_under_autocast():
    model, inputs = make_flow_completion(**REGIONS), make_region_inputs()
    inputs["region_sparse_flow"] = inputs["region_sparse_flow"] + 1 / 3
    arguments = [inputs[name] for name in ("regions", "region_sparse_flow", "region_mask")]
    expected = fit_regions(*arguments)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fit_regions(*arguments)[1], expected)
        assert complete(model, inputs).dtype == torch.bfloat16
    assert complete(model.to(torch.bfloat16), inputs | {"sample": inputs["sample"].bfloat16()}).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "change, message",
    [
        ({"region_mask": None}, r"None\], but .* give all three"),
        ({"regions": torch.zeros(2, 3, 4, 6)}, r"\(2, 3, 4, 6\).*, but \[\(2, 3, 8, 12\), .*on the grid of `sample`"),
        ({"regions": torch.zeros(2, 1, 8, 12)}, r"but \[\(2, 1, 8, 12\), \(2, 1, 2, 8, 12\), \(2, 1, 1, 8, 12\)\]"),
        ({"regions": torch.zeros(2, 8, 12)}, r"but \[\(2, 'num_regions', 8, 12\)"),
    ],
)
def test_regions_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        complete(make_flow_completion(**REGIONS), make_region_inputs() | change)


def test_model_without_region_inputs_refuses_regions():
    with pytest.raises(ValueError, match="does not read them .*leave them out, or widen the model"):
        complete(make_flow_completion(), make_region_inputs())


def test_fit_without_regions_is_refused():
    with pytest.raises(ValueError, match="`fits_regions` is True, but `reads_regions` is False"):
        make_flow_completion(fits_regions=True)


def test_settings_of_regions_are_saved_and_loaded(tmp_path):
    model, inputs = make_flow_completion(**REGIONS, sample_size=8), make_region_inputs()
    model.save_pretrained(tmp_path)
    loaded = FlowCompletionUNet.from_pretrained(tmp_path)
    assert loaded.config.sample_size == 8 and loaded.config.reads_regions and loaded.config.fits_regions
    torch.testing.assert_close(complete(loaded, inputs), complete(model, inputs), rtol=0, atol=1e-4)


# Widening


@pytest.fixture
def older_model(tmp_path):
    """A model that was loaded from a config that does not mention regions."""
    make_flow_completion(separate_foreground=True).save_pretrained(tmp_path / "older")
    path = tmp_path / "older/config.json"
    config = json.loads(path.read_text())
    for name in ("sample_size", "reads_regions", "fits_regions"):
        del config[name]
    path.write_text(json.dumps(config))
    model = FlowCompletionUNet.from_pretrained(tmp_path / "older")
    assert "reads_regions" in model.config["_use_default_values"]  # for which `from_config` ignores a new value
    return model


def test_older_config_loads_without_regions(older_model):
    assert older_model.config.sample_size is None
    assert not older_model.config.reads_regions and not older_model.config.fits_regions
    expected = complete(make_flow_completion(separate_foreground=True), make_inputs())
    torch.testing.assert_close(complete(older_model, make_inputs()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("fits_regions", [False, True])
def test_widened_model_gives_the_same_flow_and_has_the_new_inputs(older_model, fits_regions):
    widened = FlowCompletionUNet.widened(older_model, reads_regions=True, fits_regions=fits_regions)
    assert widened.config.reads_regions and widened.config.fits_regions == fits_regions
    new_channels = 6 + 3 * 5 + (2 if fits_regions else 0)
    assert widened.conv_in.in_channels == older_model.conv_in.in_channels + new_channels
    expected = complete(older_model, make_inputs())
    torch.testing.assert_close(complete(widened, make_inputs()), expected, rtol=0, atol=1e-5)
    difference = (complete(widened, make_region_inputs()) - expected).abs().max()
    strokes = make_inputs()["sparse_flow"].abs().max()
    assert difference <= (0.05 * (expected.abs().max() + strokes) if fits_regions else 1e-5)


def test_widened_model_reads_regions_after_one_training_step(older_model):
    widened = FlowCompletionUNet.widened(older_model, reads_regions=True, fits_regions=False).train()
    optimizer = torch.optim.SGD(widened.parameters(), lr=0.1)
    widened(**make_region_inputs()).dense_flow.square().mean().backward()
    optimizer.step()
    changed = complete(widened, make_region_inputs()) - complete(widened, make_inputs())
    assert changed.abs().max() > 1e-3


def test_model_can_be_widened_in_two_steps(older_model):
    reading = FlowCompletionUNet.widened(older_model, reads_regions=True, fits_regions=False)
    with torch.no_grad():
        reading.conv_in.weight[:, -1] = 1  # as if trained
    fitting = FlowCompletionUNet.widened(reading, fits_regions=True)
    inputs = make_region_inputs() | {"region_sparse_flow": torch.zeros(2, 3, 2, 8, 12)}
    with torch.no_grad():
        fitting.conv_gate.bias.fill_(-30)
    torch.testing.assert_close(complete(fitting, inputs), complete(reading, inputs), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="`fits_regions` is False, but the model was made with True"):
        FlowCompletionUNet.widened(fitting, fits_regions=False)


def test_widened_model_keeps_dtype_and_mode_and_is_saved(older_model, tmp_path):
    widened = FlowCompletionUNet.widened(older_model.to(torch.bfloat16), True, True)
    assert widened.dtype == torch.bfloat16 and not widened.training
    assert FlowCompletionUNet.widened(older_model.train(), True, True).training
    widened.save_pretrained(tmp_path / "widened")
    loaded = FlowCompletionUNet.from_pretrained(tmp_path / "widened")
    assert loaded.conv_in.in_channels == widened.conv_in.in_channels
