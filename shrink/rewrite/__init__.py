"""Model, graph and plan in, a smaller copy out; the caller's model is never touched.

Begin with `rewrite.py`. `predict.py` says what the smaller graph must look like, `slice.py` cuts
the tensors, `sizes.py` and `repair.py` mend what the modules store, `graft.py` replaces the few
modules whose `forward` cannot fit.
"""
