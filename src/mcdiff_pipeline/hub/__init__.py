"""Publishing a model on the Hugging Face Hub."""

from .export import check_export, export_model
from .push import push_export


__all__ = ["check_export", "export_model", "push_export"]
