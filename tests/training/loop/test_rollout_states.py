"""The things of a clip as layers of a rollout state."""

import torch

from loop.rollout_states import layer_entries, layers_from_batch, motion_from_batch
from support.training_runs import sliding_square


def test_layers_carry_the_start_frame_to_the_next_one_wherever_it_is_seen():
    clip = sliding_square(0, num_frames=3)
    entries = layer_entries(clip.flow, clip.masks[:-1], 1, (8, 8))
    batch = {name: tensor[None] for name, tensor in entries.items()}
    assert batch["layer_shares"].sum(dim=1).eq(1).all()
    layers = layers_from_batch(batch).advance(motion_from_batch(batch, 0, (8, 8)).layers)
    first, *_, last = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float() / 255
    seen = layers.visible.sum(dim=1)[0] > 0.99
    left = torch.from_numpy((clip.masks[0] > 0) & (clip.masks[2] == 0))
    assert not seen[left].any() and seen[~left].all()
    assert (layers.carry(first[None])[0] - last).abs()[:, seen].max() < 0.02


def test_smallest_things_stay_in_layer_0():
    clip = sliding_square(0, num_frames=2)
    labels = clip.masks[:1].copy()
    for label in range(2, 7):
        labels[0, 24, 20 + label] = label  # one pixel each
    shares = layer_entries(clip.flow, labels, 1, (8, 8))["layer_shares"]
    assert torch.equal(shares[1], torch.from_numpy(labels[0] == 1).float())
    assert shares[1:].sum(dim=(1, 2)).tolist() == [144, 1, 1, 1]
