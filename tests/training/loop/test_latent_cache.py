"""Latents of clips, encoded once."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import cache_latents
import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC

from loop import latent_cache
from loop.autoencoder import load_vae
from loop.feature_cache import load_image_encoder
from mcdiff_pipeline.flow import accumulate_flow, splat_image
from mcdiff_pipeline.semantic_features import encode_features
from support.mutations import damage_member
from support.tiny_models import make_image_encoder, make_pipeline, make_vae
from support.training_runs import sliding_square


def test_cache_encodes_each_shard_once_per_encoder(data, tmp_path):
    shutil.copytree(data / "clips", tmp_path / "clips")
    shutil.move(tmp_path / "clips/train-00001.tar", tmp_path / "later.tar")
    vae = AutoencoderDC.from_pretrained(data / "vae")
    first = latent_cache.open_latent_clips([tmp_path / "clips"], "train", vae, tmp_path / "cache")
    assert len(first) == 2 + 3
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*/*/*.npy")}

    shutil.move(tmp_path / "later.tar", tmp_path / "clips/train-00001.tar")
    with torch.no_grad():
        next(vae.decoder.parameters()).add_(1)
    assert len(latent_cache.open_latent_clips([tmp_path / "clips"], "train", vae, tmp_path / "cache")) == 10
    assert len(list(tmp_path.glob("cache/*/*/*.npy"))) == 2 * len(written)
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())

    with torch.no_grad():
        next(vae.encoder.parameters()).add_(1)
    latent_cache.open_latent_clips([tmp_path / "clips"], "train", vae, tmp_path / "cache")
    assert len(list(tmp_path.glob("cache/*"))) == 2


def test_script_writes_the_cache_that_trainings_read(data, tmp_path, monkeypatch, capsys):
    command_line = ["--train_data_dir", data / "clips", "--pretrained_vae", data / "vae", "--cache_dir", tmp_path]
    assert cache_latents.main([str(argument) for argument in command_line]) == 0
    assert capsys.readouterr().out == "train: 10 pairs of frames.\nvalidation: 5 pairs of frames.\n"
    monkeypatch.setattr(latent_cache, "encode_shard", lambda *_: pytest.fail("encoded again"))
    vae = AutoencoderDC.from_pretrained(data / "vae")
    assert len(latent_cache.open_latent_clips([data / "clips"], "validation", vae, tmp_path)) == 5


def test_two_trainings_at_the_same_time_encode_each_shard_once(data, tmp_path, monkeypatch):
    written = []
    encode_shard = latent_cache.encode_shard
    monkeypatch.setattr(latent_cache, "encode_shard", lambda *args: (written.append(args[1]), encode_shard(*args)))
    vae = AutoencoderDC.from_pretrained(data / "vae")

    def open_clips(_):
        return len(latent_cache.open_latent_clips([data / "clips"], "train", vae, tmp_path))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(open_clips, range(2))) == [10, 10]
    assert len(written) == len(set(written)) == 2


def test_damaged_shard_is_skipped_counted_and_named(data, tmp_path, capsys):
    shutil.copytree(data / "clips", tmp_path / "clips")
    damaged = tmp_path / "clips/train-00001.tar"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    vae = AutoencoderDC.from_pretrained(data / "vae")
    clips = latent_cache.open_latent_clips([tmp_path / "clips"], "train", vae, tmp_path / "cache")
    assert len(clips) == 2 + 3
    printed = capsys.readouterr().err
    assert "Skipped 1 of 2 train shards:" in printed and f"The shard {damaged} cannot be read" in printed
    (tmp_path / "clips/train-00000.tar").unlink()
    with pytest.raises(ValueError, match="None of the train shards in .* can be read"):
        latent_cache.open_latent_clips([tmp_path / "clips"], "train", vae, tmp_path / "cache")


def test_damaged_clip_is_skipped_counted_and_named(data, tmp_path, capsys):
    shutil.copytree(data / "clips", tmp_path / "clips")
    damage_member(tmp_path / "clips/train-00000.tar", "clip_0.mask_01.png")
    damage_member(tmp_path / "clips/train-00001.tar", "clip_3.flow_00.png")
    vae = AutoencoderDC.from_pretrained(data / "vae")
    encoder = make_image_encoder()
    clips = latent_cache.open_latent_clips(
        [tmp_path / "clips"], "train", vae, tmp_path / "cache", image_encoder=encoder
    )
    assert {(part, clip) for part, clip, _ in clips.pairs.tolist()} == {(0, 1), (1, 0)}
    printed = capsys.readouterr().err
    for number in range(2):
        assert f"Skipped 1 of 2 clips in {tmp_path}/clips/train-0000{number}.tar:\n  Clip clip_{3 * number}" in printed
    whole = latent_cache.open_latent_clips([data / "clips"], "train", vae, tmp_path / "cache", image_encoder=encoder)
    for number, pair in enumerate(clips.pairs.tolist()):
        expected = whole[whole.pairs.tolist().index(pair)]
        assert all(np.array_equal(value, expected[name]) for name, value in clips[number].items())


def test_cached_latents_equal_those_of_the_pipeline_with_scale_and_shift(data, tmp_path):
    pipe = make_pipeline(vae=make_vae(shift_factor=0.3, scaling_factor=0.5))
    clips = latent_cache.open_latent_clips([str(data / "clips")], "train", pipe.vae, str(tmp_path))
    frames = torch.from_numpy(clips.frames(0)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = pipe.encode_image(frames)
    cached = torch.from_numpy(np.stack([clips[0]["latent"], clips[0]["next_latent"]]))
    torch.testing.assert_close(cached, expected, rtol=1e-2, atol=1e-3)


def test_cached_pair_equals_the_clip(data):
    vae = AutoencoderDC.from_pretrained(data / "vae")
    clips = latent_cache.open_latent_clips([data / "clips"], "train", vae, data / "cache")
    clip, pair = sliding_square(1, num_frames=4), clips[2 + 1]  # the second pair of the second clip
    np.testing.assert_array_equal(pair["flow"], clip.flow[1])
    np.testing.assert_array_equal(pair["mask"], clip.masks[1])
    np.testing.assert_array_equal(pair["keypoints"], clip.keypoints[1])
    np.testing.assert_array_equal(clips.frames(2 + 1), clip.frames[1:3])
    images = torch.from_numpy(clip.frames[1:3]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = vae.encode(images).latent * vae.config.scaling_factor
    cached = torch.from_numpy(np.stack([pair["latent"], pair["next_latent"]]))
    assert (cached - latents).norm() < 0.02 * latents.norm()


def test_start_of_a_clip_splatted_along_its_flow_resembles_the_next_frame(data):
    vae = load_vae(str(data / "vae"), "cpu")
    clips = latent_cache.open_latent_clips([str(data / "clips")], "train", vae, str(data / "cache"))
    item = next(index for index in range(len(clips)) if clips.pairs[index][2] == 1)
    pair, start = clips[item], clips.start(item, image=True)
    frames = clips.frames(item - 1, 2)
    np.testing.assert_array_equal(start["start_picture"], frames[0].transpose(2, 0, 1).astype(np.float32) / 255)
    image = torch.from_numpy(start["start_picture"])[None]
    flow = accumulate_flow(*(torch.from_numpy(flow)[None] for flow in (start["start_flow"], pair["flow"])))
    splatted = splat_image(image, flow, 4)[0].permute(1, 2, 0).numpy()
    assert np.abs(splatted - frames[2] / 255).mean() < 0.5 * np.abs(frames[0] / 255 - frames[2] / 255).mean()


def test_steps_never_cross_from_one_clip_into_the_next(data):
    vae = AutoencoderDC.from_pretrained(data / "vae")
    clips = latent_cache.open_latent_clips([data / "clips"], "train", vae, data / "cache")
    # Four clips with 3, 4, 3 and 4 frames.
    assert clips.with_steps(1).tolist() == list(range(10))
    assert clips.with_steps(2).tolist() == [0, 2, 3, 5, 7, 8]
    assert clips.with_steps(3).tolist() == [2, 7]


def test_features_are_encoded_once_per_encoder_and_leave_latents_alone(data, image_encoder, tmp_path, capsys):
    command_line = ["--train_data_dir", data / "clips", "--pretrained_vae", data / "vae", "--cache_dir", tmp_path]
    command_line = [str(argument) for argument in command_line]
    assert cache_latents.main(command_line) == 0
    latents = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("latents.npy")}
    for _ in range(2):
        assert cache_latents.main([*command_line, "--image_encoder", str(image_encoder)]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("latents.npy")} == latents
    assert len(list(tmp_path.glob("features-*"))) == 1 and len(list(tmp_path.rglob("features.npy"))) == 3

    encoder = load_image_encoder(str(image_encoder), "cpu")
    with torch.no_grad():
        encoder.layernorm.bias.add_(1)
    vae = AutoencoderDC.from_pretrained(data / "vae")
    latent_cache.open_latent_clips([data / "clips"], "train", vae, tmp_path, image_encoder=encoder)
    assert len(list(tmp_path.glob("features-*"))) == 2


def test_cached_features_are_those_of_the_first_frame_of_each_pair(data, image_encoder):
    vae, encoder = AutoencoderDC.from_pretrained(data / "vae"), load_image_encoder(str(image_encoder), "cpu")
    clips = latent_cache.open_latent_clips([data / "clips"], "train", vae, data / "cache", image_encoder=encoder)
    for index in (0, 1, 4, 9):
        image = torch.from_numpy(clips.frames(index)[:1]).permute(0, 3, 1, 2) / 255
        expected = encode_features(encoder, image)[0].numpy()
        found = clips[index]["features"]
        assert found.dtype == np.float32 and found.shape == expected.shape
        assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).mean()
    assert "features" not in latent_cache.open_latent_clips([data / "clips"], "train", vae, data / "cache")[0]


def test_folder_without_an_image_encoder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} has no config.json, so it is no image encoder"):
        load_image_encoder(str(tmp_path), "cpu")
