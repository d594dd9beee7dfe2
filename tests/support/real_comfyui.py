"""Runs a workflow in ComfyUI itself, on the CPU and without a server: its loader, its checks and its executor.

    python tests/support/real_comfyui.py CHECKOUT FOLDER WORKFLOW

CHECKOUT is a clone of ComfyUI. FOLDER is its base directory, with our nodes in `custom_nodes`. Prints a line of JSON:
whether the workflow ran, its messages, and how often it told its progress.
"""

import asyncio
import json
import os
import sys
from pathlib import Path


CHECKOUT, FOLDER, WORKFLOW = sys.argv[1:]
SUPPORT = str(Path(__file__).parents[1])
# The nodes of ComfyUI that the workflow uses, besides those in its `nodes.py`.
EXTRAS = ("nodes_video.py",)


class Server:
    """Receives what ComfyUI sends to its page."""

    client_id, last_node_id, last_prompt_id = "test", None, None
    sockets_metadata: dict = {}

    def __init__(self):
        self.events = []

    def send_sync(self, event, data, client=None):
        self.events.append(event)


async def load_all(nodes) -> None:
    await nodes.init_external_custom_nodes()
    for name in EXTRAS:
        await nodes.load_custom_node(os.path.join(CHECKOUT, "comfy_extras", name), module_parent="comfy_extras")


def main() -> None:
    sys.path.insert(0, CHECKOUT)
    sys.argv = ["main.py", "--cpu", "--base-directory", FOLDER]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.utils
    import execution
    import nodes

    asyncio.run(load_all(nodes))
    sys.path.append(SUPPORT)
    from support.comfyui import prompt_of

    ours = {name: node for name, node in nodes.NODE_CLASS_MAPPINGS.items() if name.startswith("MCDiff")}
    prompt = prompt_of(json.loads(Path(WORKFLOW).read_text()), nodes.NODE_CLASS_MAPPINGS)
    valid, error, outputs, errors = asyncio.run(execution.validate_prompt("test", prompt, None))
    server, progress = Server(), []
    comfy.utils.set_progress_bar_global_hook(lambda value, total, *_, **__: progress.append((value, total)))
    executor = execution.PromptExecutor(server, cache_type=execution.CacheType.CLASSIC)
    if valid:
        executor.execute(prompt, "test", {"client_id": "test"}, outputs)
    messages = [name for name, _ in executor.status_messages]
    answer = {"nodes": sorted(ours), "problems": [str(error), str(errors)] if not valid else [], "messages": messages}
    print(json.dumps(answer | {"outputs": executor.history_result["outputs"] if valid else {}, "progress": progress}))


if __name__ == "__main__":
    main()
