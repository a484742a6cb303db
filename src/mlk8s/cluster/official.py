"""Imports the official Kubernetes client without the seconds that it does not need."""

from __future__ import annotations

import sys

_VALIDATOR = "kubernetes_validate"


def load() -> None:
    """Import ``kubernetes``, once, when it is used.

    Its dynamic client imports kubernetes-validate where that is installed, for a method that is
    not used here, and that one spends two seconds on grammars; the embedded cluster brings it. So
    it is out of sight during the import.
    """
    if "kubernetes" in sys.modules:
        return
    hide = _VALIDATOR not in sys.modules
    if hide:
        sys.modules[_VALIDATOR] = None  # type: ignore[assignment]
    try:
        import kubernetes  # noqa: F401
    finally:
        if hide:
            del sys.modules[_VALIDATOR]
