# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The state of a rollout after a frame, and the motion of one step."""

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .layers import LayerMotion, Layers
from .short_repr import ShortReprMixin


STATE_FORMAT = "mcdiff rollout state"
STATE_VERSION = "3"
READABLE_VERSIONS = ("1", "2", "3")  # version 1 had no layers and no output image, version 2 no features


@dataclass(frozen=True, eq=False, repr=False)
class Motion(ShortReprMixin):
    """
    The motion of one step, from the current frame to the next, on the latent grid.

    Args:
        dense_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`, *optional*):
            Forward flow in latent cells. None if F has not completed it yet, or in a model without F.
        sparse_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`, *optional*):
            Displacements that the strokes specify, in latent cells; 0 where `mask` is not set. None if there are no
            strokes and none are needed.
        mask (`torch.Tensor` of shape `(batch_size, 1, height, width)`, bool, *optional*):
            True where a stroke specifies the displacement.
        layers (`LayerMotion`, *optional*):
            The motion of each layer, for a state with layers.
    """

    dense_flow: torch.Tensor | None = None
    sparse_flow: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    layers: LayerMotion | None = None

    def still(self) -> Self:
        """The motion in which nothing moves and no stroke specifies anything."""
        parts = (self.dense_flow, self.sparse_flow, self.mask)
        dense_flow, sparse_flow, mask = (None if part is None else torch.zeros_like(part) for part in parts)
        layers = None if self.layers is None else self.layers.still()
        return type(self)(dense_flow, sparse_flow, mask, layers)

    def to(self, device: torch.device | str) -> Self:
        """The same motion on another device."""
        parts = (self.dense_flow, self.sparse_flow, self.mask)
        dense_flow, sparse_flow, mask = (None if part is None else part.to(device) for part in parts)
        layers = None if self.layers is None else self.layers.to(device)
        return type(self)(dense_flow, sparse_flow, mask, layers)


