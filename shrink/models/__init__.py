"""MODEL names in, modules with example inputs out.

Begin with `find.py`; each source of models is a file of its own, and gives a `source.Built`.
"""

from shrink.models.find import ResolvedModel, list_models, resolve
from shrink.models.input_shapes import parse_inputs
from shrink.models.published import recall_weights
from shrink.models.weights_file import check_finite

__all__ = [
    "ResolvedModel",
    "check_finite",
    "list_models",
    "parse_inputs",
    "recall_weights",
    "resolve",
]
