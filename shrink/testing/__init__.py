"""A test kit: prove a coupling rule of your own, or that a model can be pruned (docs/RULES.md).

Begin with `check_rule`; `read` shows what a rule ties as one line of text; `check_model` compresses
a model at several budgets.
"""

from shrink.testing.coupling import read
from shrink.testing.model import check_model
from shrink.testing.rule import check_rule

__all__ = ["check_model", "check_rule", "read"]
