"""The `mcdiff` command.

This is a package of its own, because `import mcdiff_pipeline` also imports diffusers, which takes seconds. The modules
here import the library inside functions only, so that help, completion and errors of arguments are fast.
"""
