import json

import numpy as np
import PIL.Image
import pytest
import torch

from mcdiff_pipeline.evaluation.summary import EvaluationSummary
from mcdiff_pipeline.evaluation.whole_measures import RULES, measure_whole, share_inside
from mcdiff_pipeline.evaluation.whole_motions import SETUPS, AskedMotion, Setup
from mcdiff_pipeline.evaluation.whole_photographs import WholePhotographs
from mcdiff_pipeline.evaluation.whole_summary import WholesSummary
from mcdiff_pipeline.evaluation.wholes import evaluate_wholes
from support.photographs import write_list, write_photographs
from support.tiny_models import make_pipeline


SIZES = (32,)


@pytest.fixture
def mask() -> np.ndarray:
    """A box off the middle of a photograph of 120 x 80 pixels."""
    mask = np.zeros((80, 120), bool)
    mask[16:64, 24:64] = True
    return mask


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs") / "boxes")


@pytest.fixture(scope="module")
def pipe():
    return make_pipeline()


@pytest.fixture(scope="module")
def finished(pipe, photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    return folder, evaluate_wholes(pipe, photographs, folder, model_name="tiny", sizes=SIZES)


def miss(rows: list[dict], **which) -> dict:
    """The miss of the only row with these values."""
    (row,) = [row for row in rows if all(row[key] == value for key, value in which.items())]
    return row["miss"]


def moving_box(value: float, share: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flow that moves a box of 4 x 4 cells by `value` of what is asked for, that motion, and the share of the box."""
    covered = torch.zeros(12, 12)
    covered[4:8, 4:8] = share
    asked = torch.tensor([3.0, -4.0])[:, None, None].expand(-1, 12, 12)
    return value * asked * (covered > 0), asked, covered


# Measures


def test_flow_as_asked_is_right_and_no_flow_misses_all():
    right, still = measure_whole(*moving_box(1.0)), measure_whole(*moving_box(0.0))
    assert right == pytest.approx({"miss": 0, "leak": 0, "tear": 0, "slowest": 1}, abs=1e-6)
    assert still == pytest.approx({"miss": 1, "leak": 0, "tear": 0, "slowest": 0}, abs=1e-6)


def test_half_of_the_thing_left_behind_tears():
    flow, asked, share = moving_box(1.0)
    flow[:, :, 4:6] = 0
    measures = measure_whole(flow, asked, share)
    assert measures["miss"] == pytest.approx(0.5)
    assert measures["tear"] == pytest.approx(0.5)
    assert measures["slowest"] == pytest.approx(0)


def test_motion_far_from_the_thing_leaks_and_motion_beside_it_does_not_count():
    flow, asked, share = moving_box(1.0)
    flow[:, 4:8, 8:10] = asked[:, 4:8, 8:10]
    assert measure_whole(flow, asked, share)["leak"] == 0
    flow[:, :, 11] = asked[:, :, 11] / 2
    # The box and two cells around it are 8 x 8 cells of 12 x 12.
    assert measure_whole(flow, asked, share)["leak"] == pytest.approx(0.5 * 12 / (144 - 64))


def test_cells_on_an_outline_may_move_by_the_part_that_the_thing_covers():
    for value in (0.6, 0.8, 1.0):
        assert measure_whole(*moving_box(value, share=0.6))["miss"] == pytest.approx(0, abs=1e-6)
    assert measure_whole(*moving_box(0.3, share=0.6))["miss"] == pytest.approx(0.5)
    assert measure_whole(*moving_box(1.3, share=0.6))["miss"] == pytest.approx(0.5)
    assert measure_whole(*moving_box(0.0, share=0.6))["miss"] == pytest.approx(1)


def test_leak_is_not_a_number_if_nothing_is_outside():
    flow, asked, _ = moving_box(1.0)
    assert np.isnan(measure_whole(flow, asked, torch.ones(12, 12))["leak"])


def test_thing_that_covers_no_cell_is_an_error():
    with pytest.raises(ValueError, match="covers no cell"):
        measure_whole(*moving_box(1.0, share=0.5))


# Strokes


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.title)
def test_strokes_start_inside_and_say_what_the_asked_flow_says(mask, setup):
    asked = AskedMotion("box", mask, setup, 1, 0)
    strokes = asked.strokes
    moves, holds = strokes[: setup.strokes], strokes[setup.strokes :]
    assert len(holds) == 2 * setup.holds
    flow = asked.flow((80, 120), (80, 120))  # pixels
    for stroke in moves:
        x, y = stroke.points[0]
        assert mask[int(y), int(x)]
        step = np.subtract(stroke.at(1), stroke.at(0))
        nearby = flow[:, int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].mean(dim=(1, 2))
        np.testing.assert_allclose(step, nearby, atol=0.1)
    for stroke in holds:
        assert stroke.kind == "hold"
        assert not mask[int(stroke.points[0][1]), int(stroke.points[0][0])]


def test_translations_go_in_four_directions_and_are_as_long_at_each_size(mask):
    setup = Setup("translation", 1, True)
    steps = [AskedMotion("box", mask, setup, direction, 0).flow((80, 120), (20, 30)) for direction in range(4)]
    assert torch.stack(steps).sum(dim=0).abs().max() < 1e-5
    for step in steps:
        assert step.norm(dim=0).numpy() == pytest.approx((80 * 120) ** 0.5 / 32)
    half = AskedMotion("box", mask, setup, 0, 0).flow((40, 60), (20, 30))
    torch.testing.assert_close(half, steps[0] / 2)


def test_rotation_keeps_the_centroid_and_turns_both_ways(mask):
    setup = Setup("rotation", 3, True)
    there, back = (AskedMotion("box", mask, setup, direction, 0) for direction in range(2))
    center, right = np.array([44.0, 40.0]), np.array([54.0, 40.0])
    np.testing.assert_allclose(there.displacements(center), 0, atol=1e-12)
    expected = np.array([10 * (np.cos(np.radians(5)) - 1), 10 * np.sin(np.radians(5))])
    np.testing.assert_allclose(there.displacements(right), expected)
    np.testing.assert_allclose(back.displacements(right), expected * (1, -1))
    # The stroke at the center of the rotation cannot be a move.
    assert [stroke.kind for stroke in there.strokes].count("move") >= 2


def test_directions_depend_on_the_name_and_the_seed_only(mask):
    setup = Setup("translation", 1, True)
    first = AskedMotion("box", mask, setup, 0, 0).displacements(np.zeros(2))
    np.testing.assert_array_equal(first, AskedMotion("box", ~mask, setup, 0, 0).displacements(np.zeros(2)))
    for name, seed in (("cup", 0), ("box", 1)):
        assert not np.allclose(first, AskedMotion(name, mask, setup, 0, seed).displacements(np.zeros(2)))


def test_thing_without_room_for_the_strokes_is_an_error(mask):
    speck = np.zeros_like(mask)
    speck[0, 0] = True
    with pytest.raises(ValueError, match="no room for 300 strokes"):
        AskedMotion("box", speck, Setup("translation", 300, True), 0, 0).start_points


def test_rules_are_exact_where_they_hold(mask):
    grid = (20, 30)
    share = share_inside(mask, grid)
    for name, rule in RULES.items():
        for setup in SETUPS:
            asked = AskedMotion("box", mask, setup, 0, 0)
            measures = measure_whole(rule(asked, (80, 120), share), asked.flow((80, 120), grid), share)
            assert measures["leak"] == 0
            if setup.motion == "translation" or name == "similarity of the strokes":
                assert measures["miss"] == pytest.approx(0, abs=1e-5)
            else:
                assert measures["miss"] > 0.5


# Evaluation


def test_rows_of_all_methods_and_setups_are_estimated_over_photographs(finished):
    folder, metrics = finished
    rows = metrics["wholes"]["rows"]
    methods = ["F", "F, region", "F, rigid region", *RULES]
    assert [row["row"] for row in rows] == methods * len(SETUPS)
    assert all(row["miss"]["clips"] == 2 and row["size"] == 32 for row in rows)
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    report = (folder / "report.md").read_text()
    assert "| translation, 3 strokes, no holds | F, region |" in report
    assert "| box-1 |" in report


def test_rigid_region_moves_as_asked_whatever_the_weights_are(finished):
    for row in finished[1]["wholes"]["rows"]:
        if row["row"] == "F, rigid region":
            assert row["miss"]["value"] < 0.02, row
            assert row["tear"]["value"] < 0.05, row


def test_differences_are_paired_with_the_model_without_regions(finished):
    wholes = finished[1]["wholes"]
    values = {
        (row["row"], row["motion"], row["strokes"], row["holds"]): row["miss"]["value"] for row in wholes["rows"]
    }
    assert len(wholes["differences"]) == 4 * len(SETUPS)
    for row in wholes["differences"]:
        assert row["minus"] == "F"
        setup = (row["motion"], row["strokes"], row["holds"])
        assert row["miss"]["value"] == pytest.approx(values[row["row"], *setup] - values["F", *setup])
        assert row["miss"]["low"] <= row["miss"]["value"] <= row["miss"]["high"]


def test_interrupted_run_resumes_with_the_same_results(finished, pipe, photographs, tmp_path):
    folder, metrics = finished
    (tmp_path / "wholes").mkdir()
    for name in ("wholes.json", "wholes/box-0.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    before = (tmp_path / "wholes/box-0.json").stat().st_mtime_ns
    assert evaluate_wholes(pipe, photographs, tmp_path, model_name="tiny", sizes=SIZES) == metrics
    assert (tmp_path / "wholes/box-0.json").stat().st_mtime_ns == before


def test_folder_of_another_run_is_refused(finished, pipe, photographs):
    folder, _ = finished
    with pytest.raises(ValueError, match="with other seed; name another folder"):
        evaluate_wholes(pipe, photographs, folder, sizes=SIZES, seed=1)


def test_summary_is_read_as_it_was_written(finished):
    content = finished[1]["wholes"]
    assert WholesSummary.from_json(content).to_json() == content
    assert EvaluationSummary.__dataclass_fields__["wholes"].default is None


def test_other_models_are_compared_and_those_without_flow_are_left_out(pipe, tmp_path):
    others = {"again": pipe, "without F": make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)}
    photographs = write_photographs(tmp_path / "boxes", 1)
    metrics = evaluate_wholes(pipe, photographs, tmp_path / "evaluation", others=others, sizes=SIZES)
    values = {row["row"]: row["miss"] for row in metrics["wholes"]["rows"] if row["strokes"] == 1 and row["holds"]}
    assert values["again, region"] == values["F, region"]
    assert not any(name.startswith("without F") for name in values)


def test_model_without_flow_is_an_error(photographs, tmp_path):
    pipe = make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)
    with pytest.raises(ValueError, match="no `flow_completion`"):
        evaluate_wholes(pipe, photographs, tmp_path)


# Photographs


def test_photographs_are_read_with_masks_at_their_size(photographs, tmp_path):
    found = WholePhotographs(photographs)
    assert found.names == ["box-0", "box-1"]
    last = found.read("box-1")
    assert last.image.size == (96, 64)
    assert [mask.sum() for mask in last.masks] == [24 * 32, 32 * 24]
    small = write_photographs(tmp_path / "small", 2)
    PIL.Image.open(small / "box-0-mask-0.png").resize((48, 32)).save(small / "box-0-mask-0.png")
    (mask,) = WholePhotographs(small).read("box-0").masks
    assert mask.shape == (64, 96)
    assert mask.sum() == pytest.approx(24 * 32, rel=0.1)
    assert WholePhotographs(small).fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "0 photographs"),
        ([{"name": "box-0", "masks": []}], "is not a list of photographs"),
        ([{"name": "box-0", "image": "box-0.png", "masks": []}] * 2, "2 photographs with 1 names"),
        ([{"name": "a/b", "image": "box-0.png", "masks": []}], "a name without a folder"),
        ([{"name": "box-0", "image": "nowhere.png", "masks": []}], "names nowhere.png"),
    ],
)
def test_wrong_list_is_an_error(tmp_path, entries, message):
    folder = write_photographs(tmp_path / "boxes", 1)
    write_list(folder, entries)
    with pytest.raises(ValueError, match=message):
        WholePhotographs(folder)


def test_folder_without_a_list_or_of_another_format_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="has no wholes.json"):
        WholePhotographs(tmp_path)
    (tmp_path / "wholes.json").write_text('{"format": "other", "version": 1, "photographs": []}')
    with pytest.raises(ValueError, match="has the format"):
        WholePhotographs(tmp_path)


@pytest.mark.parametrize(("color", "message"), [(0, "black everywhere"), (255, "white everywhere")])
def test_mask_of_nothing_or_everything_is_an_error(tmp_path, color, message):
    folder = write_photographs(tmp_path / "boxes", 1)
    PIL.Image.new("L", (96, 64), color).save(folder / "box-0-mask-0.png")
    with pytest.raises(ValueError, match=message):
        WholePhotographs(folder).read("box-0")
