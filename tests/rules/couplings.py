"""How tests of rules read what a layer ties: the public test kit."""

from shrink.testing.coupling import read, write

__all__ = ["read", "write"]
