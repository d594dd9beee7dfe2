# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What the model computes for sessions. Used only in the thread that owns the model."""

import collections
import contextlib
import math
import os
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..evaluation.drawn_strokes import SEARCHED_FRAMES, FoundHandle, found_handles
from ..evaluation.metrics.handle_search import scaled_to
from ..frame_decoder import FrameDecoder
from ..hub.fingerprint import model_fingerprint
from ..motion.camera import Camera, CameraKeyframe
from ..motion.description import describe_camera
from ..motion_completion import layer_of_stroke
from ..pipeline_mcdiff import MCDiffPipeline
from ..regions import Region
from ..rollout import RolloutState
from ..strokes import Stroke, StrokeSheet
from ..video.clip_metadata import ClipMetadata, ClipPart, ClipSettings
from .archive import read_picture_file
from .camera_moves import camera_of, first_frame, moves_of
from .protocol import Flow, TreeSettings, fields_of_camera
from .refusals import Refused
from .sessions import Session
from .settings import LARGEST_AREA, STATES_BYTES, StudioSettings
from .sheets import SheetMaker, make_regions, make_sheet, refusal_of
from .states import at_output_size, at_working_size, own_bytes, state_bytes, state_from_bytes
from .stored_frames import open_frame
from .tree import Node, NodeSettings, Score, branch_of, cameras_of, node_with_frame


# States at frame 0 that are kept, of all sessions: each has the picture and the masks.
START_BYTES = 512 * 1024**2
# What is separated from the picture to show frames with its detail, of all sessions.
DECODER_BYTES = 256 * 1024**2

# Shorter side of the frames in which handles are searched for, in pixels: the time grows with the fourth power of it.
SCORED_SIDE = 256
# A handle is hidden if its layer shows in less than this part of what it showed of the patch around it in frame 0.
VISIBLE_SHARE = 0.98
# Strokes are compared with each other up to this number of them.
CHECKED_STROKES = 40

# Stands for any camera where a state begins: what the camera does, only its steps say.
_ANY_CAMERA = Camera([CameraKeyframe(0)], 1, 1)

_FLOW = np.dtype("<f2")

Made = TypeVar("Made")


class Cache(collections.OrderedDict):
    """
    A dictionary that forgets what was used least recently.

    Args:
        limit (`int`): Bytes of all values.
    """

    def __init__(self, limit: int):
        super().__init__()
        self.limit, self.bytes = limit, 0
        self._sizes: dict[Any, int] = {}

    def keep(self, key: Any, value: Any, size: int) -> None:
        """Keeps a value of `size` bytes; the newest is kept in any case."""
        self.drop(key)
        self[key], self._sizes[key] = value, size
        self.bytes += size
        while self.bytes > self.limit and len(self) > 1:
            self.drop(next(iter(self)))

    def find(self, key: Any) -> Any:
        """The value, or None."""
        if key in self:
            self.move_to_end(key)
        return self.get(key)

    def drop(self, key: Any) -> None:
        if key in self:
            del self[key]
            self.bytes -= self._sizes.pop(key)


