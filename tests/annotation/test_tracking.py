import numpy as np

from mcdiff_pipeline.annotation.people import Person
from mcdiff_pipeline.annotation.tracking import match_people, track_people


def upright(x: float, y: float, *, height: float = 60.0, shape: tuple[int, int] = (96, 128)) -> Person:
    """An artificial person with the pelvis at (x, y): an ellipse with joints from head to foot."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    mask = ((columns - x) / (0.2 * height)) ** 2 + ((rows - y) / (0.5 * height)) ** 2 < 1
    keypoints = np.full((17, 3), (x, y, 1), dtype=np.float32)
    keypoints[:, 1] += np.linspace(-0.45, 0.45, 17, dtype=np.float32) * height
    keypoints[11:13, :2] = (x, y)
    return Person(keypoints, mask.astype(np.float32))


def test_people_are_matched_in_any_order():
    first = [upright(30, 50), upright(60, 50), upright(95, 48)]
    moved = [upright(36, 52), upright(66, 50), upright(90, 50)]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        second = [moved[number] for number in order]
        assert match_people(first, second) == [(i, order.index(i)) for i in range(3)]


def test_people_who_leave_or_arrive_have_no_match():
    first, second = [upright(30, 50), upright(100, 50)], [upright(98, 52)]
    assert match_people(first, second) == [(1, 0)]
    assert match_people(second, first) == [(0, 1)]
    assert match_people([], second) == match_people(first, []) == []


def test_displacement_too_large_for_size_is_no_match():
    assert match_people([upright(30, 50)], [upright(50, 50)]) == [(0, 0)]
    assert match_people([upright(30, 50)], [upright(70, 50)]) == []
    assert match_people([upright(30, 50, height=20)], [upright(50, 50, height=20)]) == []


def test_different_outline_is_no_match():
    assert match_people([upright(60, 50, height=80)], [upright(60, 50, height=25)]) == []


def test_pelvis_outside_the_image_is_no_match():
    first, second = upright(40, 50), upright(40, 50)
    first.keypoints[:, 1] *= 10  # as if only the head of a very large person were in the image
    second.keypoints[:, 1] = first.keypoints[:, 1] - 100
    assert match_people([first], [second]) == match_people([second], [first]) == []


def test_assignment_has_largest_sum_not_best_single_pair():
    # The nearest pair is 52 to 51. It would leave 40 to 64, which agrees little.
    first, second = [upright(40, 50), upright(52, 50)], [upright(51, 50), upright(64, 50)]
    assert match_people(first, second) == [(0, 0), (1, 1)]


def test_tracks_end_where_a_person_is_lost_and_single_detections_are_left_out():
    steady, lost, seen_once = ([upright(x + 4 * t, 50) for t in range(4)] for x in (25, 60, 95))
    people = [[steady[0], lost[0]], [steady[1], lost[1], seen_once[1]], [steady[2]], [steady[3], lost[3]]]
    tracks = track_people(people)
    assert [sorted(track) for track in tracks] == [[0, 1, 2, 3], [0, 1]]
    assert all(tracks[0][t] is steady[t] for t in range(4)) and all(tracks[1][t] is lost[t] for t in range(2))
