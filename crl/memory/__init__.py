"""How an agent remembers: sequence cores that can stand in for each other by name."""

from crl.memory.base import Memory, make_memory

__all__ = ["Memory", "make_memory"]