class Engine:
    """
    A model, and the states of the sessions that use it.

    Args:
        pipe (`MCDiffPipeline`): The model.
        name (`str`): Its name in clips.
        settings (`StudioSettings`): The options of the server.
    """

    def __init__(self, pipe: MCDiffPipeline, name: str, settings: StudioSettings):
        self.pipe, self.name, self.settings = pipe, name, settings
        self.pipe.set_progress_bar_config(disable=True)
        self.fingerprint = model_fingerprint(pipe)
        self._starts = Cache(START_BYTES)
        self._decoders = Cache(DECODER_BYTES)
        self._states: dict[str, Cache] = {}
        self._regions: collections.OrderedDict[Any, list[Region]] = collections.OrderedDict()
        self._segmenter: Any = None
        self._detector: Any = None

    def describe(self) -> dict[str, Any]:
        """What the page is told of the model."""
        config = self.pipe.config
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "cell": self.pipe.vae_scale_factor,
            "multiple": self.pipe.size_multiple,
            "area": config.default_height * config.default_width,
            "has_flow": self.pipe.flow_completion is not None,
            "can_resize": self.pipe.conditioner.needs_dense_flow,
            "defaults": {
                "num_frames": config.default_num_frames,
                "fps": 8.0,
                "steps": config.default_num_inference_steps,
                "guidance": config.default_guidance_scale,
            },
        }

    def forget(self, session: Session) -> None:
        """Drops what is kept for a session."""
        self._states.pop(session.id, None)
        for cache in (self._starts, self._decoders, self._regions):
            for key in [key for key in cache if key[0] == session.id]:
                cache.drop(key) if isinstance(cache, Cache) else cache.pop(key)

    # Sizes and settings

    def working_size(self, session: Session, size: int | None) -> tuple[int, int]:
        """
        The working (height, width) of a picture.

        Args:
            session (`Session`): Has the picture.
            size (`int`, *optional*): The shorter side; None is the server's default, else the size that stretches the
                picture least.

        Raises:
            Refused: If it is too large, or not a multiple of what the model needs.
        """
        width, height = session.size
        size, bounds, processor = size or self.settings.size, self.settings.bounds, self.pipe.image_processor
        if size is not None:
            if size > bounds.shorter_side:
                raise Refused(
                    f"size is {size}; the shorter side may have {bounds.shorter_side} pixels here: choose a smaller "
                    "one, frames can be larger all the same.",
                    code="limit",
                    field="size",
                )
            if size % processor.size_multiple:
                multiple = processor.size_multiple
                raise Refused(
                    f"size is {size}, but this model needs a multiple of {multiple}: "
                    f"{max(round(size / multiple), 1) * multiple} is the nearest.",
                    field="size",
                )
        if size is None:
            working = processor.fitting_size((height, width))
        else:
            given = (size, None) if height <= width else (None, size)
            working = processor.working_size((height, width), *given)
        if working[0] * working[1] > LARGEST_AREA * bounds.shorter_side**2:
            raise Refused(
                f"The motion would be computed at {working[1]} x {working[0]} pixels, which is too much: choose a "
                "smaller size, or crop the picture.",
                code="limit",
                field="size",
            )
        return working

    def output_size(self, session: Session, output: str, working: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) of full frames."""
        width, height = session.size
        if output == "working" or not self.pipe.conditioner.needs_dense_flow:
            return working
        zoom = min(1.0, self.settings.bounds.output_side / max(width, height))
        return max(round(height * zoom), 1), max(round(width * zoom), 1)

    def node_settings(self, session: Session, given: TreeSettings) -> NodeSettings:
        """The settings of a new tree, with the model's defaults. Raises `Refused` as [`working_size`] does."""
        working = self.working_size(session, given.size)
        output = self.output_size(session, given.output, working)
        config = self.pipe.config
        return NodeSettings(
            seed=given.seed,
            steps=given.steps or config.default_num_inference_steps,
            guidance=config.default_guidance_scale if given.guidance is None else given.guidance,
            width=working[1],
            height=working[0],
            output_width=output[1],
            output_height=output[0],
        )

    def check(self, session: Session, branch: Sequence[Node]) -> None:
        """
        Checks the last node of a branch before it is rendered.

        Raises:
            Refused: If its strokes or regions are wrong.
        """
        node = branch[-1]
        if (node.regions is not None or node.camera) and not self.pipe.conditioner.needs_dense_flow:
            raise Refused(
                "There are regions or a camera, but this model has no dense flow that could move them: remove them.",
                code="regions",
            )
        self._camera(session, branch)
        # as they were drawn, so that the sentence is about what the page shows
        make_sheet(node.strokes, session.size, node.num_frames, node.fps)
        SheetMaker(session.files, session.size).of_branch(branch, self._regions_of_node(session, node))

    # States

    def picture(self, session: Session) -> Image.Image:
        """The picture. Raises `Refused` if its file is gone."""
        return read_picture_file(session.files)

    def output_picture(self, session: Session, settings: NodeSettings) -> Image.Image:
        """The picture at the size of full frames, as 8-bit RGB: frame 0. A clip contains it, and replays from it."""
        picture = self.picture(session)
        size = settings.output_width, settings.output_height
        if picture.size == size:
            return picture
        processor = self.pipe.image_processor
        (images,) = cast(torch.Tensor, processor.to_output_size(processor.load(picture), (size[1], size[0])))
        return Image.fromarray(images.permute(1, 2, 0).numpy())

    def start(
        self, session: Session, settings: NodeSettings, regions: str | None, *, has_camera: bool = False
    ) -> RolloutState:
        """The state at frame 0, at the output size. Without regions, it is one layer if it `has_camera`, which moves
        later frames. Raises `Refused` if the regions are wrong."""
        key = (session.id, settings, regions, has_camera)
        state = self._starts.find(key)
        if state is None:
            image = self.output_picture(session, settings)
            is_larger = image.size != (settings.width, settings.height)
            try:
                state = self.pipe.start(
                    image,
                    settings.height,
                    settings.width,
                    regions=self._regions_at(session, regions, image.size) or None,
                    output_size="image" if is_larger else None,
                    motion=_ANY_CAMERA if has_camera else None,
                    generator=torch.Generator().manual_seed(settings.seed),
                )
            except (ValueError, TypeError) as error:
                raise refusal_of(error) from None
            self._starts.keep(key, state, own_bytes(state))
        return state

    def start_of(self, session: Session, node: Node) -> RolloutState:
        """The state at frame 0 with all that the states of a node share; see [`start`]."""
        has_camera = node.regions is None and self._has_camera(session, node)
        return self.start(session, node.settings, node.regions, has_camera=has_camera)

    def state(self, session: Session, node: Node, frame: int) -> RolloutState:
        """
        The state at a frame of a branch, for frames of the working size.

        Raises:
            Refused: If there is no such frame, another model made it, or its file is damaged.
        """
        node = node_with_frame(session.nodes, node, frame)
        start = self.start_of(session, node)
        if frame == 0:
            return at_working_size(start)
        if frame > node.last:
            raise Refused(
                f"Frame {frame} is not made yet; the last one is {node.last}.",
                code="node",
                field="frame",
                node=node.id,
            )
        if node.model != self.fingerprint:
            raise Refused(
                "Another model made this version: look at it and export it, or render it again from frame 0.",
                code="node",
                node=node.id,
            )
        states = self._states.setdefault(session.id, Cache(STATES_BYTES))
        state = states.find((node.id, frame))
        if state is None:
            try:
                content = session.files.read(session.files.frame_name(node.id, frame, "safetensors"))
                state = state_from_bytes(content, at_working_size(start))
                if state.frame != frame:
                    raise ValueError(f"it is of frame {state.frame}")
            except (OSError, ValueError) as error:
                raise Refused(
                    f"Frame {frame} cannot be continued ({error}): choose another frame.", code="node", node=node.id
                ) from None
            states.keep((node.id, frame), state, own_bytes(state, start))
        return state

    def keep(self, session: Session, node: Node, state: RolloutState) -> None:
        """Writes the state of a new frame, and keeps it. Raises `OSError` if it cannot be written."""
        start = self.start_of(session, node)
        name = session.files.frame_name(node.id, state.frame, "safetensors")
        session.files.write(name, state_bytes(state, start))
        states = self._states.setdefault(session.id, Cache(STATES_BYTES))
        states.keep((node.id, state.frame), at_working_size(state), own_bytes(state, start))

    # Flow and frames

    def flow(self, session: Session, request: Flow) -> tuple[bytes, dict[str, Any]]:
        """
        The dense flow of a step.

        Returns:
            `tuple[bytes, dict]`: float16 `[2, h, w]`, little endian, in pixels of the working size; and `h`, `w`,
            `width`, `height`, and the `warnings` of [`stroke_warnings`].

        Raises:
            Refused: If the request is wrong, or the model has no F.
        """
        if self.pipe.flow_completion is None:
            raise Refused("This model shows no motion before rendering: press Render to see it.", code="no-flow")
        self.check_num_frames(request.num_frames)
        sheet = make_sheet(request.strokes, session.size, request.num_frames)
        before: list[Any] = []
        if request.node is None:
            if request.frame != 0:
                raise Refused(f"frame is {request.frame}, but nothing is rendered yet: give 0.", field="frame")
            height, width = self.working_size(session, request.size)
            settings = NodeSettings(0, 1, 1.0, width, height, width, height)
            state = start = self.start(session, settings, request.regions)
        else:
            node = session.nodes.get(request.node)
            if node is None:
                raise Refused("This version is no longer there: choose another one in the tree.", code="node")
            state = self.state(session, node, request.frame)
            start = self.start_of(session, node)
            if request.frame > 0:
                before = cameras_of(branch_of(session.nodes, node_with_frame(session.nodes, node, request.frame)))
        drawn = fields_of_camera(request.camera)
        camera = camera_of([*before, (request.frame, drawn)], session.size, request.num_frames)
        try:
            flow = self.pipe.predict_flow(state, sheet, num_frames=request.num_frames, motion=camera)[0]
        except (ValueError, TypeError) as error:
            raise refusal_of(error) from None
        h, w = flow.shape[1:]
        cell = self.pipe.vae_scale_factor
        content = flow.cpu().numpy().astype(_FLOW).tobytes()
        header = {"h": h, "w": w, "width": w * cell, "height": h * cell}
        return content, header | {"warnings": self._warnings(start, sheet)}

    def stroke_warnings(self, session: Session, node: Node) -> list[dict[str, Any]]:
        """
        What may not work in the strokes of a node, as they are drawn.

        Returns:
            `list[dict]`: `message`, a sentence; and `strokes`, the indices of those that it is about. Empty if
            there are more strokes than the page advises: comparing each with each would take too long.
        """
        start = self.start_of(session, node)
        return self._warnings(start, make_sheet(node.strokes, session.size, node.num_frames, node.fps))

    def _warnings(self, start: RolloutState, sheet: StrokeSheet) -> list[dict[str, Any]]:
        if len(sheet.strokes) > CHECKED_STROKES:
            return []
        try:
            # the sentences count pixels of the picture, whatever the size of frames
            problems = self.pipe.check_strokes(replace(start, image_sizes=((sheet.height, sheet.width),)), sheet)
        except (ValueError, TypeError):  # what is wrong with them, others say
            return []
        return [
            {"message": one.message[:1].upper() + one.message[1:], "strokes": list(one.strokes)} for one in problems
        ]

    def check_num_frames(self, num_frames: int) -> None:
        """Raises `Refused` if a video may not have as many frames."""
        if num_frames > self.settings.bounds.frames:
            raise Refused(
                f"num_frames is {num_frames}; at most {self.settings.bounds.frames} are possible here: make a shorter "
                "video, or continue it as another one.",
                code="limit",
                field="num_frames",
            )

    def frames(
        self,
        session: Session,
        node: Node,
        cancel: threading.Event,
        on_step: Callable[[int, int, int], None],
        node_at: Callable[[int], Node] | None = None,
    ) -> Generator[tuple[Image.Image, RolloutState], None, None]:
        """
        The frames of a node that are still to be made.

        Args:
            session (`Session`): Has the node.
            node (`Node`): The node.
            cancel (`threading.Event`): Ends it before the next denoising step.
            on_step (`Callable[[int, int, int], None]`): Called after each denoising step with the frame that is being
                made, the step, from 1, and the number of steps.
            node_at (`Callable[[int], Node]`, *optional*): Gives, before each frame, the node with its strokes so far;
                called with the current frame. The frames then have no end.

        Yields:
            A frame, at the size of the node, and its state.

        Raises:
            Refused: If the strokes are wrong, or the parent's frame cannot be continued.
        """
        branch, settings = branch_of(session.nodes, node), node.settings
        maker, regions = SheetMaker(session.files, session.size), self._regions_of_node(session, node)
        state = self.state(session, node, node.last)
        if node.size == "output":
            state = at_output_size(state, self.start_of(session, node))
        decoder = self._decoder(session, node, state)

        def strokes_at(frame: int) -> Sequence[Stroke]:
            assert node_at is not None
            return maker.of_branch([*branch[:-1], node_at(frame)], regions).strokes

        def after_step(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(index // settings.steps + 1, index % settings.steps + 1, settings.steps)
            return {}

        try:
            stream = self.pipe.stream(
                state,
                maker.of_branch(branch, regions) if node_at is None else strokes_at,
                num_frames=node.num_frames if node_at is None else None,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                motion=self._camera(session, branch),
                output_type="latent",  # a decoder of its own would decode and separate the picture for each node
                callback_on_step_end=after_step,
                callback_on_step_end_tensor_inputs=(),
                cancel=cancel,
                return_states=True,
            )
        except (ValueError, TypeError) as error:
            raise refusal_of(error) from None
        with contextlib.closing(cast(Generator[tuple[torch.Tensor, RolloutState], None, None], stream)) as states:
            for _, state in states:
                yield self._shown(decoder, state), state

    def full_frames(self, session: Session, node: Node, frames: Iterable[int]) -> Iterator[tuple[int, Image.Image]]:
        """
        Frames of a branch at the output size, without diffusion.

        Raises:
            Refused: As [`state`] does.
        """
        for frame in frames:
            if frame == 0:
                yield 0, self.output_picture(session, node.settings)
                continue
            owner = node_with_frame(session.nodes, node, frame)
            start = self.start_of(session, owner)
            state = at_output_size(self.state(session, owner, frame), start)
            yield frame, self._shown(self._decoder(session, owner, start), state)

    def _decoder(self, session: Session, node: Node, state: RolloutState) -> FrameDecoder:
        """Decodes the frames of the tree of a node at the size at which `state`, any of its states, is shown."""
        has_camera = node.regions is None and self._has_camera(session, node)
        key = (session.id, node.settings, node.regions, has_camera, state.output_image is not None)
        decoder = self._decoders.find(key)
        if decoder is None:
            decoder = FrameDecoder(self.pipe.vae, self.pipe.conditioner, with_detail=True)
            self._decoders.keep(key, decoder, own_bytes(state))  # it holds the picture and its layers once more
        return decoder

    @torch.no_grad()
    def _shown(self, decoder: FrameDecoder, state: RolloutState) -> Image.Image:
        """The frame of a state."""
        (images,) = decoder.decode([state])
        return cast(Image.Image, self.pipe.image_processor.postprocess(images[:, None], "pil")[0][0])

    def clip(self, session: Session, node: Node) -> ClipMetadata:
        """What a clip of a branch contains, so that `mcdiff generate --replay` makes the same frames."""
        settings, num_frames = node.settings, max(node.last + 1, 2)
        branch = branch_of(session.nodes, node)
        sheet = SheetMaker(session.files, session.size).of_branch(
            branch, self._regions_of_node(session, node), num_frames
        )
        motion, parts = self._motion_of_clip(session, branch, sheet)
        return ClipMetadata(
            self.name,
            node.model,
            ClipSettings(
                num_frames=num_frames,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                seed=settings.seed,
                fps=node.fps,
                dtype=str(self.pipe.unet.dtype).removeprefix("torch."),
                height=settings.height,
                width=settings.width,
            ),
            sheet,
            self.output_picture(session, settings),
            motion=motion,
            parts=parts,
        )

    def _motion_of_clip(
        self, session: Session, branch: Sequence[Node], sheet: StrokeSheet
    ) -> tuple[tuple[dict[str, Any], ...], tuple[ClipPart, ...]]:
        """The camera of a branch in its clip; and its parts, if the camera is only there from one of them on."""
        camera, begin = self._camera(session, branch), first_frame(cameras_of(branch))
        if camera is None or begin is None or begin >= sheet.num_frames - 1:
            return (), ()
        motion = (describe_camera(camera),)
        if begin == 0:
            return motion, ()
        strokes = replace(sheet, regions=())
        return (), (ClipPart(0, strokes), ClipPart(begin, strokes, motion))

    def sheet(self, session: Session, node: Node) -> StrokeSheet:
        """The one sheet of a branch with its camera, for people: as it was drawn if the branch is a root."""
        maker, regions = SheetMaker(session.files, session.size), self._regions_of_node(session, node)
        branch = branch_of(session.nodes, node)
        camera = self._camera(session, branch)
        sheet = maker.of_node(node, regions) if node.parent is None else maker.of_branch(branch, regions)
        return sheet if camera is None else replace(sheet, camera=camera.to_dict())

    def joined_strokes(self, session: Session, node: Node) -> list[dict[str, Any]]:
        """The strokes of the one sheet that a branch is, in pixels of the picture."""
        return self.sheet(session, node).scaled(*session.size).to_dict()["strokes"]

    def joined_camera(self, session: Session, node: Node) -> list[dict[str, Any]]:
        """Moves of a camera that does alone what the cameras of a branch do one after the other."""
        camera = self._camera(session, branch_of(session.nodes, node))
        return [] if camera is None else moves_of(camera, session.size, node.num_frames)

    def scores(self, session: Session, node: Node) -> Iterator[Score | None]:
        """
        How near the strokes of a branch are to where they should be. The work is done in steps, which yield None; the
        last one yields the score.

        Raises:
            Refused: If a frame cannot be read.
        """
        sheet, frame = self._searched(session, node)
        if self._has_camera(session, node):  # strokes say where in the scene
            yield {"mean": None, "strokes": [None] * len(sheet.strokes)}
            return
        scale = math.sqrt(session.size[0] * session.size[1] / (sheet.width * sheet.height))
        found: list[list[float]] = [[] for _ in sheet.strokes]
        for number, handles in self._found(session, node, sheet, frame):
            for stroke, handle in handles.items():
                found[stroke].append(scale * handle.distance)
            yield None
        means = [sum(one) / len(one) if one else None for one in found]
        measured = [mean for mean in means if mean is not None]
        yield {"mean": sum(measured) / len(measured) if measured else None, "strokes": means}

    def tracks(
        self, session: Session, node: Node, searched: int
    ) -> tuple[StrokeSheet, Iterator[tuple[int, dict[int, FoundHandle]]]]:
        """
        The strokes of a branch at the size at which they are searched, and where their handles are found; see
        [`~mcdiff_pipeline.evaluation.drawn_strokes.found_handles`].

        Raises:
            Refused: If the camera moves.
        """
        if self._has_camera(session, node):
            raise Refused("The camera moves, and strokes say where in the scene: no tracks are searched.", status=409)
        sheet, frame = self._searched(session, node)
        return sheet, self._found(session, node, sheet, frame, searched)

    def _found(
        self,
        session: Session,
        node: Node,
        sheet: StrokeSheet,
        frame: Callable[[int], torch.Tensor],
        searched: int = SEARCHED_FRAMES,
    ) -> Iterator[tuple[int, dict[int, FoundHandle]]]:
        """What [`~mcdiff_pipeline.evaluation.drawn_strokes.found_handles`] yields, without handles that another
        region hides: what is found there is something else."""
        working = sheet.scaled(node.settings.width, node.settings.height)
        for number, handles in found_handles(sheet, frame, node.last, searched):
            hidden = self._hidden(session, node, working, number) if node.regions is not None else set()
            yield number, {index: handle for index, handle in handles.items() if index not in hidden}

    def _hidden(self, session: Session, node: Node, sheet: StrokeSheet, number: int) -> set[int]:
        """The strokes of a sheet of the working size, from frame 0 on, whose handle is behind another layer at a frame
        of a branch."""
        try:
            layers = self.state(session, node, number).layers
        except Refused:  # another model made it, or its state is lost
            return set()
        if layers is None:
            return set()
        height, width = layers.size
        radius = scaled_to(height, width)[0]
        # around each pixel, in the patch that is searched for
        given, visible = (
            F.avg_pool2d(one[0], 2 * radius + 1, 1, radius, count_include_pad=False)
            for one in (layers.shares, layers.visible)
        )
        hidden = set()
        for index, stroke in enumerate(sheet.strokes):
            places = [place for at in (0, number) if (place := stroke.at(at, sheet.num_frames)) is not None]
            inside = [(x, y) for x, y in places if 0 <= x < width and 0 <= y < height]
            if len(inside) < 2:
                continue
            layer = layer_of_stroke(stroke, number, sheet.num_frames, layers, 0)
            before, now = (
                share[layer, int(y), int(x)] for share, (x, y) in zip((given, visible), inside, strict=True)
            )
            if now < VISIBLE_SHARE * before:
                hidden.add(index)
        return hidden

    def _searched(self, session: Session, node: Node) -> tuple[StrokeSheet, Callable[[int], torch.Tensor]]:
        """The strokes of a branch at the size at which handles are searched, and its frames, `[3, H, W]` in [0, 1]."""
        # in the shape of the picture, which the working size stretches
        width, height = session.size
        zoom = min(1.0, min(SCORED_SIDE, node.settings.width, node.settings.height) / min(width, height))
        drawn = self.sheet(session, node)
        # of points that move together, the first stands for all
        sheet = replace(drawn, strokes=[stroke.plain(drawn.num_frames)[0] for stroke in drawn.strokes])
        sheet = sheet.scaled(round(width * zoom), round(height * zoom))

        def frame(index: int) -> torch.Tensor:
            image = self.picture(session) if index == 0 else open_frame(session, node.id, index)
            image = image.resize((sheet.width, sheet.height), Image.Resampling.BOX)
            return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255

        return sheet, frame

    # Things and people

    def segment(self, session: Session, points: Sequence[Sequence[float]], labels: Sequence[int]) -> Any:
        """The [`~mcdiff_pipeline.segmentation.Segmentation`] of a thing. Raises `Refused` if that is not possible."""
        segmenter = self._find_segmenter()
        try:
            return segmenter.segment(self.picture(session), [(x, y) for x, y in points], labels)
        except ValueError as error:
            raise refusal_of(error) from None

    def propose(self, session: Session, strokes: list[dict[str, Any]]) -> list[np.ndarray]:
        """A mask for each group of strokes, float32 `[H, W]` in [0, 1]. Raises `Refused` if that is not possible."""
        from ..segmentation import regions_of_strokes

        segmenter = self._find_segmenter()
        sheet = make_sheet(strokes, session.size, self.settings.bounds.frames)
        try:
            regions = regions_of_strokes(self.picture(session), sheet, segmenter)
            return [cast(torch.Tensor, region.mask).numpy() for region in regions]
        except ValueError as error:
            raise refusal_of(error) from None

    def people(self, picture: Image.Image, size: tuple[int, int]) -> list[list[list[float]]]:
        """
        The joints of the people in a frame.

        Args:
            picture (`PIL.Image.Image`): The frame.
            size (`tuple[int, int]`): (width, height) of the picture of the session.

        Returns:
            `list`: for each person 17 times `[x, y, confidence]`, in pixels of the picture of the session.

        Raises:
            Refused: If nothing is there that finds people.
        """
        if self._detector is None:
            from ..annotation.people import PersonDetector
            from ..annotation.pose_model import find_pose_model

            try:
                self._detector = PersonDetector(find_pose_model())
            except (OSError, ValueError, ImportError) as error:
                raise Refused(str(error).splitlines()[0], code="missing") from None
        found = self._detector(np.asarray(picture.convert("RGB")))
        scale = np.array([size[0] / picture.width, size[1] / picture.height, 1.0])
        return [np.round(person.keypoints * scale, 3).tolist() for person in found]

    def _find_segmenter(self) -> Any:
        if self._segmenter is None:
            from ..segmentation import PromptSegmenter

            try:
                self._segmenter = PromptSegmenter()
            except (OSError, ValueError, ImportError) as error:
                raise Refused(str(error).splitlines()[0], code="missing") from None
        return self._segmenter

    # Regions and the camera

    def _camera(self, session: Session, branch: Sequence[Node]) -> Camera | None:
        """The camera of a branch. Raises `Refused` if it goes too far."""
        return camera_of(cameras_of(branch), session.size, branch[-1].num_frames)

    @staticmethod
    def _has_camera(session: Session, node: Node) -> bool:
        """Whether a camera moves a node, or one that it continues."""
        return any(one.camera for one in branch_of(session.nodes, node))

    def _regions_of_node(self, session: Session, node: Node) -> list[Region]:
        size = node.settings.output_width, node.settings.output_height
        return self._regions_at(session, node.regions, size)

    def _regions_at(self, session: Session, key: str | None, size: tuple[int, int]) -> list[Region]:
        """The regions of a key at a (width, height). A few are kept."""
        if key is None:
            return []
        return _kept(
            self._regions,
            (session.id, key, size),
            lambda: make_regions(session.files.read_regions(key), session.size, size),
        )


def _kept(values: "collections.OrderedDict[Any, Made]", place: Any, make: Callable[[], Made]) -> Made:
    """The value of a place, which is made if it is not among the last few."""
    if place not in values:
        values[place] = make()
        while len(values) > 4:
            values.popitem(last=False)
    return values[place]


def load_engine(model: str | None, device: str | None, dtype: str, threads: int, settings: StudioSettings) -> Engine:
    """
    Loads a model for a server.

    Args:
        model (`str`, *optional*): As in [`~mcdiff_pipeline.model_names.find_model`].
        device (`str`, *optional*): None takes CUDA if there is one.
        dtype (`str`): "float32", "float16" or "bfloat16".
        threads (`int`): Threads of PyTorch.
        settings (`StudioSettings`): The options of the server.

    Raises:
        ValueError, OSError, RuntimeError: If it cannot be loaded.
    """
    import diffusers
    import transformers

    from .. import MCDiffPipeline, StrokeWarning  # registers its modules with diffusers
    from ..model_names import find_model

    torch.set_num_threads(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore", StrokeWarning)  # the page shows them
    location = find_model(model)
    pipe = MCDiffPipeline.from_pretrained(location.path, dtype=getattr(torch, dtype))
    return Engine(pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), location.name, settings)
