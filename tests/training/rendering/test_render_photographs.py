"""Clips of things that move in photographs: exact flow, untouched first frames, true backgrounds, what is labeled."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from render_photographs import load_assets, main, render_clip
from scipy.ndimage import binary_erosion

from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.flow import backward_warp
from rendering.labeled_photographs.labels import Labels, label_path, write_labels


SIZE = (320, 240)
# In pixels of the photograph: a body with a limb at its rim and a mark on it, and another thing.
SHAPES = {
    "body": [(60, 60, 160, 180)],
    "limb": [(150, 80, 220, 110)],
    "mark": [(90, 100, 120, 130)],
    "other": [(240, 130, 290, 200)],
}


def smooth_image(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    blurred = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(3))
    return blurred.point(lambda value: min(255, max(0, 5 * value - 512)))


def mask_of(*names: str) -> Image.Image:
    mask = Image.new("L", SIZE)
    for name in names:
        for box in SHAPES[name]:
            ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two labeled photographs of the training split, one that is not labeled, and one for validation."""
    root = tmp_path_factory.mktemp("sources")
    for name in ("train/a", "train/b", "train/unlabeled", "validation/c"):
        path = root / "photographs" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = smooth_image(sum(name.encode()))
        image.paste(smooth_image(1 + sum(name.encode())), (0, 0), mask_of(*SHAPES))
        image.save(path)
        things = (("body", "limb", "mark"), ("body", "mark"), ("other",), ("limb",), ("mark",))
        masks = np.stack([np.asarray(mask_of(*names)) for names in things])
        if "unlabeled" not in name:
            write_labels(label_path(root / "masks", path), Labels(masks, np.array([True, *[False] * 4])))
    rows = ["picture\tpackage\tfile in the package\tlicence", "train/a.png\tsome-package\ta.png\tCC0"]
    (root / "photographs" / "LICENCES.tsv").write_text("\n".join(rows) + "\n")
    return {"photographs_dir": root / "photographs", "masks_dir": root / "masks"}


@pytest.fixture(scope="module")
def assets(folders):
    return load_assets("train", **folders, filling="smooth")


@pytest.fixture(scope="module")
def clips(assets):
    return [render_clip((3, i), "train", assets, resolution=64, num_frames=3) for i in range(40)]


def warped(clip) -> np.ndarray:
    """The next frames, looked up along the flow."""
    following = torch.from_numpy(clip.frames[1:].copy()).permute(0, 3, 1, 2).float()
    return backward_warp(following, torch.from_numpy(clip.flow)).permute(0, 2, 3, 1).numpy()


def test_seed_and_split_determine_a_clip(assets, clips):
    again = render_clip((3, 1), "train", assets, 64, 3)
    assert again.key == clips[1].key and again.meta == clips[1].meta
    for name in ("frames", "flow", "occlusion", "masks", "keypoints"):
        np.testing.assert_array_equal(getattr(again, name), getattr(clips[1], name))
    assert not np.array_equal(clips[0].frames, clips[1].frames)


@pytest.mark.parametrize("resolution", [64, (48, 80)])
def test_next_frame_warped_along_the_flow_has_the_same_colors(assets, clips, resolution):
    if resolution != 64:
        clips = [render_clip((3, i), "train", assets, resolution, num_frames=3) for i in range(12)]
    along, in_place, occluded = [], [], []
    for clip in clips:
        errors = np.abs(warped(clip) - clip.frames[:-1]).mean(-1)
        moving = ~clip.occlusion & (np.hypot(clip.flow[:, 0], clip.flow[:, 1]) > 1)
        along.append(errors[moving])
        occluded.append(errors[clip.occlusion])
        in_place.append(np.abs(clip.frames[1:].astype(float) - clip.frames[:-1]).mean(-1)[moving])
    assert np.concatenate(along).mean() < 0.25 * np.concatenate(in_place).mean()
    assert np.concatenate(occluded).mean() > 3 * np.concatenate(along).mean()


def test_first_frame_of_a_natural_clip_is_the_photograph_itself(clips):
    """What does not move is the same in all frames, and no seam shows where a thing is cut out."""
    compared = 0
    for clip in clips:
        if clip.meta["uncovered"] == "smooth" and not clip.meta["camera_moves"]:
            still = binary_erosion((clip.flow == 0).all((0, 1)) & (clip.masks == 0).all(0), iterations=4)
            np.testing.assert_allclose(clip.frames[0][still].astype(float), clip.frames[1][still], atol=1)
            compared += still.sum()
    assert compared > 10_000


def test_pasted_clips_show_a_second_photograph(clips):
    pasted = [clip for clip in clips if clip.meta["uncovered"] == "true"]
    assert 3 < len(pasted) < 20 and all(len(clip.meta["photographs"]) == 2 for clip in pasted)
    natural = [clip for clip in clips if clip.meta["uncovered"] != "true"]
    assert all(len(clip.meta["photographs"]) == 1 for clip in natural)


