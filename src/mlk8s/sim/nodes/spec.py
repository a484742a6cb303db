"""Which nodes a cluster starts with: presets, counts of them, or a YAML file.

A file lists nodes; all keys but ``gpu`` have a default::

    nodes:
    - name: train            # becomes train-0, train-1; default: the key of the GPU model
      count: 2               # default 1
      gpu: h100              # a model of catalogue.json; absent: a node without GPU
      gpus: 8                # default 1
      mig: all-balanced      # a mig-parted configuration; default all-disabled
      migStrategy: mixed     # none, single (default) or mixed
      sharing:               # of nvidia.com/gpu, or of the resource named
        kind: time-slicing   # or mps
        replicas: 4
        resource: nvidia.com/gpu
        renameByDefault: false
        failRequestsGreaterThanOne: true
        policy: distributed  # or packed
      dra: static            # static or dynamic: the DRA driver serves the GPUs, not the plugin
      cores: 96              # default: what fits the GPUs
      memoryGiB: 1024
      ephemeralGiB: 2000
      pods: 110
      labels: {zone: a}
      taints: [{key: nvidia.com/gpu, effect: NoSchedule}]
    - preset: cpu            # a preset instead of gpu …; count and name may stand beside it
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlk8s.sim.nodes import mig
from mlk8s.sim.nodes.config import MPS, STRATEGIES, TIME_SLICING, PluginConfig, Sharing
from mlk8s.sim.nodes.devices import GPU
from mlk8s.sim.nodes.models import Host, Model, cpu_host, models

# The largest machine that a node of several GPUs grows to: an eight-GPU server.
_MOST_CORES, _MOST_MEMORY_GIB, _MOST_EPHEMERAL_GIB = 160, 1920, 5760
_MACHINE_KEYS = ("cores", "memoryGiB", "ephemeralGiB", "pods", "labels", "taints")
_KEYS = (
    *("name", "count", "preset", "gpu", "gpus", "mig", "migStrategy", "sharing", "dra"),
    *_MACHINE_KEYS,
)
_SHARING_KEYS = (
    *("kind", "replicas", "resource"),
    *("renameByDefault", "failRequestsGreaterThanOne", "policy"),
)
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


class SpecError(ValueError):
    """Nodes that cannot be; the message says what is wrong and what is known."""


@dataclass(frozen=True)
class NodeSpec:
    """A node as it starts.

    Attributes:
        gpu: key of the GPU model; ``""`` is a node without GPU.
        mig: the mig-parted configuration.
        dra: ``""``, ``static`` or ``dynamic`` (MIG devices made on demand).
        labels, taints: in addition to what the stack writes; ``(key, value[, effect])``.
    """

    name: str
    gpu: str = ""
    gpus: int = 0
    mig: str = "all-disabled"
    strategy: str = "single"
    sharing: Sharing | None = None
    packed: bool = False
    dra: str = ""
    cores: int = 8
    memory_gib: int = 32
    ephemeral_gib: int = 200
    pods: int = 110
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[tuple[str, str, str], ...] = ()

    @property
    def model(self) -> Model | None:
        """The GPU model."""
        return models()[self.gpu] if self.gpu else None

    @property
    def config(self) -> PluginConfig:
        """What the node's device plugin runs with."""
        return PluginConfig(self.strategy, self.sharing, self.packed)

    @property
    def machine(self) -> str:
        """The product name of the machine."""
        host = self.model.host if self.model else cpu_host()
        return host.machine.replace("-1", f"-{max(self.gpus, 1)}")


def _slices(replicas: int, rename: bool = False) -> dict[str, Any]:
    return {
        "kind": TIME_SLICING,
        "replicas": replicas,
        "renameByDefault": rename,
        "failRequestsGreaterThanOne": True,
    }


_BALANCED = {"mig": "all-balanced", "migStrategy": "mixed"}
_L4_SHARED = {"name": "l4-shared", "gpu": "l4", "sharing": _slices(4, rename=True)}

