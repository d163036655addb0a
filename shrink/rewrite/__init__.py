"""Model, graph and plan in, a smaller copy out; the caller's model is never touched.

Begin with `rewrite.py`. `predict.py` says what the smaller graph must look like, `slice.py` cuts
the tensors, `sizes.py`, `stored.py` and `repair.py` mend what the modules store. `graft.py`
replaces the few modules whose `forward` cannot fit: `variants.py` and `follow.py` find out which
numbers follow the sizes of the inputs, `train.py` what training adds, `write.py` writes the code.
"""
