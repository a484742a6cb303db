"""Machine Learning for Kubernetes Engineers: the library behind the course's notebooks and labs.

``gpu`` says what a GPU is, ``bench`` what it does, ``cluster`` where it runs, ``plots`` shows it,
``measured`` turns a cell into evidence, and every figure carries its ``provenance``. A part is
imported when it is used: the process of the embedded cluster needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlk8s import bench, cluster, errors, gpu, plots, provenance
    from mlk8s.gpu.source import measured

__version__ = "0.1.0"

__all__ = ["bench", "cluster", "errors", "gpu", "measured", "plots", "provenance"]


def __getattr__(name: str) -> Any:
    if name == "measured":
        return importlib.import_module("mlk8s.gpu.source").measured
    if name in __all__:
        return importlib.import_module(f"mlk8s.{name}")
    raise AttributeError(f"module 'mlk8s' has no attribute {name!r}")
