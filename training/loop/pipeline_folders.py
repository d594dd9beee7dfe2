"""Reading a pipeline folder for training, and writing one."""

from pathlib import Path

import torch
from diffusers import AutoencoderDC, AutoencoderKL, DDIMScheduler, ModelMixin, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer, Dinov2Model

from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.atomic_files import atomic_folder


# The settings of a pipeline that describe how its unet was trained. They stay as they are.
CONDITION_SETTINGS = ("conditioning", "flow_scale", "residual_condition", "residual_scale")


def is_pipeline_folder(folder: str | Path | None) -> bool:
    return folder is not None and Path(folder, "model_index.json").is_file()


def load_pipeline(folder: str | Path, vae: AutoencoderDC | AutoencoderKL) -> MCDiffPipeline:
    """Loads a pipeline to train on, with an autoencoder that is already loaded.

    `from_pretrained` is not used, so that the models have the precision and the memory layout of training.
    """
    config = MCDiffPipeline.load_config(folder)
    flow_completion = text_encoder = tokenizer = image_encoder = None
    if config["flow_completion"][0] is not None:
        flow_completion = FlowCompletionUNet.from_pretrained(folder, subfolder="flow_completion")
    if config["text_encoder"][0] is not None:
        text_encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").to(vae.device)
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    if config.get("image_encoder", [None])[0] is not None:  # older folders do not name it
        image_encoder = Dinov2Model.from_pretrained(folder, subfolder="image_encoder").to(vae.device)
    settings = {
        name: value for name, value in config.items() if name in CONDITION_SETTINGS or name.startswith("default_")
    }
    pipe = MCDiffPipeline(
        vae=vae,
        flow_completion=flow_completion,
        unet=UNet2DConditionModel.from_pretrained(folder, subfolder="unet"),
        scheduler=DDIMScheduler.from_pretrained(folder, subfolder="scheduler"),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        image_encoder=image_encoder,
        **settings,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_pipeline(pipe: MCDiffPipeline, output_dir: str | Path) -> None:
    """Writes a pipeline folder atomically, in half precision. The pipeline stays in half precision."""
    for part in pipe.components.values():
        if isinstance(part, ModelMixin):
            part.register_to_config(_name_or_path=Path(output_dir).name)  # not the folder that it was trained in
    atomic_folder(output_dir, pipe.to(torch.float16).save_pretrained)
