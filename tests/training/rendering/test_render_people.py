"""Clips of moving people: exact flow, visibility, splits, determinism. The motions are synthetic."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_erosion


pytest.importorskip("numba")

import render_people  # noqa: E402
from render_people import load_assets, render_clip  # noqa: E402

from mcdiff_pipeline.dataset import ClipDataset  # noqa: E402
from rendering.people.clip import mix_with_another  # noqa: E402


def write_motion(path, *, swing: float, phase: float = 0.0) -> None:
    """A synthetic walk in the 44-number format: legs and arms swing, the root rises and advances."""
    frames = []
    for i in range(60):
        angle = swing * np.sin(2 * np.pi * i / 40 + phase)

        def about_side(a):
            return [np.cos(a / 2), 0, 0, np.sin(a / 2)]

        still = [1, 0, 0, 0]
        right = [*about_side(angle), -0.2 - 0.1 * abs(angle), *still, *about_side(-angle), 0.4]
        left = [*about_side(-angle), -0.2 - 0.1 * abs(angle), *still, *about_side(angle), 0.4]
        frames.append(
            [1 / 30, 0.02 * i, 0.86 + 0.02 * np.sin(i / 3), 0, *still, *still, *about_side(0.1), *right, *left]
        )
    path.write_text(json.dumps({"Loop": "wrap", "Frames": frames}))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("people")
    motions, photographs = root / "motions", root / "photographs"
    motions.mkdir()
    for i, name in enumerate(["walk", "punch", "dance_b"]):
        write_motion(motions / f"humanoid3d_{name}.txt", swing=0.5 + 0.2 * i, phase=i)
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        (photographs / split).mkdir(parents=True)
        coarse = rng.integers(40, 215, (12, 16, 3), np.uint8)
        Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(photographs / split / f"{split}.png")
    return {"motions_dir": motions, "photographs_dir": photographs}


@pytest.fixture(scope="module", params=[False, True], ids=["recorded", "recombined"])
def assets(folders, request):
    return load_assets("train", **folders, recombined=request.param)


@pytest.fixture(scope="module")
def clips(assets):
    return [render_clip(seed, "train", assets, resolution=96, num_frames=3) for seed in range(16)]


def sample(image, x, y):
    """Bilinear sample of `[H, W, C]` at points in pixels."""
    height, width = image.shape[:2]
    column, row = np.clip(x - 0.5, 0, width - 1.001), np.clip(y - 0.5, 0, height - 1.001)
    i, j = row.astype(int), column.astype(int)
    fy, fx = (row - i)[..., None], (column - j)[..., None]
    top = (1 - fx) * image[i, j] + fx * image[i, j + 1]
    return (1 - fy) * top + fy * ((1 - fx) * image[i + 1, j] + fx * image[i + 1, j + 1])


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a - b) ** 2), 1e-9))


def test_same_seed_gives_the_same_clip_bit_for_bit(assets, folders, clips):
    reloaded = load_assets("train", **folders, recombined=assets.recombined)
    again = render_clip(3, "train", reloaded, resolution=96, num_frames=3)
    for name in ("frames", "flow", "occlusion", "masks", "keypoints"):
        np.testing.assert_array_equal(getattr(again, name), getattr(clips[3], name))
    assert again.meta == clips[3].meta
    assert not np.array_equal(again.frames, clips[4].frames)


@pytest.mark.parametrize("resolution", [96, (72, 128), (129, 63)])
def test_next_frame_sampled_along_the_flow_equals_this_frame(assets, clips, resolution):
    if resolution != 96:
        clips = [render_clip(seed, "train", assets, resolution, num_frames=2) for seed in range(16)]
    height, width = clips[0].frames.shape[1:3]
    assert resolution in (height, (height, width))
    warped, repeated, background = [], [], []
    for clip in clips:
        y, x = np.mgrid[:height, :width] + 0.5
        moved = sample(clip.frames[1].astype(float), x + clip.flow[0, 0], y + clip.flow[0, 1])
        visible = binary_erosion(~clip.occlusion[0], iterations=2)
        people = binary_erosion(clip.masks[0] > 0, iterations=2) & visible
        behind = binary_erosion(clip.masks[0] == 0, iterations=3) & visible
        if people.sum() > 50 and np.abs(clip.flow[0][:, people]).max() > 1:
            warped.append(psnr(moved[people], clip.frames[0][people]))
            repeated.append(psnr(clip.frames[1][people].astype(float), clip.frames[0][people]))
        background.append(psnr(moved[behind], clip.frames[0][behind]))
    assert len(warped) >= 5
    assert np.median(warped) > 26
    assert np.median(warped) > np.median(repeated) + 5
    assert np.median(background) > 30


def test_visible_keypoints_move_with_the_flow(clips):
    errors = []
    for clip in clips:
        now, after = clip.keypoints[0], clip.keypoints[1]
        for point, target in zip(now[now[..., 2] == 2], after[now[..., 2] == 2], strict=True):
            if target[2] == 2 and clip.masks[0][int(point[1]), int(point[0])]:
                flow = clip.flow[0, :, int(point[1]), int(point[0])]
                errors.append(np.linalg.norm(target[:2] - point[:2] - flow))
    assert len(errors) > 50
    assert np.median(errors) < 0.5
    assert np.quantile(errors, 0.9) < 1.5


def test_visible_keypoints_are_on_their_person_and_others_outside_the_frame_are_zero(clips):
    on_person = []
    for clip in clips:
        for person, points in enumerate(clip.keypoints[0]):
            assert set(np.unique(points[:, 2])) <= {0, 1, 2}
            assert not points[points[:, 2] == 0].any()
            shown = points[points[:, 2] > 0]
            assert ((shown[:, :2] >= 0) & (shown[:, :2] < 96)).all()
            for x, y, visibility in shown:
                if visibility == 2:
                    on_person.append(clip.masks[0][int(y), int(x)] in (0, person + 1))
    assert all(on_person)


def test_pixels_that_leave_the_frame_are_occluded(clips):
    for clip in clips:
        y, x = np.mgrid[:96, :96] + 0.5
        target_x, target_y = x + clip.flow[0, 0], y + clip.flow[0, 1]
        outside = (target_x < 0) | (target_x >= 96) | (target_y < 0) | (target_y >= 96)
        assert clip.occlusion[0][outside].all()


def test_background_behind_a_person_in_the_next_frame_is_occluded(clips):
    checked = 0
    for clip in clips:
        still = (np.abs(clip.flow[0]).max(0) < 1e-6) & (clip.masks[0] == 0)
        covered = still & binary_erosion(clip.masks[1] > 0)
        assert clip.occlusion[0][covered].all()
        free = still & binary_erosion(clip.masks[1] == 0)
        assert not clip.occlusion[0][free].any()
        checked += covered.sum()
    assert checked > 0


def test_people_move_but_by_less_than_8_pixels_per_frame(clips):
    medians = []
    for clip in clips:
        body = clip.masks[0] > 0
        if body.any():
            medians.append(np.median(np.linalg.norm(clip.flow[0][:, body], axis=0)))
    assert 0.2 < np.median(medians) < 8


def test_people_stand_in_frames_of_any_shape(assets):
    for height, width in ((64, 160), (160, 64)):
        masks = [render_clip(seed, "train", assets, (height, width), 1).masks[0] for seed in range(12)]
        columns = [np.flatnonzero((mask == 1).any(0)).mean() / width for mask in masks if (mask == 1).any()]
        rows = [np.ptp(np.flatnonzero((mask == 1).any(1))) / height for mask in masks if (mask == 1).any()]
        assert len(rows) == 12
        assert 0.3 < np.median(columns) < 0.7
        assert 0.15 < np.min(rows) and np.median(rows) > 0.35


def test_first_frame_is_the_same_for_all_time_gaps_and_motion_is_proportional(assets):
    for seed in range(6):
        gaps = 0.0025, 0.003, 0.3
        short, longer, long = (render_clip(seed, "train", assets, 96, 2, time_gap=gap) for gap in gaps)
        assert [clip.meta["seconds_per_frame"] for clip in (short, longer, long)] == list(gaps)
        drawn = render_clip(seed, "train", assets, 96, 2)
        for clip in (longer, long, drawn):
            np.testing.assert_array_equal(clip.frames[0], short.frames[0])
            np.testing.assert_array_equal(clip.masks[0], short.masks[0])
        for place in (short.masks[0] > 0, short.masks[0] == 0):
            before, after = short.flow[0][:, place], longer.flow[0][:, place]
            if np.abs(before).max() > 0.02:
                ratio = np.sum(before * after) / np.sum(before**2)
                assert ratio == pytest.approx(1.2, abs=0.03)
                assert np.linalg.norm(after - 1.2 * before) < 0.1 * np.linalg.norm(after)


def test_recombined_people_have_limbs_bodies_and_poses_that_were_not_recorded(folders):
    recorded, recombined = (load_assets("train", **folders, recombined=value) for value in (False, True))
    clips = [[render_clip(seed, "train", a, 64, 2) for seed in range(40)] for a in (recorded, recombined)]
    keys = [clip.key for of_kind in clips for clip in of_kind]
    assert len(set(keys)) == len(keys)
    several = [[any("+" in name for name in clip.meta["motions"]) for clip in of_kind] for of_kind in clips]
    assert np.mean(several[1]) > np.mean(several[0]) + 0.2

    body = recorded.bodies[0]
    mixture = mix_with_another(np.random.default_rng(0), recombined, body)
    distances = [np.abs(mixture.rest - other.rest).mean() for other in recorded.bodies]
    assert min(distances) > 1e-4
    assert 0.7 < np.ptp(mixture.rest[:, 2]) < 2.4


@pytest.mark.parametrize("wrong", [{"resolution": 4}, {"resolution": (64, 64, 3)}, {"time_gap": 0.0}])
def test_impossible_sizes_and_gaps_are_refused(assets, wrong):
    with pytest.raises(ValueError, match=r"not possible; give"):
        render_clip(0, "train", assets, **wrong)


def test_splits_share_no_motion_body_or_photograph(folders):
    assets = {split: load_assets(split, **folders) for split in ("train", "validation", "test")}
    assert [m.name for m in assets["test"].motions] == ["dance_b"]
    assert [m.name for m in assets["validation"].motions] == ["punch"]
    trained = {m.name: m.span for m in assets["train"].motions}
    assert set(trained) == {"walk", "punch"}
    assert trained["punch"][1] < assets["validation"].motions[0].span[0]
    bodies = [{b.index for b in a.bodies} for a in assets.values()]
    assert [len(b) for b in bodies] == [32, 4, 8]
    assert len(set.union(*bodies)) == 44
    photographs = [set(a.photographs) for a in assets.values()]
    assert len(set.union(*photographs)) == sum(map(len, photographs))


def test_script_writes_shards_that_the_dataset_reads(folders, tmp_path):
    render_people.main(
        f"--output_dir {tmp_path} --split validation --num_clips 3 --seed 7 --resolution 64 --num_frames 2 "
        f"--motions_dir {folders['motions_dir']} --photographs_dir {folders['photographs_dir']}".split()
    )
    dataset = ClipDataset(tmp_path, "validation")
    assert len(dataset) == 3
    expected = render_clip((7, 1), "validation", load_assets("validation", **folders), 64, 2)
    np.testing.assert_array_equal(dataset[1].frames, expected.frames)
    visible = ~expected.occlusion[0]
    np.testing.assert_allclose(dataset[1].flow[0][:, visible], expected.flow[0][:, visible], atol=1 / 64)


def test_script_takes_height_width_and_time_gap(folders, tmp_path, capsys):
    arguments = (
        f"--output_dir {tmp_path} --num_clips 1 --num_frames 2 --time_gap 0.05 "
        f"--motions_dir {folders['motions_dir']} --photographs_dir {folders['photographs_dir']} --resolution"
    ).split()
    render_people.main([*arguments, "40", "64"])
    clip = ClipDataset(tmp_path, "train")[0]
    assert clip.frames.shape == (2, 40, 64, 3)
    assert clip.meta["seconds_per_frame"] == 0.05
    with pytest.raises(SystemExit):
        render_people.main([*arguments, "40", "64", "3"])
    assert "height and width" in capsys.readouterr().err


def test_error_for_a_folder_without_motions_says_where_to_get_them(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="pip download pybullet"):
        load_assets("train", motions_dir=tmp_path, photographs_dir=folders["photographs_dir"])


def test_unknown_split_is_refused(folders):
    with pytest.raises(ValueError, match="'holdout'"):
        load_assets("holdout", **folders)
