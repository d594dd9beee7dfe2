"""A stand-in for ComfyUI: what our nodes use of it, its checks of a prompt, and an executor without a cache.

It follows `execution.py`, `nodes.py`, `folder_paths.py`, `comfy/utils.py` and `comfy/model_management.py` of ComfyUI
0.3.64. With a checkout of ComfyUI, tests/integrations/test_comfyui.py runs the real ones, too.
"""

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import PIL.Image
import torch

from mcdiff_pipeline.image_processor import load_image_tensor
from support.paths import REPOSITORY


NODES = REPOSITORY / "integrations" / "comfyui"
WORKFLOWS = sorted((NODES / "example_workflows").glob("*.json"))
# Types whose values come from a widget, not from another node.
WIDGETS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


class InterruptProcessingException(Exception):
    """The user cancels."""


class Machine:
    """The folders, the progress, and the button to cancel."""

    def __init__(self, folder: Path):
        self.folder, self.progress, self.previews, self.cancel_at = folder, [], [], None
        for name in ("input", "models/mcdiff"):
            (folder / name).mkdir(parents=True)


class LoadImage:
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("STRING", {"image_upload": True})}}

    def load_image(self, image):
        pixels = load_image_tensor(Path(sys.modules["folder_paths"].get_input_directory(), image))
        return pixels.permute(1, 2, 0)[None], torch.zeros(1, 64, 64)


class PreviewImage:
    RETURN_TYPES, FUNCTION, OUTPUT_NODE = (), "save_images", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}}

    def save_images(self, images):
        return ()


class CreateVideo:
    RETURN_TYPES, FUNCTION = ("VIDEO",), "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "fps": ("FLOAT", {"default": 30.0})}}

    def execute(self, images, fps):
        return ((images, fps),)


class SaveVideo:
    RETURN_TYPES, FUNCTION, OUTPUT_NODE = (), "execute", True

    @classmethod
    def INPUT_TYPES(cls):
        text = ("STRING", {"default": ""})
        return {"required": {"video": ("VIDEO",), "filename_prefix": text, "format": text, "codec": text}}

    def execute(self, video, filename_prefix, format, codec):
        return ()


