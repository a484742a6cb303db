"""Machine Learning for Kubernetes Engineers: the library behind the course's notebooks and labs.

``gpu`` says what a GPU is, ``bench`` what it does, ``plots`` shows it, ``measured`` turns a cell
into evidence, and every figure carries its ``provenance``. Importing this imports neither PyTorch
nor pandas.
"""

from mlk8s import bench, errors, gpu, plots, provenance
from mlk8s.gpu.source import measured

__version__ = "0.1.0"

__all__ = ["bench", "errors", "gpu", "measured", "plots", "provenance"]
