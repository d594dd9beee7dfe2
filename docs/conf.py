"""Settings of Sphinx: `make docs` makes a site from the Markdown pages and the docstrings of the package."""

import re


project = "mcdiff-pipeline"
author = copyright = "The mcdiff-pipeline authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
folders = ("docs", "training", "examples", "benchmarks", "checkpoints")
exclude_patterns = [".*", "build", "data", "demo", "runs"]
include_patterns = ["*.md", "docs/api/*.rst", *(f"{folder}/**.md" for folder in folders)]
root_doc = "README"

html_theme = "furo"
html_title = project
html_show_sphinx = False

# Anchors of headings as on GitHub, so that links work in both places.
myst_heading_anchors = 4

# Docstrings have the style of Hugging Face: sections as in Google's style, types in the text, code in backticks.
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False

CONTENTS = """
```{toctree}
:hidden:
:caption: Guide

docs/README
docs/quick-start
docs/troubleshooting
docs/how-long
docs/strokes
docs/regions
docs/motion
docs/segmentation
docs/live-editing
docs/studio
docs/notebook
docs/scale
docs/training-your-own-videos
docs/extending
docs/publishing
docs/comfyui
docs/diffusers-features
docs/compatibility
CONTRIBUTING
CHANGELOG
```

```{toctree}
:hidden:
:caption: Reference

docs/api/index
docs/stroke-format
docs/interchange
docs/dataset-format
docs/annotation
docs/evaluation
docs/results
model_card
```

```{toctree}
:hidden:
:caption: Folders of the repository

examples/README
examples/annotated/README
examples/annotated/report
examples/community/README
training/README
checkpoints/README
benchmarks/README
```
"""


def add_contents(app, page, source):
    """Adds the table of contents to the first page."""
    if page == root_doc:
        source[0] += CONTENTS


def from_markdown(app, what, name, thing, options, lines):
    """Converts the Markdown in docstrings to reStructuredText: fenced blocks, and links to names."""
    text = re.sub(
        r"^( *)```(\w*)\n(.*?)^ *```$",
        lambda block: f"{block[1]}.. code-block:: {block[2] or 'text'}\n\n" + re.sub("(?m)^(?=.)", "    ", block[3]),
        "\n".join(lines),
        flags=re.DOTALL | re.MULTILINE,
    )
    lines[:] = re.sub(r"\[(`[^`]+`)\]", r"\1", text).split("\n")


def setup(app):
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", from_markdown, priority=100)
