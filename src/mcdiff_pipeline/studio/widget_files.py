# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The scripts of the page as one module, for notebooks: they have no address from which modules could be imported.

The module holds the sources of all others. It makes an address of each in the browser, in an order in which each
imports only from those before it.
"""

import functools
import json
import re
from graphlib import TopologicalSorter
from pathlib import Path

from .page_files import PageFiles, stripped_script


STATIC = Path(__file__).parent / "static"
# What is run in the frame of the widget, and what makes that frame.
ENTRY, FRAME, STYLE = "notebook.js", "notebook_frame.js", "studio.css"

_IMPORT = re.compile(r'(?m)^((?:import|export)\b[^;"]*?\bfrom ?|import ?)"(\.[^"]+)";')


@functools.cache
def widget_module() -> str:
    """The module that anywidget loads: its default export has `render({model, el})`."""
    files = PageFiles()
    sources: dict[str, str] = {}
    imports: dict[str, list[str]] = {}
    waiting = [ENTRY]
    while waiting:
        name = waiting.pop()
        if name in sources:
            continue
        folder = (STATIC / name).parent
        imports[name] = []

        def named(found: re.Match[str], name: str = name, folder: Path = folder) -> str:
            other = (folder / found[2]).resolve().relative_to(STATIC.resolve()).as_posix()
            imports[name].append(other)
            return f'{found[1]}"mcdiff:{other}";'

        sources[name] = _IMPORT.sub(named, files.read(STATIC / name).content.decode())
        waiting += imports[name]
    ordered = [(name, sources[name]) for name in TopologicalSorter(imports).static_order()]
    content = json.dumps({"scripts": ordered, "style": files.read(STATIC / STYLE).content.decode()})
    frame = stripped_script((STATIC / FRAME).read_text(encoding="utf-8"))
    return f"{frame}\nexport default {{ render: (context) => showInFrame(context, {content}) }};\n"