# name → (what it is, its nodes as in a file).
_PRESETS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "none": ("no node: make your own through the API; nothing runs on them", []),
    "cpu": ("a node without GPU", [{}]),
    "h100": ("one H100 80GB", [{"gpu": "h100"}]),
    "h100x8": ("a server of eight H100 80GB", [{"gpu": "h100", "gpus": 8}]),
    "h200x8": ("a server of eight H200", [{"gpu": "h200", "gpus": 8}]),
    "h100-mig": (
        "one H100 cut into 1g.10gb x2, 2g.20gb, 3g.40gb; MIG strategy mixed",
        [{"gpu": "h100", **_BALANCED}],
    ),
    "h100-mig-single": (
        "one H100 cut into 1g.10gb x7, each of them an nvidia.com/gpu; MIG strategy single",
        [{"gpu": "h100", "mig": "all-1g.10gb"}],
    ),
    "a30-timesliced": ("one A30 for four pods at a time", [{"gpu": "a30", "sharing": _slices(4)}]),
    "a30-timesliced-renamed": (
        "one A30 for four pods at a time, as nvidia.com/gpu.shared",
        [{"gpu": "a30", "sharing": _slices(4, rename=True)}],
    ),
    "h100-mps": (
        "one H100 for four pods at once through MPS",
        [{"gpu": "h100", "sharing": {"kind": MPS, "replicas": 4}}],
    ),
    "h100-dra": ("one H100 served by the DRA driver", [{"gpu": "h100", "dra": "static"}]),
    "h100-dra-mig": (
        "one H100 cut into 1g.10gb x2, 2g.20gb, 3g.40gb, served by the DRA driver",
        [{"gpu": "h100", "dra": "static", **_BALANCED}],
    ),
    "t4x4": ("a server of four T4", [{"gpu": "t4", "gpus": 4}]),
    "l4": ("one L4", [{"gpu": "l4"}]),
    # A teaching cluster needs each way to ask for a GPU once, and never two that compete: the
    # only nvidia.com/gpu is the whole H100, so "busy" and "never fits" come from one request; the
    # slices and the shares have resources of their own; the first node takes all else. DRA is
    # left to its presets, as its class would serve nvidia.com/gpu too.
    "course": (
        "cpu, a whole h100, an a30 cut by MIG (mixed, all-balanced), an l4 in four renamed shares",
        [{}, {"gpu": "h100"}, {"name": "a30-mig", "gpu": "a30", **_BALANCED}, _L4_SHARED],
    ),
}
DEFAULT = "course"


def presets() -> dict[str, str]:
    """The presets, each with a sentence."""
    return {name: sentence for name, (sentence, _) in _PRESETS.items()}


def load(text: str) -> list[NodeSpec]:
    """The nodes that a text names.

    Args:
        text: presets separated by commas, each with a count if wanted (``cpu,h100x8*3``), or the
            path of a YAML file as this module's docstring describes it.

    Raises:
        SpecError: with the file, the key and the value, and what is known.
    """
    text = text.strip() or DEFAULT
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or "/" in text:
        return _numbered(_of_file(path))
    rows: list[NodeSpec] = []
    for part in text.split(","):
        name, star, count = part.strip().partition("*")
        if name not in _PRESETS:
            raise SpecError(
                f"nodes {part.strip()!r}: no such preset; known: {', '.join(_PRESETS)}, "
                "or the path of a YAML file"
            )
        if star and not (count.isascii() and count.isdigit()):
            raise SpecError(f"nodes {part.strip()!r}: {count!r} is not a count")
        rows += _of_preset(name) * (int(count) if star else 1)
    return _numbered(rows)


def _of_preset(name: str) -> list[NodeSpec]:
    _, rows = _PRESETS[name]
    return [_node(row, f"preset {name}", name if len(rows) == 1 else "") for row in rows]


def _numbered(rows: Iterable[NodeSpec]) -> list[NodeSpec]:
    seen: Counter[str] = Counter()
    numbered = []
    for row in rows:
        numbered.append(dataclasses.replace(row, name=f"{row.name}-{seen[row.name]}"))
        seen[row.name] += 1
    return numbered


def _of_file(path: Path) -> list[NodeSpec]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not YAML: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("nodes"), list):
        raise SpecError(f"{path}: a mapping with a list 'nodes' is expected")
    if unknown := [key for key in content if key != "nodes"]:
        raise SpecError(f"{path}: {unknown[0]}: no such key; known: nodes")
    found: list[NodeSpec] = []
    for index, row in enumerate(content["nodes"]):
        where = f"{path}: nodes[{index}]"
        if not isinstance(row, dict):
            raise SpecError(f"{where}: a mapping is expected, not {row!r}")
        found += _rows(row, where)
    return found


def _rows(row: dict[str, Any], where: str) -> list[NodeSpec]:
    _known(row, _KEYS, where)
    count = _integer(row, "count", 1, where, least=0)
    if "preset" not in row:
        return [_node(row, where)] * count
    if beside := [key for key in row if key not in ("preset", "count", "name")]:
        raise SpecError(f"{where}.{beside[0]}: cannot stand beside 'preset'")
    preset = _one_of(row, "preset", list(_PRESETS), "", where)
    nodes = _of_preset(preset)
    if "name" in row:
        nodes = [dataclasses.replace(node, name=str(row["name"])) for node in nodes]
    return nodes * count


