"""Values as Go prints them, for messages that upstream writes with ``%v``."""

from __future__ import annotations

from typing import Any


def printed(value: Any) -> str:
    """A value as Go prints it with ``%v``."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{printed(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(printed(item) for item in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
