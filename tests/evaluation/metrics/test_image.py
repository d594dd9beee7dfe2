import math

import pytest
import torch

from mcdiff_pipeline.evaluation.metrics.image import psnr, ssim


def images(batch: int = 2, size: int = 16) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)) * 0.5


def test_psnr_is_ten_times_the_logarithm_of_the_squared_error():
    target = images()
    output = target + torch.tensor([0.1, 0.01])[:, None, None, None]
    torch.testing.assert_close(psnr(output, target), torch.tensor([20.0, 40.0]), rtol=0, atol=1e-3)


def test_psnr_of_a_region_ignores_other_pixels():
    target = images()
    output = target.clone()
    where = torch.zeros(2, 16, 16, dtype=torch.bool)
    where[:, :4] = True
    output[:, :, :4] += 0.1
    output[:, :, 4:] += 0.4
    torch.testing.assert_close(psnr(output, target, where), torch.full((2,), 20.0), rtol=0, atol=1e-3)
    torch.testing.assert_close(psnr(output, target, torch.ones_like(where)), psnr(output, target))


def test_psnr_is_60_db_for_identical_images_and_nan_for_an_empty_region():
    target = images()
    where = torch.zeros(2, 16, 16, dtype=torch.bool)
    where[0] = True
    of_full, of_empty = psnr(target, target, where).tolist()
    assert of_full == 60 and math.isnan(of_empty)


def test_ssim_of_each_image_in_a_batch():
    target = images(3)
    output = target.clone()
    output[1] += 0.1  # brighter, structure kept
    output[2] = images(1).flip(-1)  # another structure
    same, brighter, other = ssim(output, target).tolist()
    assert same == pytest.approx(1) and 0.5 < brighter < 1 and abs(other) < 0.3
    torch.testing.assert_close(ssim(output[1:2], target[1:2]), ssim(output, target)[1:2])


def test_ssim_of_flat_images_compares_their_brightness():
    # Only the luminance term remains without structure: (2 a b + C1) / (a² + b² + C1), C1 = 0.01².
    flat = torch.ones(1, 3, 16, 16)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(0.2 * flat, 0.6 * flat).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(2, 3, 16, 17), r"\[2, 3, 16, 17\]"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "uint8"),
        (torch.full((2, 3, 16, 16), 255.0), r"\[255, 255\]"),
        (torch.full((2, 3, 16, 16), torch.nan), "nan"),
    ],
)
def test_invalid_images_raise(metric, output, message):
    with pytest.raises(ValueError, match=message):
        metric(output, images())


def test_ssim_of_images_smaller_than_its_window_raises():
    with pytest.raises(ValueError, match="10 x 10 pixels are too small"):
        ssim(images(size=10), images(size=10))


def test_region_of_another_size_raises():
    with pytest.raises(ValueError, match="region must be a bool tensor"):
        psnr(images(), images(), torch.ones(2, 8, 8, dtype=torch.bool))
