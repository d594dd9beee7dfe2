import sys
from importlib.util import find_spec

import pytest
import torch

from mcdiff_pipeline import Stroke
from mcdiff_pipeline.openvino_networks import use_openvino
from support.tiny_models import make_pipeline


# without an import, since OpenVINO has to be imported by the library
pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


def test_openvino_makes_the_frames_of_pytorch(image):
    expected, pipe = make_pipeline(), make_pipeline()
    use_openvino(pipe)
    assert not sys.modules.get("openvino_telemetry")
    strokes = [Stroke([(10, 10), (20, 12)])]
    videos = [
        one(image, strokes, num_frames=2, output_type="pt", generator=torch.Generator().manual_seed(0))
        for one in (expected, pipe)
    ]
    assert torch.allclose(videos[0].frames, videos[1].frames, atol=2e-3)
    assert torch.allclose(videos[0].dense_flow, videos[1].dense_flow, atol=2e-2)


def test_openvino_refuses_what_it_cannot_run():
    with pytest.raises(ValueError, match="in torch.float16, but OpenVINO runs it on a CPU in float32 or bfloat16"):
        use_openvino(make_pipeline().to(torch.float16))
