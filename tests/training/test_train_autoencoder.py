"""The training of the autoencoder, with tiny models, photographs and clips."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import train_autoencoder
from diffusers import AutoencoderDC

from loop.autoencoder import load_vae
from mcdiff_pipeline.latent_codec import latent_scaling
from support.tiny_models import make_deep_compression_autoencoder, make_vae
from support.training_runs import arguments, logged


def logged_names(folder) -> set[str]:
    return {name for line in (folder / "log.jsonl").read_text().splitlines() for name in json.loads(line)}


def test_scaled_latents_have_unit_variance(data, trained):
    vae = AutoencoderDC.from_pretrained(trained["train_autoencoder"], subfolder="vae")
    image = train_autoencoder.read_photographs([str(data / "photographs")])[0]
    rng = np.random.default_rng(0)
    patches = torch.stack([train_autoencoder.random_patch(image, 32, rng) for _ in range(64)])
    with torch.no_grad():
        latents = vae.encode(patches).latent * vae.config.scaling_factor
    assert latents.std() == pytest.approx(1, rel=0.35)


def test_frozen_encoder_leaves_only_the_decoder_to_train(data, trained, tmp_path):
    before = AutoencoderDC.from_pretrained(trained["train_autoencoder"], subfolder="vae")
    changes = {"pretrained_model_name_or_path": trained["train_autoencoder"] / "vae", "freeze_encoder": True}
    assert train_autoencoder.main(arguments(data, "train_autoencoder", tmp_path, **changes)) == 0
    after = AutoencoderDC.from_pretrained(tmp_path, subfolder="vae")
    assert after.config.scaling_factor == before.config.scaling_factor
    changed = {
        key.split(".")[0]
        for key, tensor in after.state_dict().items()
        if not torch.equal(tensor, before.state_dict()[key])
    }
    assert changed == {"decoder"}


def test_new_autoencoder_learns_the_latents_of_a_teacher(data, tmp_path):
    config = json.loads((data / "vae.json").read_text()) | {"decoder_layers_per_block": [0, 1, 2]}
    (tmp_path / "vae.json").write_text(json.dumps(config))
    changes = {"teacher": data / "vae", "model_config": tmp_path / "vae.json", "max_train_steps": 20}
    changes |= {"use_ema": None, "learning_rate": 1e-2}
    assert train_autoencoder.main(arguments(data, "train_autoencoder", tmp_path / "out", **changes)) == 0
    assert load_vae(str(tmp_path / "out/vae"), "cpu").config.scaling_factor == 1.5  # that of the teacher
    encoding = list(logged(tmp_path / "out", "encoding").values())
    assert encoding[-1] < 0.7 * encoding[0]
    assert {f"psnr_clips_{name}" for name in ("teacher", "encoder", "decoder")} <= logged_names(tmp_path / "out")


def test_teacher_with_other_latents_is_refused(data, tmp_path):
    changes = {"teacher": data / "vae", "latent_channels": 3}
    with pytest.raises(
        ValueError, match="has latents of 3 channels and cells of 4 pixels, but the teacher .* 4 and 4"
    ):
        train_autoencoder.main(arguments(data, "train_autoencoder", tmp_path, **changes))


def test_student_takes_over_the_scaling_of_its_teacher(data, tmp_path):
    teacher = make_vae(scaling_factor=0.5, shift_factor=0.25)
    teacher.save_pretrained(tmp_path / "teacher")
    student = make_vae()
    train_autoencoder.load_teacher(str(tmp_path / "teacher"), student, torch.device("cpu"))
    assert latent_scaling(student) == (0.5, 0.25)
    other = make_deep_compression_autoencoder()
    with pytest.raises(ValueError, match="shifted by 0.25, which an AutoencoderDC cannot do"):
        train_autoencoder.load_teacher(str(tmp_path / "teacher"), other, torch.device("cpu"))


def test_variational_autoencoder_can_be_trained(data, tmp_path):
    config = {
        "_class_name": "AutoencoderKL",
        "latent_channels": 4,
        "block_out_channels": [8, 8, 8],
        "norm_num_groups": 4,
    }
    config |= {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    (tmp_path / "vae.json").write_text(json.dumps(config))
    changes = {"model_config": tmp_path / "vae.json", "max_train_steps": 2, "validation_data_dir": None}
    assert train_autoencoder.main(arguments(data, "train_autoencoder", tmp_path / "out", **changes)) == 0
    assert load_vae(tmp_path / "out/vae", "cpu").config.latent_channels == 4


def test_latent_and_image_get_the_same_shift():
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    image = (3 * x + 5 * y)[None, None]
    latent, moved = train_autoencoder.shift_latent_and_image(F.avg_pool2d(image, 4), image, (1, 3), 4)
    torch.testing.assert_close(F.avg_pool2d(moved, 4), latent)
