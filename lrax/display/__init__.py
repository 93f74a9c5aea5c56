"""Pictures and tables from plain arrays: for terminals, notebooks and matplotlib."""

from .figures import schedules

__all__ = ["schedules"]
