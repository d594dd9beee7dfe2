"""Clips of moving objects: exact flow, visibility, splits, determinism."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from render_objects import load_assets, main, render_clip

from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.flow import backward_warp
from rendering.photographs import SPLITS, split_of


def smooth_image(seed: int, width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return (
        Image.fromarray(noise)
        .filter(ImageFilter.GaussianBlur(4))
        .point(lambda value: min(255, max(0, 5 * value - 512)))
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two synthetic photographs and one cut-out for each split."""
    root = tmp_path_factory.mktemp("sources")
    for number, split in enumerate(SPLITS):
        (root / "photographs" / split).mkdir(parents=True)
        for i in range(2):
            smooth_image(10 * number + i, 300, 220).save(root / "photographs" / split / f"{i}.jpg", quality=95)
        name = next(f"animals/{i}.png" for i in range(1000) if split_of(f"animals/{i}.png") == split)
        cutout = smooth_image(100 + number, 90, 60)
        alpha = Image.new("L", cutout.size)
        ImageDraw.Draw(alpha).ellipse((2, 2, 88, 58), fill=255)
        cutout.putalpha(alpha)
        (root / "cutouts" / name).parent.mkdir(parents=True, exist_ok=True)
        cutout.save(root / "cutouts" / name)
    return {"photographs_dir": root / "photographs", "cutouts_dir": root / "cutouts"}


@pytest.fixture(scope="module")
def clips(folders):
    assets = load_assets("train", **folders)
    return [render_clip((7, i), "train", assets, resolution=64, num_frames=4) for i in range(16)]


def test_seed_and_split_determine_a_clip(folders, clips):
    assets = load_assets("train", **folders)
    again = render_clip((7, 0), "train", assets, resolution=64, num_frames=4)
    assert again.key == clips[0].key and again.meta == clips[0].meta
    for name in ("frames", "flow", "occlusion", "masks", "keypoints"):
        np.testing.assert_array_equal(getattr(again, name), getattr(clips[0], name))
    assert not np.array_equal(clips[0].frames, clips[1].frames)
    assert not np.array_equal(render_clip((7, 0), "test", assets, 64, 4).frames, clips[0].frames)


@pytest.mark.parametrize("resolution", [64, (48, 80), (81, 47)])
def test_next_frame_warped_along_the_flow_has_the_same_colors(folders, clips, resolution):
    if resolution != 64:
        assets = load_assets("train", **folders)
        clips = [render_clip((7, i), "train", assets, resolution, num_frames=4) for i in range(16)]
    warped_error, unwarped_error = [], []
    for clip in clips:
        following = torch.from_numpy(clip.frames[1:].copy()).permute(0, 3, 1, 2).float()
        warped = backward_warp(following, torch.from_numpy(clip.flow)).permute(0, 2, 3, 1).numpy()
        moving = ~clip.occlusion & (np.hypot(clip.flow[:, 0], clip.flow[:, 1]) > 1)
        warped_error.append(np.abs(warped - clip.frames[:-1])[moving])
        unwarped_error.append(np.abs(clip.frames[1:].astype(float) - clip.frames[:-1])[moving])
    assert np.concatenate(warped_error).mean() < 0.3 * np.concatenate(unwarped_error).mean()


def test_occluded_pixels_have_other_colors_in_the_next_frame(clips):
    errors = {True: [], False: []}
    for clip in clips:
        following = torch.from_numpy(clip.frames[1:].copy()).permute(0, 3, 1, 2).float()
        warped = backward_warp(following, torch.from_numpy(clip.flow)).permute(0, 2, 3, 1).numpy()
        for occluded in errors:
            errors[occluded].append(np.abs(warped - clip.frames[:-1])[clip.occlusion == occluded])
    assert np.concatenate(errors[True]).mean() > 3 * np.concatenate(errors[False]).mean()


def test_keypoints_move_with_the_flow(clips):
    compared = 0
    for clip in clips:
        for t in range(len(clip.flow)):
            now, following = clip.keypoints[t], clip.keypoints[t + 1]
            for owner, point in np.argwhere((now[..., 2] == 2) & (following[..., 2] > 0)):
                x, y = now[owner, point, :2]
                assert clip.masks[t, int(y), int(x)] == owner + 1
                displacement = following[owner, point, :2] - now[owner, point, :2]
                # the flow belongs to the center of the pixel, up to 0.7 pixels away
                np.testing.assert_allclose(clip.flow[t, :, int(y), int(x)], displacement, atol=0.35)
                compared += 1
    assert compared > 200


