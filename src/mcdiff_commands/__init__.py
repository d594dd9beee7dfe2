"""The `mcdiff` command.

This package stands beside `mcdiff_pipeline`, because importing that package imports diffusers, which takes seconds.
The modules here import it inside functions only, so that help, completion and wrong arguments answer at once.
"""
