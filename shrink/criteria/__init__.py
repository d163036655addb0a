"""Coupled channels and weights in, one importance per removable unit out: higher survives.

A criterion is a small value behind the `Criterion` protocol, one file each; `find_criterion`
resolves what the user wrote. Begin with `norms`, which `l1` and `l2` share.
"""
