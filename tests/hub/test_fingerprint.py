import torch

from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.hub.fingerprint import model_fingerprint
from support.tiny_models import make_feature_pipeline


def test_it_is_that_of_the_weights_and_the_configuration():
    pipe = make_feature_pipeline()
    first = model_fingerprint(pipe)
    assert len(first) == 16 and model_fingerprint(pipe) == first
    with torch.no_grad():
        pipe.image_encoder.layernorm.bias.add_(1)
    second = model_fingerprint(pipe)
    pipe.image_encoder.config.layer_norm_eps *= 2
    assert len({first, second, model_fingerprint(pipe)}) == 3


def test_it_stays_when_the_model_is_saved(tmp_path):
    pipe = make_feature_pipeline()
    pipe.save_pretrained(tmp_path)
    assert model_fingerprint(MCDiffPipeline.from_pretrained(tmp_path)) == model_fingerprint(pipe)