def test_clips_have_objects_hidden_keypoints_and_backgrounds_at_rest(clips):
    areas = [(clip.masks > 0).mean() for clip in clips]
    assert 0.03 < np.mean(areas) < 0.5 and max(clip.masks.max() for clip in clips) >= 2
    visibility = np.concatenate([clip.keypoints[..., 2].ravel() for clip in clips])
    assert set(visibility) == {0, 1, 2} and (visibility == 2).mean() > 0.5
    still = [(clip.flow[:, :, clip.masks[0] == 0] == 0).mean() > 0.5 for clip in clips]
    assert 0.2 < np.mean(still) < 0.9
    fastest = [np.hypot(clip.flow[:, 0], clip.flow[:, 1]).max() for clip in clips]
    assert min(fastest) > 0.1 and max(fastest) < 0.3 * 64


@pytest.mark.parametrize("resolution, num_frames, time_gap", [(32, 1, None), (96, 8, 1.0), ((40, 72), 3, 0.01)])
def test_clips_have_the_requested_size_and_length(folders, resolution, num_frames, time_gap):
    clip = render_clip(3, "test", load_assets("test", **folders), resolution, num_frames, time_gap)
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    assert clip.frames.shape == (num_frames, height, width, 3)
    assert clip.flow.shape == (num_frames - 1, 2, height, width)
    assert np.isfinite(clip.flow).all()


def test_objects_and_cameras_move_in_proportion_to_the_time_gap(folders):
    assets = load_assets("train", **folders)
    moved = 0
    for seed in range(12):
        lengths = [
            np.linalg.norm(render_clip(seed, "train", assets, 64, num_frames=2, time_gap=gap).flow)
            for gap in (0.02, 0.024)
        ]
        if lengths[0] > 1:
            moved += 1
            assert lengths[1] / lengths[0] == pytest.approx(1.2, abs=0.06)
    assert moved > 8


def test_without_a_time_gap_frames_are_a_twelfth_of_a_second_apart(folders, clips):
    clip = render_clip((7, 0), "train", load_assets("train", **folders), 64, 4, time_gap=1 / 12)
    np.testing.assert_array_equal(clip.frames, clips[0].frames)
    assert clip.meta == clips[0].meta
    assert clip.meta["seconds_per_frame"] == 1 / 12


@pytest.mark.parametrize("wrong", [{"resolution": 4}, {"resolution": (64, 64, 3)}, {"time_gap": -1.0}])
def test_impossible_sizes_and_gaps_are_refused(folders, wrong):
    with pytest.raises(ValueError, match=r"not possible; give"):
        render_clip(0, "train", load_assets("train", **folders), **wrong)


def test_splits_share_no_image(folders):
    assets = {split: load_assets(split, **folders) for split in SPLITS}
    for kind in ("photographs", "cutouts"):
        contents = [image.tobytes() for split in SPLITS for image in getattr(assets[split], kind)]
        assert len(contents) == len(set(contents)) == (6 if kind == "photographs" else 3)


def test_missing_sources_are_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="training"):
        load_assets("training", **folders)
    with pytest.raises(FileNotFoundError, match="no photographs"):
        load_assets("train", photographs_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="no cut-outs"):
        load_assets("train", photographs_dir=folders["photographs_dir"], cutouts_dir=tmp_path)


def test_script_writes_shards_without_cutouts(folders, tmp_path):
    main(
        [
            *("--output_dir", str(tmp_path), "--split", "validation", "--num_clips", "3", "--clips_per_shard", "2"),
            *("--seed", "5", "--resolution", "32", "48", "--num_frames", "2"),
            *("--time_gap", "0.1"),
            *("--photographs_dir", str(folders["photographs_dir"])),
        ]
    )
    dataset = ClipDataset(tmp_path, "validation")
    assert dataset.keys == [f"objects-validation-000005-{i:06d}" for i in range(3)]
    assets = load_assets("validation", photographs_dir=folders["photographs_dir"])
    expected = render_clip((5, 2), "validation", assets, (32, 48), 2, 0.1)
    assert dataset[2].meta["seconds_per_frame"] == 0.1
    np.testing.assert_array_equal(dataset[2].frames, expected.frames)
    np.testing.assert_allclose(dataset[2].flow, expected.flow, atol=1 / 100)


def test_minutes_end_a_run_with_the_clips_that_are_there(folders, tmp_path, capsys):
    arguments = ["--output_dir", str(tmp_path), "--split", "train", "--num_clips", "500", "--num_frames", "2"]
    arguments += [word for name, folder in folders.items() for word in (f"--{name}", str(folder))]
    main([*arguments, "--resolution", "32", "--max_minutes", "0.00001"])
    assert len(ClipDataset(tmp_path, "train")) == 1
    assert "1 clips in 0.0 minutes" in capsys.readouterr().err
