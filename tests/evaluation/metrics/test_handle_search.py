import pytest
import torch

from mcdiff_pipeline.evaluation.metrics.handle_search import HandleSearch


def textured(height: int = 128, width: int = 160, seed: int = 0) -> torch.Tensor:
    """An image with random blobs of about four pixels, so that all of its patches differ."""
    noise = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=(height, width), mode="bicubic").clamp(0, 1)


POSITIONS = torch.tensor([[80.5, 64.5], [40.5, 30.5], [2.5, 3.5], [157.5, 126.5]])


def distances(true_frame: torch.Tensor, output: torch.Tensor, positions: torch.Tensor = POSITIONS) -> torch.Tensor:
    return HandleSearch(true_frame, positions, torch.zeros(len(positions), dtype=torch.long)).distances(output)


def test_distance_is_zero_on_the_true_frame():
    assert distances(textured(), textured()).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("right", "down"), [(3, 4), (-6, 8), (0, -5), (12, 9)])
def test_distance_on_a_shifted_output_is_the_shift(right, down):
    shifted = textured().roll((down, right), dims=(2, 3))
    expected = (right**2 + down**2) ** 0.5
    assert distances(textured(), shifted, POSITIONS[:2]).tolist() == pytest.approx([expected] * 2)


def test_brightness_and_contrast_do_not_change_the_distance():
    shifted = textured().roll((4, 3), dims=(2, 3))
    assert distances(textured(), 0.4 * shifted + 0.5, POSITIONS[:2]).tolist() == pytest.approx([5, 5])


def test_handle_beyond_the_search_radius_is_not_recalled():
    shifted = textured().roll(40, dims=3)
    found = distances(textured(), shifted, POSITIONS[:2])
    assert (found > 3).all()


def test_flat_patch_gives_nan_and_flat_output_gives_zero():
    flat = torch.full_like(textured(), 0.5)
    assert distances(flat, textured()).isnan().all()
    assert distances(textured(), flat).tolist() == [0, 0, 0, 0]


def test_patch_and_search_radius_scale_with_the_frame():
    large, positions = textured(512, 640), 4 * POSITIONS[:2]
    assert distances(large, large.roll(60, dims=3), positions).tolist() == [60, 60]
    small = textured()
    assert (distances(small, small.roll(60, dims=3), POSITIONS[:2]) != 60).all()


def test_no_handles_give_no_distances():
    frames, none = torch.zeros(2, 3, 32, 32), torch.zeros(0, dtype=torch.long)
    assert HandleSearch(frames, torch.zeros(0, 2), none).distances(frames).shape == (0,)


def test_each_handle_is_searched_for_in_its_own_frame():
    true_frames = torch.cat([textured(seed=0), textured(seed=1)])
    output = torch.cat([textured(seed=0).roll(3, dims=3), textured(seed=1).roll(8, dims=2)])
    search = HandleSearch(true_frames, POSITIONS[[0, 1, 0]], torch.tensor([1, 0, 0]))
    assert search.distances(output).tolist() == [8, 3, 3]
    assert search.distances(output, [0, 2]).tolist() == [8, 3]


def test_mismatched_shapes_raise_and_are_named():
    frames = torch.zeros(4, 3, 32, 32)
    with pytest.raises(ValueError, match=r"`positions` \[3, 2\] and `numbers` \[4\] do not fit"):
        HandleSearch(frames, torch.zeros(3, 2), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"`output` is \[2, 3, 32, 32\]"):
        HandleSearch(frames, torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)).distances(frames[:2])


def test_handle_is_located_to_fractions_of_a_pixel():
    frame = textured()
    half = 0.5 * (frame.roll(3, dims=3) + frame.roll(4, dims=3))  # 3.5 pixels to the right
    search = HandleSearch(frame, POSITIONS[:2], torch.zeros(2, dtype=torch.long), search=8)
    places, fit, expected = search.locate(half, POSITIONS[:2] + 1)
    assert torch.allclose(places, POSITIONS[:2] + torch.tensor([3.5, 0.0]), atol=0.1)
    assert (fit > 0.9).all() and (expected < fit).all()
    _, beyond, _ = search.locate(frame.roll(30, dims=3), POSITIONS[:2])
    assert (beyond < 0.9).all()
    _, flat, _ = HandleSearch(0 * frame, POSITIONS[:1], torch.zeros(1, dtype=torch.long)).locate(frame, POSITIONS[:1])
    assert flat.tolist() == [0]
