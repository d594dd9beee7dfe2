# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Sources of motion besides strokes drawn by hand: tracks of other tools, a camera, a reference video."""