def load_nodes(machine: Machine, monkeypatch) -> ModuleType:
    """Our nodes, imported as ComfyUI imports a folder of `custom_nodes`."""
    folder_paths, comfy = ModuleType("folder_paths"), ModuleType("comfy")
    utils, model_management = ModuleType("comfy.utils"), ModuleType("comfy.model_management")
    paths: dict[str, list[str]] = {}
    folder_paths.models_dir = str(machine.folder / "models")
    folder_paths.add_model_folder_path = lambda name, path, is_default=False: paths.setdefault(name, []).append(path)
    folder_paths.get_folder_paths = lambda name: paths[name][:]
    folder_paths.get_input_directory = lambda: str(machine.folder / "input")

    class ProgressBar:
        def __init__(self, total, node_id=None):
            self.total, self.current = total, 0

        def update_absolute(self, value, total=None, preview=None):
            self.current = min(value, self.total)
            machine.progress.append((self.current, self.total))
            if preview is not None:
                kind, image, size = preview
                assert kind == "JPEG" and isinstance(image, PIL.Image.Image) and size > 0
                machine.previews.append(image)

        def update(self, value):
            self.update_absolute(self.current + value)

    def throw_exception_if_processing_interrupted():
        if machine.cancel_at is not None and len(machine.progress) >= machine.cancel_at:
            raise InterruptProcessingException

    utils.ProgressBar = ProgressBar
    model_management.get_torch_device = lambda: torch.device("cpu")
    model_management.throw_exception_if_processing_interrupted = throw_exception_if_processing_interrupted
    model_management.InterruptProcessingException = InterruptProcessingException
    comfy.utils, comfy.model_management = utils, model_management
    for module in (folder_paths, comfy, utils, model_management):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    name = str(NODES).replace(".", "_x_")
    for part in ("", ".mcdiff_nodes", ".mcdiff_inputs"):
        monkeypatch.delitem(sys.modules, name + part, raising=False)
    spec = importlib.util.spec_from_file_location(name, NODES / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def inputs_of(node: type) -> dict[str, tuple]:
    """The inputs of a node in their order: (type, options, whether it is required)."""
    types = node.INPUT_TYPES()
    found = {}
    for kind in ("required", "optional"):
        for name, (type_, *options) in types.get(kind, {}).items():
            found[name] = (type_, options[0] if options else {}, kind == "required")
    return found


def prompt_of(workflow: dict[str, Any], mappings: dict[str, type]) -> dict[str, dict[str, Any]]:
    """The prompt that ComfyUI's page makes of a workflow: links, and the values of widgets in their order."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        values = iter(node["widgets_values"])
        inputs = {}
        for name, (type_, options, _) in inputs_of(mappings[node["type"]]).items():
            is_widget = isinstance(type_, list) or type_ == "COMBO" or type_ in WIDGETS
            if is_widget and not options.get("forceInput"):
                inputs[name] = next(values)
                if options.get("control_after_generate") or options.get("image_upload"):
                    next(values)  # the page's own widget below it
        assert not list(values), node["type"]
        inputs |= {one["name"]: links[one["link"]] for one in node["inputs"] if one["link"] is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def problems_of(prompt: dict[str, dict[str, Any]], mappings: dict[str, type]) -> list[str]:
    """What ComfyUI refuses before it runs a prompt."""
    problems = []
    for number, node in prompt.items():
        node_class, given = mappings[node["class_type"]], node["inputs"]
        validate = getattr(node_class, "VALIDATE_INPUTS", None)
        own = inspect.signature(validate).parameters if validate else {}
        for name, (type_, options, required) in inputs_of(node_class).items():
            if name not in given:
                problems += [f"{number}: {name} is missing"] if required else []
            elif isinstance(given[name], list):
                source, slot = given[name]
                found = mappings[prompt[source]["class_type"]].RETURN_TYPES[slot]
                problems += [f"{number}: {name} is {type_}, not {found}"] if found != type_ else []
            elif isinstance(type_, list):
                problems += [f"{number}: {given[name]!r} is not in {type_}"] * (
                    name not in own and given[name] not in type_
                )
            else:
                value = WIDGETS[type_](given[name])
                low, high = options.get("min", value), options.get("max", value)
                problems += [f"{number}: {name} is {value}"] if name not in own and not low <= value <= high else []
        if validate:
            values = {name: None if isinstance(value, list) else value for name, value in given.items()}
            answer = validate(**{name: value for name, value in values.items() if name in own})
            problems += [] if answer is True else [f"{number}: {answer}"]
    return problems


def execute(prompt: dict[str, dict[str, Any]], mappings: dict[str, type]) -> dict[str, tuple]:
    """What each node of a prompt returns. Nodes run after those that they read, in inference mode as in ComfyUI."""
    results: dict[str, tuple] = {}

    def run(number: str) -> tuple:
        if number not in results:
            node = prompt[number]
            node_class = mappings[node["class_type"]]
            inputs = {
                name: run(value[0])[value[1]] if isinstance(value, list) else value
                for name, value in node["inputs"].items()
            }
            if hasattr(node_class, "IS_CHANGED"):
                node_class.IS_CHANGED(**{n: None if isinstance(v, list) else v for n, v in node["inputs"].items()})
            results[number] = getattr(node_class(), node_class.FUNCTION)(**inputs)
            assert len(results[number]) == len(node_class.RETURN_TYPES), node["class_type"]
        return results[number]

    with torch.inference_mode():
        for number, node in prompt.items():
            if getattr(mappings[node["class_type"]], "OUTPUT_NODE", False):
                run(number)
    return results
