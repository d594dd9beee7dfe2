"""A pair of networks with the interface of SAM, without weights: a thing is what has the color of its points."""

import json
import tarfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


SIZE = 256
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

# Squared distance between colors, in units of `STD`, up to which a thing reaches: of a part, and of the whole.
NEAR, FAR = 0.3, 3.5
PREDICTED_IOU = 0.95


class Graph:
    """Nodes and constants of a graph that is being built."""

    def __init__(self) -> None:
        self.nodes, self.constants = [], []

    def constant(self, value) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def __call__(self, operator: str, *inputs, output: str | None = None, **attributes) -> str:
        """Adds a node; inputs that are not names become constants. Returns the name of its output."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], **attributes))
        return output

    def save(self, path: Path, inputs: list, outputs: list) -> None:
        graph = helper.make_graph(self.nodes, "stand_in", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def value(name: str, shape: list, kind: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def write_encoder(path: Path, layout: str) -> None:
    """An encoder that returns its normalized, padded input.

    Args:
        layout (`str`): `"normalized"` is a float input `[1, 3, SIZE, SIZE]`, normalized outside; `"channels_last"` is
            a float input `[height, width, 3]` from 0 to 255; `"uint8"` is a uint8 input `[1, 3, SIZE, SIZE]`.
    """
    graph = Graph()
    if layout == "normalized":
        given = value("input", ["batch", 3, SIZE, SIZE])
        graph("Identity", "input", output="image_embeddings")
    elif layout == "uint8":
        given = value("image", [1, 3, SIZE, SIZE], TensorProto.UINT8)
        floats = graph("Cast", "image", to=TensorProto.FLOAT)
        centered = graph("Sub", floats, np.float32(MEAN).reshape(1, 3, 1, 1))
        graph("Div", centered, np.float32(STD).reshape(1, 3, 1, 1), output="image_embeddings")
    else:
        given = value("input_image", ["height", "width", 3])
        normalized = graph("Div", graph("Sub", "input_image", np.float32(MEAN)), np.float32(STD))
        channels_first = graph("Unsqueeze", graph("Transpose", normalized, perm=[2, 0, 1]), np.int64([0]))
        free = graph("Sub", np.int64([1, 3, SIZE, SIZE]), graph("Shape", channels_first))
        pads = graph("Concat", np.int64([0, 0, 0, 0]), free, axis=0)
        graph("Pad", channels_first, pads, output="image_embeddings")
    graph.save(path, [given], [value("image_embeddings", [1, 3, SIZE, SIZE])])


def write_decoder(path: Path, num_masks: int) -> None:
    """A decoder of pixels that are like a point with label 1 and unlike those with label 0.

    Args:
        num_masks (`int`): 1, or 4 as SAM's own export: for several points, then a part, something between, the whole.
    """
    graph = Graph()
    # The cell of each point; SAM adds 0.5, too.
    cells = graph("Cast", graph("Add", "point_coords", np.float32(0.5)), to=TensorProto.INT64)
    cells = graph("Clip", cells, np.int64(0), np.int64(SIZE - 1))
    numbers = graph("ReduceSum", graph("Mul", cells, np.int64([1, SIZE])), np.int64([0, 2]), keepdims=0)
    pixels = graph("Reshape", "image_embeddings", np.int64([3, -1]))
    colors = graph("Unsqueeze", graph("Gather", pixels, numbers, axis=1), np.int64([2]))
    difference = graph("Sub", graph("Unsqueeze", pixels, np.int64([1])), colors)
    distance = graph("ReduceSum", graph("Mul", difference, difference), np.int64([0]), keepdims=0)
    labels = graph("Reshape", "point_labels", np.int64([-1, 1]))

    def nearest(label: int) -> str:
        """For each pixel, the distance to the nearest color of the points with a label."""
        chosen = graph("Where", graph("Equal", labels, np.float32(label)), distance, np.float32(1000))
        return graph("ReduceMin", chosen, axes=[0], keepdims=0)

    inside, outside = nearest(1), nearest(0)
    masks = []
    for limit in [NEAR] if num_masks == 1 else [NEAR, NEAR, 1.0, FAR]:
        alike = graph("Sub", np.float32(limit), inside)
        nearer = graph("Mul", graph("Sub", outside, inside), np.float32(2))
        logits = graph("Mul", graph("Min", alike, nearer), np.float32(6 / limit))
        masks.append(
            graph("Reshape", graph("Clip", logits, np.float32(-6), np.float32(6)), np.int64([1, 1, SIZE, SIZE]))
        )
    graph("Concat", *masks, axis=1, output="low_res_masks")
    graph("Resize", "low_res_masks", "", np.float32([1, 1, 1, 1]), output="masks")
    graph("Identity", np.full((1, num_masks), PREDICTED_IOU, np.float32), output="iou_predictions")
    inputs = [
        value("image_embeddings", [1, 3, SIZE, SIZE]),
        value("point_coords", [1, "num_points", 2]),
        value("point_labels", [1, "num_points"]),
        value("mask_input", [1, 1, 256, 256]),
        value("has_mask_input", [1]),
        value("orig_im_size", [2]),
    ]
    outputs = [
        value("masks", [1, num_masks, SIZE, SIZE]),
        value("iou_predictions", [1, num_masks]),
        value("low_res_masks", [1, num_masks, SIZE, SIZE]),
    ]
    graph.save(path, inputs, outputs)


def write_segmenter(folder: Path, *, layout: str = "normalized", num_masks: int = 1) -> Path:
    """Writes both networks and, where the size of the input is free, `config.json`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_encoder(folder / "encoder.onnx", layout)
    write_decoder(folder / "decoder.onnx", num_masks)
    if layout == "channels_last":
        (folder / "config.json").write_text(json.dumps({"image_size": SIZE}))
    return folder


def write_matting_package(path: Path, side: int = 1024) -> Path:
    """Writes the archive of a package with a matting network that finds what is more red than gray."""
    graph = Graph()
    red = graph("Slice", "input", np.int64([0]), np.int64([1]), np.int64([1]))
    graph("Clip", graph("Mul", red, np.float32(100)), np.float32(0), np.float32(1), output="output")
    network, resources = path.with_suffix(".onnx"), path.with_suffix(".json")
    graph.save(network, [value("input", [1, 3, side, side])], [value("output", [1, 1, side, side])])
    resources.write_text(json.dumps({"/models/medium": {"chunks": [{"hash": "network", "offsets": [0, 1]}]}}))
    with tarfile.open(path, "w:gz") as archive:
        archive.add(network, "package/dist/network")
        archive.add(resources, "package/dist/resources.json")
    return path
