# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Studio: a web page on which one draws on a picture, sees the motion, and watches the picture move.

Needs the extra `studio`. `docs/studio.md` describes the page, the protocol and how to run it for others.

- `app.py`: the routes. `page_files.py`: the files of the page as they are sent. `live.py`: the connection of a page.
  `server.py`: what they need.
- `protocol.py`: the messages. `refusals.py`: what is not done, and why. `security.py`: who may ask. `settings.py`:
  options and bounds.
- `sessions.py`: what is open. `tree.py`: renders and branches. `store.py`: files. `pictures.py`, `archive.py`: bytes
  of clients.
- `worker.py`: the thread that owns the model, and whose turn it is. `tasks.py`: what is done for each message.
  `exports.py`: files to take away. `tracks.py`: where handles are found.
- `engine.py`: what the model computes. `sheets.py`: strokes and regions of clients as those of the library.
  `states.py`: files of states.
- `notebook.py`: the editor as a widget of notebooks. `in_process.py`: the application without a network.
  `widget_files.py`: the scripts of the page as one module.

PyTorch is imported only by `engine.py` and what it needs, in the thread of the model, so that the page answers before
it is there; and by `notebook.py`.
"""