def _node(row: dict[str, Any], where: str, name: str = "") -> NodeSpec:
    gpu = _one_of(row, "gpu", list(models()), "", where)
    gpus = _integer(row, "gpus", 1 if gpu else 0, where, least=1 if gpu else 0, most=16)
    model = models()[gpu] if gpu else None
    if model is None and gpus:
        raise SpecError(f"{where}.gpus: {gpus} of what? 'gpu' is missing")
    host = _host(model, gpus)
    wanted = str(row.get("mig", "all-disabled"))
    _check_mig(model, gpus, wanted, where)
    sharing, packed = _sharing(row, where)
    if sharing is not None and row.get("dra"):
        raise SpecError(f"{where}.sharing: cannot stand beside 'dra': the device plugin shares")
    if sharing is not None and sharing.kind == MPS and wanted != "all-disabled":
        raise SpecError(f"{where}.sharing.kind: 'mps' cannot stand beside MIG ({wanted})")
    taints = row.get("taints") or []
    return NodeSpec(
        name=str(row.get("name") or name or gpu or "cpu"),
        gpu=gpu,
        gpus=gpus,
        mig=wanted,
        strategy=_one_of(row, "migStrategy", STRATEGIES, "single", where),
        sharing=sharing,
        packed=packed,
        dra=_one_of(row, "dra", ("static", "dynamic"), "", where),
        cores=_integer(row, "cores", host.cores, where, least=1),
        memory_gib=_integer(row, "memoryGiB", host.memory_gib, where, least=2),
        ephemeral_gib=_integer(row, "ephemeralGiB", host.ephemeral_gib, where, least=2),
        pods=_integer(row, "pods", 110, where, least=1),
        labels=tuple((str(k), str(v)) for k, v in (row.get("labels") or {}).items()),
        taints=tuple(_taint(taint, f"{where}.taints[{i}]") for i, taint in enumerate(taints)),
    )


def _host(model: Model | None, gpus: int) -> Host:
    if model is None:
        return cpu_host()
    host = model.host
    return dataclasses.replace(
        host,
        cores=min(host.cores * gpus, _MOST_CORES),
        memory_gib=min(host.memory_gib * gpus, _MOST_MEMORY_GIB),
        ephemeral_gib=min(host.ephemeral_gib * gpus, _MOST_EPHEMERAL_GIB),
    )


def _check_mig(model: Model | None, gpus: int, name: str, where: str) -> None:
    known = mig.names(model) if model else []
    if model is None and name != "all-disabled":
        raise SpecError(f"{where}.mig: {name!r} needs a 'gpu'")
    if model is not None and name not in [*known, "all-disabled"]:
        options = ", ".join(known) or "all-disabled: the model has no MIG"
        raise SpecError(f"{where}.mig: {name!r} is not for {model.name}; known: {options}")


def _sharing(row: dict[str, Any], where: str) -> tuple[Sharing | None, bool]:
    part = row.get("sharing")
    where = f"{where}.sharing"
    if part is None:
        return None, False
    if not isinstance(part, dict):
        raise SpecError(f"{where}: a mapping is expected, not {part!r}")
    _known(part, _SHARING_KEYS, where)
    kind = _one_of(part, "kind", (TIME_SLICING, MPS), TIME_SLICING, where)
    replicas = _integer(part, "replicas", 2, where, least=2)
    policy = _one_of(part, "policy", ("distributed", "packed"), "distributed", where)
    sharing = Sharing(
        kind,
        ((str(part.get("resource", GPU)), replicas),),
        bool(part.get("renameByDefault", False)),
        bool(part.get("failRequestsGreaterThanOne", kind == MPS)),
    )
    return sharing, policy == "packed"


def _taint(taint: Any, where: str) -> tuple[str, str, str]:
    if not isinstance(taint, dict) or "key" not in taint:
        raise SpecError(f"{where}: a mapping with 'key' and 'effect' is expected, not {taint!r}")
    effect = _one_of(taint, "effect", _EFFECTS, "NoSchedule", where)
    return str(taint["key"]), str(taint.get("value", "")), effect


def _known(row: dict[str, Any], keys: Iterable[str], where: str) -> None:
    for key in row:
        if key not in keys:
            raise SpecError(f"{where}.{key}: no such key; known: {', '.join(keys)}")


def _one_of(row: dict[str, Any], key: str, known: Iterable[str], default: str, where: str) -> str:
    value = row.get(key, default)
    if value != default and value not in known:
        raise SpecError(f"{where}.{key}: {value!r} is not known; known: {', '.join(known)}")
    return str(value)


def _integer(
    row: dict[str, Any], key: str, default: int, where: str, least: int, most: int = 100_000
) -> int:
    value = row.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise SpecError(f"{where}.{key}: {value!r} is not a whole number from {least} to {most}")
    return value
