"""The text of ``nvidia-smi`` for devices that are simulated; it says so in its first line."""

from __future__ import annotations

from collections.abc import Sequence

from mlk8s.sim.nodes.devices import Gpu
from mlk8s.sim.nodes.mig import Instance
from mlk8s.sim.nodes.models import CUDA, DRIVER

NOTICE = "# simulated by mlk8s: no GPU is behind this, and nothing here is measured"
_LINE = (
    "+-----------------------------------------------------------------------------------------+"
)
_COLUMNS = """\
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|"""
_RULE = f"+{'-' * 41}+{'-' * 24}+{'-' * 22}+"
_MIG_COLUMNS = """\
| MIG devices:                                                                            |
+------------------+----------------------------------+-----------+-----------------------+
| GPU  GI  CI  MIG |                     Memory-Usage |        Vol|        Shared         |
|      ID  ID  Dev |                       BAR1-Usage | SM     Unc| CE ENC  DEC  OFA  JPG |
|                  |                                  |        ECC|                       |
|==================+==================================+===========+=======================|"""
_MIG_RULE = f"+{'-' * 18}+{'-' * 34}+{'-' * 11}+{'-' * 23}+"
_PROCESSES = """\
| Processes:                                                                              |
|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
|  No running processes found                                                             |"""

# A GPU with those of its MIG devices that are seen; None where the whole GPU is.
Seen = Sequence[tuple[Gpu, Sequence[Instance] | None]]


def listing(seen: Seen) -> str:
    """``nvidia-smi -L``."""
    lines = [NOTICE]
    for position, (gpu, instances) in enumerate(seen):
        lines.append(f"GPU {position}: {gpu.model.name} (UUID: {gpu.uuid})")
        for index, each in enumerate(instances or ()):
            profile = each.profile.name
            lines.append(f"  MIG {profile:<10} Device {index:>2}: (UUID: {each.uuid})")
    return "\n".join(lines if seen else [NOTICE, "No devices were found"]) + "\n"


def table(seen: Seen) -> str:
    """``nvidia-smi``: idle GPUs without processes."""
    if not seen:
        return f"{NOTICE}\nNo devices were found\n"
    version = f"NVIDIA-SMI {DRIVER:<23}Driver Version: {DRIVER:<14} CUDA Version: {CUDA:<9}"
    lines = [NOTICE, _LINE, f"| {version}|", _COLUMNS]
    for position, (gpu, _) in enumerate(seen):
        lines += _gpu(position, gpu)
    lines.append("")
    if any(instances for _, instances in seen):
        lines += [_LINE, _MIG_COLUMNS, *_mig(seen), ""]
    return "\n".join([*lines, _LINE, _PROCESSES, _LINE]) + "\n"


def _gpu(position: int, gpu: Gpu) -> list[str]:
    enabled = gpu.instances is not None
    supported = bool(gpu.model.profiles)
    mode = "Enabled" if enabled else "Disabled" if supported else "N/A"
    bus = f"00000000:{0x18 + 0x10 * gpu.index:02X}:00.0 Off"
    memory = f"0MiB / {gpu.model.memory_mib:>6}MiB"
    usage = "N/A" if enabled else "0%"
    power = f"0W / {gpu.model.watts:>4}W"
    return [
        f"| {position:>3}  {gpu.model.name:<31}On  | {bus:>22} | {'0':>20} |",
        f"| N/A   N/A    P0   {power:>21} | {memory:>22} | {usage:>7}      Default |",
        f"|{'':41}|{'':24}| {mode:>20} |",
        _RULE,
    ]


def _mig(seen: Seen) -> list[str]:
    lines = []
    for position, (_, instances) in enumerate(seen):
        for index, each in enumerate(instances or ()):
            profile = each.profile
            memory = f"0MiB / {profile.memory_mib}MiB"
            engines = (
                f"{profile.copy:>2}{profile.encoder:>4}{profile.decoder:>5}{profile.ofa:>5}"
                f"{profile.jpeg:>5}"
            )
            lines += [
                f"| {position:>2} {each.gi:>4} {0:>3} {index:>4} | {memory:>32} "
                f"| {profile.sms:>3}      0 | {engines} |",
                _MIG_RULE,
            ]
    return lines
