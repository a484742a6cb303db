"""MIG on paper: which instances fit on a GPU together, where, in which order; how to ask for them.

Nothing here touches a GPU but :func:`here`, which reads what the driver lists.
"""

from mlk8s.gpu.mig.layout import Instance, Layout, fit, maximal
from mlk8s.gpu.mig.packing import Demand, Packing, pack
from mlk8s.gpu.mig.picture import draw
from mlk8s.gpu.mig.profiles import Geometry, Profile, geometry, here, known
from mlk8s.gpu.mig.steps import Change, change

__all__ = [
    "Change",
    "Demand",
    "Geometry",
    "Instance",
    "Layout",
    "Packing",
    "Profile",
    "change",
    "draw",
    "fit",
    "geometry",
    "here",
    "known",
    "maximal",
    "pack",
]
