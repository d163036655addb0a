"""Original, smaller model and plan in, `Certificate` out.

Begin with `certify.py`; `reference.py` runs the original with every removed slice neutralised.
"""