def test_clips_name_their_photographs_with_their_licenses(clips):
    named = {one["file"]: one for clip in clips for one in clip.meta["photographs"]}
    assert set(named) == {"train/a.png", "train/b.png"}
    assert named["train/a.png"] == {"file": "train/a.png", "package": "some-package", "license": "CC0"}
    assert named["train/b.png"]["license"] == "not stated"


def test_things_and_cameras_move_or_stand_still(clips):
    assert {clip.meta["moves"] for clip in clips} == {"wholes", "part", "part of a whole", "joint"}
    camera_moves = [clip.meta["camera_moves"] for clip in clips]
    assert 0.1 < np.mean(camera_moves) < 0.5
    for clip in clips:
        background = clip.flow[0][:, clip.masks[0] == 0]
        assert np.any(background != 0) == clip.meta["camera_moves"]
        assert np.hypot(*clip.flow[0]).max() < 64 / 4
    still = [
        np.all(clip.flow[0][:, clip.masks[0] == number] == 0)
        for clip in clips
        if not clip.meta["camera_moves"]
        for number in range(1, clip.masks[0].max() + 1)
    ]
    assert 0.05 < np.mean(still) < 0.6


def test_part_of_a_whole_is_a_thing_of_its_own(clips):
    """Its motion differs from that of the whole, and from the background."""
    for clip in clips:
        if clip.meta["moves"] == "part of a whole" and not clip.meta["camera_moves"]:
            whole, part = (clip.flow[0][:, clip.masks[0] == number].mean(1) for number in (1, 2))
            assert np.linalg.norm(whole - part) > 0.05


def test_keypoints_move_with_the_flow(clips):
    compared = 0
    for clip in clips:
        now, following = clip.keypoints[0], clip.keypoints[1]
        for owner, point in np.argwhere((now[..., 2] == 2) & (following[..., 2] > 0)):
            x, y = now[owner, point, :2]
            assert clip.masks[0, int(y), int(x)] == owner + 1
            displacement = following[owner, point, :2] - now[owner, point, :2]
            np.testing.assert_allclose(clip.flow[0, :, int(y), int(x)], displacement, atol=0.4)
            compared += 1
    assert compared > 200


@pytest.mark.parametrize("resolution, num_frames, time_gap", [(32, 1, None), ((40, 72), 5, 0.3)])
def test_clips_have_the_requested_size_and_length(assets, resolution, num_frames, time_gap):
    clip = render_clip(3, "train", assets, resolution, num_frames, time_gap)
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    assert clip.frames.shape == (num_frames, height, width, 3)
    assert np.isfinite(clip.flow).all()


def test_masks_of_the_background_are_no_things(folders, tmp_path):
    sky = np.zeros((1, SIZE[1], SIZE[0]), np.uint8)
    sky[:, :80] = 255
    path = folders["photographs_dir"] / "train" / "a.png"
    write_labels(label_path(tmp_path, path), Labels(sky, np.array([False])))
    with pytest.raises(FileNotFoundError, match=r"no masks of things .* run label_photographs.py first"):
        load_assets("train", photographs_dir=folders["photographs_dir"], masks_dir=tmp_path, filling="smooth")


def test_damaged_masks_are_refused_with_their_file(folders, tmp_path):
    path = label_path(tmp_path, folders["photographs_dir"] / "train" / "a.png")
    path.parent.mkdir()
    path.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"a\.npz .* remove it and run label_photographs.py again"):
        load_assets("train", photographs_dir=folders["photographs_dir"], masks_dir=tmp_path, filling="smooth")


def test_unknown_filling_is_refused(folders):
    with pytest.raises(ValueError, match="'paint' is unknown, it must be one of patchmatch, smooth"):
        load_assets("train", **folders, filling="paint")


def test_script_writes_shards(folders, tmp_path):
    main(
        [
            *("--output_dir", str(tmp_path), "--split", "validation", "--num_clips", "3", "--clips_per_shard", "2"),
            *("--seed", "5", "--resolution", "32", "48", "--num_frames", "2", "--filling", "smooth"),
            *("--photographs_dir", str(folders["photographs_dir"]), "--masks_dir", str(folders["masks_dir"])),
        ]
    )
    dataset = ClipDataset(tmp_path, "validation")
    assert dataset.keys == [f"photographs-validation-000005-{i:06d}" for i in range(3)]
    expected = render_clip((5, 2), "validation", load_assets("validation", **folders, filling="smooth"), (32, 48), 2)
    np.testing.assert_array_equal(dataset[2].frames, expected.frames)
    np.testing.assert_allclose(dataset[2].flow, expected.flow, atol=1 / 100)
