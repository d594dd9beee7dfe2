# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Models whose UNet attends to text, as in Stable Diffusion."""

import json

import pytest
import torch

from mcdiff_pipeline import MCDiffPipeline
from support.pipeline_runs import STROKES, latents_of, seeded
from support.text_models import make_cross_attention_unet, make_text_encoder, make_tokenizer
from support.tiny_models import FULL_CONDITIONING, make_pipeline, make_unet


def make_text_pipeline(**overrides) -> MCDiffPipeline:
    components = {
        "unet": make_cross_attention_unet(4 + 11),
        "text_encoder": make_text_encoder(),
        "tokenizer": make_tokenizer(),
        "default_num_frames": 2,
    }
    return make_pipeline(FULL_CONDITIONING, **(components | overrides))


@pytest.fixture
def pipe() -> MCDiffPipeline:
    return make_text_pipeline()


def test_prompt_changes_the_video(pipe, image):
    dog, cat = latents_of(pipe, image, prompt="a dog"), latents_of(pipe, image, prompt="a cat")
    assert torch.equal(dog, latents_of(pipe, image, prompt="a dog"))
    assert not torch.equal(dog, cat)


def test_no_prompt_is_the_empty_prompt(pipe, image):
    assert torch.equal(latents_of(pipe, image), latents_of(pipe, image, prompt=""))


def test_prompt_is_for_all_images_or_for_each(pipe, image):
    images = [image, image]
    noise = torch.randn(1, 1, 4, 8, 8, generator=seeded()).expand(2, -1, -1, -1, -1)
    same = latents_of(pipe, images, latents=noise, prompt="a dog")
    each = latents_of(pipe, images, latents=noise, prompt=["a dog", "a cat"])
    torch.testing.assert_close(same[0], same[1])
    torch.testing.assert_close(each[0], same[0], rtol=0, atol=1e-5)
    assert not torch.allclose(each[1], same[1], atol=1e-5)
    assert torch.equal(latents_of(pipe, images, latents=noise, prompt=["a dog"]), same)


def test_both_branches_of_guidance_get_the_text(pipe, image):
    # one DDIM step is affine in the prediction
    def next_frame(scale, **arguments):
        arguments = {"guidance_scale": scale, "num_inference_steps": 1, "prompt": "a dog"} | arguments
        return latents_of(pipe, image, **arguments)[:, 1]

    still, moving = next_frame(1.0, dense_flow=torch.zeros(1, 1, 2, 8, 8)), next_frame(1.0)
    torch.testing.assert_close(next_frame(3.0), still + 3 * (moving - still), rtol=0, atol=1e-4)


def test_callback_gets_the_encoded_text(pipe, image):
    seen = []
    pipe(
        image,
        STROKES,
        prompt="a dog",
        callback_on_step_end=lambda *arguments: seen.append(arguments[3]["prompt_embeds"]),
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    )
    assert len(seen) == 2 and torch.equal(seen[0], pipe.encode_prompt("a dog", 1))


def test_stream_gets_the_text(pipe, image):
    found = pipe.stream(
        image,
        STROKES,
        num_frames=2,
        prompt="a dog",
        generator=seeded(),
        output_type="latent",
    )
    assert torch.equal(torch.stack(list(found)), latents_of(pipe, image, prompt="a dog")[0])


def test_state_keeps_the_text(pipe, image):
    state = pipe.start(image, prompt="a dog", generator=seeded())
    following = pipe.step(state, STROKES)
    assert torch.equal(following.latents, latents_of(pipe, image, prompt="a dog")[:, 1])
    assert not torch.equal(following.latents, latents_of(pipe, image, prompt="a cat")[:, 1])
    with pytest.raises(ValueError, match="`prompt` is given together with a state, .* give it to `start`"):
        pipe.stream(state, STROKES, prompt="a cat")


@pytest.mark.parametrize("prompt", [None, "a dog", ["a dog", "a cat"]])
def test_text_can_be_encoded_without_the_other_components(pipe, image, prompt):
    only_text = MCDiffPipeline(
        vae=None,
        flow_completion=None,
        unet=None,
        scheduler=None,
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
    )
    with torch.no_grad():
        prompt_embeds = only_text.encode_prompt(prompt, 2)
    assert prompt_embeds.shape == (2, 77, 16)
    without_text = make_text_pipeline(text_encoder=None, tokenizer=None)
    expected = latents_of(pipe, [image] * 2, prompt=prompt)
    assert torch.equal(latents_of(without_text, [image] * 2, prompt_embeds=prompt_embeds), expected)


