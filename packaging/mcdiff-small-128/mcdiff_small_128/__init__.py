"""The model `mcdiff-small-128`: the folder of that name beside this file, as `save_pretrained` wrote it."""