@dataclass(frozen=True, eq=False, repr=False)
class RolloutState(ShortReprMixin):
    """
    Everything that the next frame depends on, except its motion. It is never changed in place.

    A state can be kept, continued several times with other strokes, saved and loaded. A state is equal to itself only,
    so it can be found in a list and be a key of a dictionary.

    Args:
        frame (`int`):
            Index of the current frame.
        latents (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
            Scaled latents of the current frame.
        start_latents (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
            Scaled latents of frame 0.
        accumulated_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`):
            Flow from frame 0 to the current frame, float32, in latent cells. It stays zero if nothing needs it. With
            layers, it is their mean.
        dense_flow (`torch.Tensor` of shape `(batch_size, 2, height, width)`, *optional*):
            Flow from the previous frame to the current one, in latent cells; None at frame 0 and in a model without F.
        start_image (`torch.Tensor` of shape `(batch_size, 3, height * f, width * f)`, *optional*):
            Frame 0 in [0, 1], float32; only if something is made of it: the condition `start_picture`, layers,
            frames at an output size, or the input of an F with a size of its own.
        start_features (`torch.Tensor` of shape `(batch_size, channels, grid_height, grid_width)`, *optional*):
            Semantic features of frame 0 ([`~mcdiff_pipeline.semantic_features`]), float32; only in a model whose F
            reads them. Rounded to float16, they would jump with the last bits of the encoder, which depend on the
            machine and on the layout of its weights.
        layers (`Layers`, *optional*):
            The regions of each image, as layers of motion; None without regions.
        output_image (`torch.Tensor` of shape `(batch_size, 3, output_height, output_width)`, uint8, *optional*):
            Frame 0 at the size at which frames are shown; None shows them at the working size.
        prompt_embeds (`torch.Tensor` of shape `(batch_size, tokens, channels)`, *optional*):
            Encoded text; only in a model that reads text.
        image_sizes (`tuple[tuple[int, int], ...]`):
            (height, width) in which each image was given. Strokes are in pixels of that size.
        noise_state (`torch.Tensor` of shape `(1 or batch_size, bytes)`, uint8, *optional*):
            State of the generators that the noise of the next frame is drawn from: one for all images, or one for
            each. None draws from PyTorch's global generator.
        noise_device (`str`, defaults to `"cpu"`):
            Device of these generators.
    """

    frame: int
    latents: torch.Tensor
    start_latents: torch.Tensor
    accumulated_flow: torch.Tensor
    dense_flow: torch.Tensor | None = None
    start_image: torch.Tensor | None = None
    start_features: torch.Tensor | None = None
    layers: Layers | None = None
    output_image: torch.Tensor | None = None
    prompt_embeds: torch.Tensor | None = None
    image_sizes: tuple[tuple[int, int], ...] = ()
    noise_state: torch.Tensor | None = None
    noise_device: str = "cpu"

    def generator(self) -> torch.Generator | list[torch.Generator] | None:
        """New generators, in the state that the noise of the next frame is drawn from."""
        if self.noise_state is None:
            return None
        generators = []
        for state in self.noise_state:
            generators.append(torch.Generator(self.noise_device))
            generators[-1].set_state(state.clone())  # PyTorch 2.15 crashes with a view that does not start at 0
        return generators if len(generators) > 1 else generators[0]

    def to(self, device: torch.device | str) -> Self:
        """The same state on another device. The generators' state stays on the CPU, where PyTorch reads it."""
        moved: dict[str, Any] = {
            name: one.to(device) for name, one in self._tensors().items() if name != "noise_state"
        }
        if self.layers is not None:
            moved["layers"] = self.layers.to(device)
        return replace(self, **moved)

    @property
    def given_start_image(self) -> torch.Tensor:
        """Frame 0. Raises `ValueError` if the state does not hold it."""
        if self.start_image is None:
            raise ValueError(
                "The state holds no start image, but this model needs one: continue a state with the model that made "
                "it."
            )
        return self.start_image

    def _tensors(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}

    def save(self, path: str | os.PathLike) -> None:
        """
        Write the state to a safetensors file. The file appears under its name complete, or not at all.

        Args:
            path (`str` or `os.PathLike`):
                The file to write.

        Raises:
            OSError: If the file cannot be written.
        """
        metadata = {
            "format": STATE_FORMAT,
            "version": STATE_VERSION,
            "frame": str(self.frame),
            "image_sizes": json.dumps(self.image_sizes),
            "noise_device": self.noise_device,
        }
        tensors = self._tensors()
        if self.layers is not None:
            metadata["layers"] = self.layers.description()
            tensors |= {f"layers.{name}": tensor for name, tensor in self.layers.tensors().items()}
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
        try:
            # copies, since safetensors refuses tensors that share memory, as the two latents do at frame 0
            copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
            save_file(copies, unfinished, metadata)
            os.replace(unfinished, path)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}.") from error
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike, device: torch.device | str = "cpu") -> Self:
        """
        Read a state that [`RolloutState.save`] wrote.

        Args:
            path (`str` or `os.PathLike`):
                The file.
            device (`torch.device` or `str`, defaults to `"cpu"`):
                Device for the tensors.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a state of this version, or damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if metadata.get("format") != STATE_FORMAT or metadata.get("version") not in READABLE_VERSIONS:
                raise ValueError(f"it does not say that it is a rollout state of version 1 to {STATE_VERSION}")
            missing = [name for name in ("frame", "image_sizes", "noise_device") if name not in metadata]
            missing += [name for name in ("latents", "start_latents", "accumulated_flow") if name not in tensors]
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            image_sizes = tuple((int(height), int(width)) for height, width in json.loads(metadata["image_sizes"]))
            of_layers = {
                name.removeprefix("layers."): tensors.pop(name) for name in list(tensors) if name.startswith("layers.")
            }
            state = cls(
                frame=int(metadata["frame"]),
                image_sizes=image_sizes,
                noise_device=metadata["noise_device"],
                layers=Layers.from_file(of_layers, metadata.get("layers", ""), image_sizes) if of_layers else None,
                **tensors,
            )
            state._check()
        except (
            AttributeError,
            KeyError,
            OverflowError,
            RuntimeError,
            SafetensorError,
            TypeError,
            ValueError,
        ) as error:
            raise ValueError(f"{path} is not a rollout state that can be read: {error}.") from error
        return state.to(device)

    def _check(self) -> None:
        """Raises `ValueError` if the tensors do not fit together, or `RuntimeError` if `noise_state` is damaged."""
        if self.latents.ndim != 4 or 0 in self.latents.shape:
            raise ValueError(
                f"`latents` has the shape {tuple(self.latents.shape)}, but (images, channels, height, width) is needed"
            )
        batch, _, height, width = self.latents.shape
        flow = (batch, 2, height, width)
        expected = {"start_latents": tuple(self.latents.shape), "accumulated_flow": flow, "dense_flow": flow}
        if self.output_image is not None:
            expected["output_image"] = (batch, 3, *self.output_image.shape[2:])
        if self.start_image is not None:
            cell = max(self.start_image.shape[-1] // width, 1)
            expected["start_image"] = (batch, 3, height * cell, width * cell)
        for name, shape in expected.items():
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(f"`{name}` has the shape {tuple(tensor.shape)}, but `latents` need {shape}")
        for name, tensor in vars(self).items():
            is_floating_point = isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
            if isinstance(tensor, torch.Tensor) and is_floating_point == (name in ("noise_state", "output_image")):
                raise ValueError(f"`{name}` has the dtype {tensor.dtype}")
        if self.layers is not None:
            shares = self.layers.shares
            number, cell = shares.shape[1], max(shares.shape[-1] // width, 1)
            if (
                self.layers.accumulated_flow.shape != (batch, number, *flow[1:])
                or shares.shape != (batch, number, height * cell, width * cell)
                # regions that were given to a later step do not need a start image
                or (self.start_image is not None and shares.shape[2:] != self.start_image.shape[2:])
            ):
                raise ValueError("its layers do not fit its latents and its start image")
        if self.prompt_embeds is not None and (self.prompt_embeds.ndim != 3 or len(self.prompt_embeds) != batch):
            raise ValueError(
                f"`prompt_embeds` has the shape {tuple(self.prompt_embeds.shape)}, but ({batch}, tokens, channels) is "
                "needed"
            )
        features = self.start_features
        if features is not None and (features.ndim != 4 or len(features) != batch or 0 in features.shape):
            raise ValueError(
                f"`start_features` has the shape {tuple(features.shape)}, but ({batch}, channels, grid_height, "
                "grid_width) is needed"
            )
        if self.noise_state is not None and (self.noise_state.ndim != 2 or len(self.noise_state) not in (1, batch)):
            raise ValueError(
                f"`noise_state` has the shape {tuple(self.noise_state.shape)}, but one row for all images or one for "
                "each is needed"
            )
        if torch.device(self.noise_device).type == "cpu":
            self.generator()  # on other devices only where they exist
        if len(self.image_sizes) != batch:
            raise ValueError(f"there are {len(self.image_sizes)} image sizes, but `latents` are for {batch} images")
        if self.frame < 0:
            raise ValueError(f"`frame` is {self.frame}, but frames count from 0")


def noise_state_of(generator: torch.Generator | list[torch.Generator] | None) -> tuple[torch.Tensor | None, str]:
    """The fields `noise_state` and `noise_device` of a state whose noise comes from `generator`."""
    if generator is None:
        return None, "cpu"
    generators = generator if isinstance(generator, list) else [generator]
    return torch.stack([one.get_state() for one in generators]), str(generators[0].device)