def test_encoded_text_has_the_dtype_of_the_unet(pipe, image):
    prompt_embeds = pipe.encode_prompt("a dog", 1)
    pipe.unet.to(torch.bfloat16)
    assert pipe.encode_prompt(None, 1, prompt_embeds).dtype == torch.bfloat16
    assert latents_of(pipe, image, prompt_embeds=prompt_embeds).isfinite().all()
    assert latents_of(pipe, image, prompt="a dog").isfinite().all()


def test_model_without_text_encodes_nothing(tiny_pipeline):
    assert tiny_pipeline.encode_prompt(None, 1) is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompt": "a", "prompt_embeds": torch.zeros(1, 77, 16)}, "`prompt` and `prompt_embeds` say the same thing"),
        ({"prompt": ["a", "b"]}, "`prompt` is a list of 2, but there are 1 images"),
        ({"prompt": []}, "`prompt` is a list of 0, but there are 1 images"),
        ({"prompt_embeds": torch.zeros(2, 77, 16)}, r"`prompt_embeds` has the shape \(2, 77, 16\).* \(1, tokens"),
        ({"prompt_embeds": torch.zeros(77, 16)}, r"`prompt_embeds` has the shape \(77, 16\)"),
    ],
)
def test_text_that_does_not_fit_is_refused(pipe, image, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(image, STROKES, **arguments)
    with pytest.raises(ValueError, match=message):
        pipe.stream(image, STROKES, **arguments)  # at once


@pytest.mark.parametrize(
    "blocks",
    [
        {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")},
        {"mid_block_type": "UNetMidBlock2DCrossAttn"},
        {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")},
    ],
    ids=["down", "mid", "up"],
)
def test_unet_that_attends_to_text_anywhere_needs_text(image, blocks):
    pipe = make_pipeline(unet=make_unet(4 + 11, cross_attention_dim=16, **blocks))
    with pytest.raises(ValueError, match="no text encoder: load the pipeline with one, or give `prompt_embeds`"):
        pipe(image, STROKES)
    assert latents_of(pipe, image, prompt_embeds=torch.zeros(1, 77, 16)).isfinite().all()


def test_prompt_is_refused_if_the_unet_does_not_attend_to_text(image):
    pipe = make_pipeline(text_encoder=make_text_encoder(), tokenizer=make_tokenizer())
    with pytest.raises(ValueError, match="`prompt` is 'a dog', but this model takes no text"):
        pipe(image, STROKES, prompt="a dog")


def test_text_components_are_saved_and_loaded(pipe, image, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = MCDiffPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    expected = latents_of(pipe, image, prompt="a dog")
    torch.testing.assert_close(latents_of(loaded, image, prompt="a dog"), expected, rtol=0, atol=1e-5)


def test_text_components_are_optional_and_saved_as_null(pipe, image, tmp_path):
    without_text = make_text_pipeline(text_encoder=None, tokenizer=None)
    without_text.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["text_encoder"] == index["tokenizer"] == [None, None]
    loaded = MCDiffPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.text_encoder is None and loaded.tokenizer is None
    with torch.no_grad():
        prompt_embeds = pipe.encode_prompt("a dog", 1)
    expected = latents_of(without_text, image, prompt_embeds=prompt_embeds)
    found = latents_of(loaded, image, prompt_embeds=prompt_embeds)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert torch.equal(expected, latents_of(pipe, image, prompt="a dog"))


def test_offloaded_text_encoder_gives_the_same_video(pipe, image):
    expected = latents_of(pipe, image, prompt="a dog")
    pipe.enable_model_cpu_offload(device="cpu")
    assert torch.equal(latents_of(pipe, image, prompt="a dog"), expected)


def test_state_of_a_model_without_text_is_refused(pipe, image):
    state = make_pipeline(FULL_CONDITIONING).start(image)
    with pytest.raises(ValueError, match="holds no encoded text"):
        pipe.step(state, STROKES)


def test_text_encoder_without_cross_attention_is_not_used(image):
    pipe = make_text_pipeline(unet=make_unet(4 + 11))
    state = pipe.start(image, generator=seeded())
    assert state.prompt_embeds is None
    assert torch.equal(pipe.step(state, STROKES).latents, latents_of(pipe, image, generator=seeded())[:, 1])
