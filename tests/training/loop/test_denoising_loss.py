"""What happens to the inputs of the denoising loss."""

import argparse

import pytest
import torch
from diffusers import DDIMScheduler

from loop.denoising_loss import denoising_loss, drop_conditions
from mcdiff_pipeline.rollout import Motion, RolloutState


def dropped(**rates: float) -> tuple[RolloutState, Motion]:
    args = argparse.Namespace(**({"flow_dropout": 0.0, "image_dropout": 0.0} | rates))
    ones = torch.ones(1000, 2, 1, 1)
    state = RolloutState(frame=0, latents=ones, start_latents=ones, accumulated_flow=ones)
    motion = Motion(dense_flow=ones, sparse_flow=ones, mask=torch.ones(1000, 1, 1, 1, dtype=torch.bool))
    torch.manual_seed(0)
    return drop_conditions(state, motion, args)


def test_motion_and_frames_are_each_dropped_together_in_a_share_of_the_samples():
    state, motion = dropped(flow_dropout=0.3, image_dropout=0.1)
    for tensors, rate in (
        ((motion.dense_flow, motion.sparse_flow, motion.mask), 0.3),
        ((state.latents, state.start_latents), 0.1),
    ):
        gone = [(tensor.float() == 0).all(dim=1).flatten() for tensor in tensors]
        assert all(torch.equal(one, gone[0]) for one in gone)
        assert gone[0].float().mean() == pytest.approx(rate, abs=0.05)
    assert motion.mask.dtype == torch.bool and (state.accumulated_flow == 1).all()


def test_nothing_is_dropped_by_default():
    state, motion = dropped()
    for tensor in (state.latents, state.start_latents, motion.dense_flow, motion.sparse_flow, motion.mask):
        assert (tensor == 1).all()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("snr_gamma", [None, 5.0])
def test_model_that_predicts_what_the_scheduler_says_has_no_loss(prediction_type, snr_gamma):
    scheduler = DDIMScheduler(prediction_type=prediction_type)
    clean = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))

    def model(model_input, timesteps, encoder_hidden_states, return_dict):
        signal = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noise = (model_input[:, :2] - signal.sqrt() * clean) / (1 - signal).sqrt()
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * clean
        return ({"epsilon": noise, "v_prediction": velocity, "sample": clean}[prediction_type],)

    args = argparse.Namespace(noise_offset=0.0, uncovered_weight=0.0, snr_gamma=snr_gamma)
    estimates = []
    loss = denoising_loss(
        model,
        scheduler,
        torch.zeros(4, 1, 3, 3),
        clean,
        args,
        further_loss=lambda estimate, timesteps: estimates.append(estimate) or torch.zeros(()),
    )
    assert loss < 1e-4
    torch.testing.assert_close(estimates[0], clean, rtol=0, atol=0.05)
