"""What is filled in behind things."""

import pytest
import torch

from mcdiff_pipeline.detail import DetailRenderer
from mcdiff_pipeline.inpainting import inpaint


SIZE = 96


def stripes(size: int = SIZE, width: int = 4) -> torch.Tensor:
    """Upright stripes, dark and light."""
    columns = (torch.arange(size) // width) % 2
    return (0.25 + 0.5 * columns.float()).expand(3, size, size).clone()


def grass(size: int = SIZE) -> torch.Tensor:
    """Green with noise."""
    noise = torch.randn(1, size, size, generator=torch.Generator().manual_seed(0))
    return (torch.tensor([0.3, 0.6, 0.2]).view(3, 1, 1) + 0.1 * noise).clamp(0, 1)


def around(top: int = 36, bottom: int = 60) -> torch.Tensor:
    surroundings = torch.ones(SIZE, SIZE, dtype=torch.bool)
    surroundings[top:bottom, top:bottom] = False
    return surroundings


def filled(picture: torch.Tensor, surroundings: torch.Tensor) -> torch.Tensor:
    covered = torch.where(surroundings, picture, torch.tensor([1.0, 0, 1.0]).view(3, 1, 1))
    found = inpaint(covered, surroundings)
    assert found is not None
    return found.part(covered, slice(None), slice(None))


def test_a_pattern_goes_on_in_the_hole():
    picture, surroundings = stripes(), around()
    difference = (filled(picture, surroundings) - picture)[:, ~surroundings].abs().mean()
    assert difference < 0.08  # a single color would be 0.25 from it


def test_texture_is_as_strong_as_around_the_hole():
    picture, surroundings = grass(), around()
    inside = filled(picture, surroundings)[1][~surroundings]
    assert 0.7 < float(inside.std() / picture[1].std()) < 1.4
    assert float(inside.mean()) == pytest.approx(0.6, abs=0.05)


def test_nothing_of_the_hole_itself_is_used():
    picture, surroundings = grass(), around()
    first = inpaint(picture, surroundings)
    other = torch.where(surroundings, picture, torch.rand(3, SIZE, SIZE))
    second = inpaint(other, surroundings)
    inside = ~surroundings
    torch.testing.assert_close(
        first.part(picture, slice(None), slice(None))[:, inside],
        second.part(other, slice(None), slice(None))[:, inside],
        atol=1e-5,
        rtol=0,
    )


def test_a_part_of_a_larger_picture_is_that_of_the_whole():
    picture, surroundings = stripes(), around()
    large = torch.nn.functional.interpolate(picture[None], scale_factor=2.5, mode="nearest")[0]
    in_8_bits = (255 * large).round().byte()
    found = inpaint(picture, surroundings)
    whole = found.part(in_8_bits, slice(None), slice(None))
    assert whole.shape == large.shape
    torch.testing.assert_close(found.part(in_8_bits, slice(70, 131), slice(20, 90)), whole[:, 70:131, 20:90])


@pytest.mark.parametrize("surroundings", [around(0, SIZE), around(0, 90), around(0, 0)])
def test_without_a_hole_or_without_surroundings_there_is_none(surroundings):
    assert inpaint(grass(), surroundings) is None


def test_what_a_region_uncovers_has_the_texture_of_the_background():
    picture, surroundings = grass(), around()
    thing = torch.where(surroundings, picture, torch.tensor([1.0, 0, 1.0]).view(3, 1, 1))
    shares = torch.stack([surroundings.float(), (~surroundings).float()])
    renderer = DetailRenderer(thing, thing, thing, shares)
    backward, known = torch.zeros(2, 2, SIZE, SIZE), torch.ones(2, SIZE, SIZE)
    backward[1, 0] = -30.0  # the thing has moved to the right
    smooth = torch.where(surroundings, thing, picture.mean(dim=(1, 2), keepdim=True))
    frame = renderer.render(smooth, backward, known)
    uncovered = frame[:, 38:58, 38:58]
    assert float(uncovered[1].std()) > 0.7 * float(picture[1].std())
    assert float(uncovered[1].mean()) == pytest.approx(0.6, abs=0.08)
