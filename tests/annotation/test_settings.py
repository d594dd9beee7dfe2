import json

import pytest

from mcdiff_pipeline.annotation.settings import AnnotationSettings, SelectionSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resolution": 31}, "`resolution`.*31.*at least 32"),
        ({"resolution": (256, 0)}, "`resolution`.*width of 0"),
        ({"resolution": 64.5}, "`resolution`.*64.5"),
        ({"num_frames": 1}, "`num_frames` is 1.*at least 2"),
        ({"displacement_range": (4.0, 2.0)}, "`displacement_range`.*smaller one first"),
        ({"displacement_range": (0.0, 2.0)}, "`displacement_range`.*above 0"),
        ({"max_gap": 0}, "`max_gap` is 0.*at least 1"),
        ({"max_seconds": 0.0}, "`max_seconds` is 0.0.*above 0"),
    ],
)
def test_invalid_selection_settings_are_rejected(values, message):
    with pytest.raises(ValueError, match=message):
        SelectionSettings(**values)


def test_one_number_is_a_square():
    assert SelectionSettings(128).size == (128, 128)
    assert SelectionSettings((128, 192)).size == (128, 192)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"require_person": True}, "only with a `pose_model`"),
        ({"flow": "pwc"}, "`flow` is 'pwc'.*'raft_large', 'raft_small', 'gmflow', 'dis'"),
        ({"dtype": "int8"}, "`dtype` is 'int8'.*'float32', 'float16', 'bfloat16'"),
        ({"frame_format": "gif"}, "`frame_format` is 'gif'.*'jpg', 'png'"),
        ({"max_people": 0}, "`max_people` is 0, but it has to be at least 1"),
    ],
)
def test_invalid_annotation_settings_are_rejected(values, message):
    with pytest.raises(ValueError, match=message):
        AnnotationSettings(**values)


def test_settings_depend_on_the_content_of_files_not_on_their_paths(tmp_path):
    for name, content in (("a.task", b"one"), ("b.task", b"one"), ("c.task", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (AnnotationSettings(pose_model=str(tmp_path / f"{name}.task")).as_dict() for name in "abc")
    assert a == b != c
    assert str(tmp_path) not in json.dumps(a)


def test_folders_of_weights_differ_by_weights_and_configuration(tmp_path):
    contents = {"a": (b"one", "{}"), "b": (b"one", "{}"), "c": (b"two", "{}"), "d": (b"one", '{"upsampling": 2}')}
    values = {}
    for name, (weights, config) in contents.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text(config)
        values[name] = AnnotationSettings(flow="raft_small", flow_weights=str(folder)).as_dict()["flow_weights"]
    assert values["a"] == values["b"] and len(set(values.values())) == 3
    assert str(tmp_path) not in json.dumps(values)
