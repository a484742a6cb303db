"""Faults of driver and devices; what CUDA would say is scripted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mlk8s.sim.nodes.context import PLUGIN, Context, has_plugin
from mlk8s.sim.nodes.effects.software import hold_operands
from mlk8s.sim.nodes.labels import DEPLOY
from mlk8s.sim.nodes.migmanager import CONFIG
from mlk8s.sim.nodes.operator import PLUGIN_APP, driver_daemon_set
from mlk8s.sim.nodes.plugin import running_operand
from mlk8s.sim.nodes.state import NodeState, never
from mlk8s.sim.status import Object

# Of the container toolkit's runtime: whether the variable counts in containers without privileges.
_ACCEPT = "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"


def cuda_driver_insufficient(context: Context) -> None:
    """Containers that do not ask for the runtime nvidia find no driver libraries."""

    def match(pod: Object) -> bool:
        return context.gpu_pod(pod) and pod["spec"].get("runtimeClassName") != "nvidia"

    context.interfere(
        "run",
        match,
        lines=(
            "Failed to allocate device vector A (error code CUDA driver version is insufficient "
            "for CUDA runtime version)!",
            "[Vector addition of 50000 elements]",
        ),
    )


def nvml_unknown_error(context: Context) -> None:
    """NVML no longer finds the devices of the containers that run now; new ones have theirs."""
    running = (pod for pod in context.api.store.items("pods") if context.gpu_pod(pod))
    pods = frozenset(pod["metadata"]["uid"] for pod in running)
    # NVML_ERROR_UNKNOWN is 999; the shell sees 255.
    _answer(context, "Failed to initialize NVML: Unknown Error", 255, pods)


def driver_library_mismatch(context: Context) -> None:
    """The driver's libraries are newer than its loaded module."""
    message = "Failed to initialize NVML: Driver/library version mismatch"
    # NVML_ERROR_LIB_RM_VERSION_MISMATCH.
    _answer(context, f"{message}\nNVML library version: 580.105", 18)
    context.interfere(
        "run",
        context.operand(PLUGIN_APP),
        lines=(
            "I main.go:235] Starting NVIDIA Device Plugin",
            "E factory.go:77] Incompatible strategy detected auto",
            "E main.go:173] error starting plugins: error creating plugin manager: unable to "
            "create plugin manager: failed to initialize NVML: Driver/library version mismatch",
        ),
        container=PLUGIN,
    )
    context.interfere(
        "create",
        context.gpu_pod,
        "RunContainerError",
        "failed to create containerd task: failed to create shim task: OCI runtime create "
        "failed: runc create failed: unable to start container process: error during container "
        "init: error running prestart hook #0: exit status 1, stdout: , stderr: Auto-detected "
        "mode as 'legacy' nvidia-container-cli: initialization error: nvml error: driver/library "
        "version mismatch: unknown",
    )
    for state in context.states:
        if has_plugin(state):
            context.break_plugin(state)
    context.restart(PLUGIN_APP)


def _answer(context: Context, message: str, code: int, pods: frozenset[str] | None = None) -> None:
    """Let ``nvidia-smi`` say this instead of its table, in some pods or everywhere."""
    for state in context.states:
        state.smi_error, state.smi_code, state.smi_pods = message, code, pods

    def mend() -> None:
        for state in context.states:
            if state.smi_error == message:
                state.smi_error, state.smi_code, state.smi_pods = "", 0, None

    context.undo(mend)


def driver_module_rejected(context: Context) -> None:
    """The driver is to come from a container, and the kernel refuses its module."""
    context.create("daemonsets.apps", driver_daemon_set())
    context.interfere(
        "run",
        context.operand("nvidia-driver-daemonset"),
        lines=(
            "Installing NVIDIA driver kernel modules...",
            "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service",
            "Stopping NVIDIA persistence daemon...",
            "Unloading NVIDIA driver kernel modules...",
        ),
    )
    for state in context.states:
        context.label(state, {f"{DEPLOY}driver": "true"})
    hold_operands(context)


def fabric_manager_missing(context: Context) -> None:
    """CUDA waits for a fabric manager that is not there."""
    context.interfere(
        "run",
        context.gpu_pod,
        lines=(
            "cudaGetDeviceCount returned 802",
            "-> system not yet initialized",
            "Result = FAIL",
        ),
    )


def device_unhealthy(context: Context) -> None:
    """The first device of each node reports an Xid error.

    It is 94, a contained memory error: NVIDIA's catalog of Xids asks for a restart of the program
    alone, and the plugin takes it for critical all the same (k8s-device-plugin #1014).
    """
    for state in context.states:
        assert state.devices is not None
        units = state.devices.units()
        identity = units[0].device if units else state.devices.gpus[0].uuid
        context.fleet.fail(state.name, identity)
        _report(context, state, identity)
        context.undo(_healer(context, state, identity))


def _report(context: Context, state: NodeState, identity: str) -> None:
    """What the device plugin logs of it (``internal/rm/health.go``, ``internal/plugin/server.go``).

    A pod of the plugin that starts later knows nothing of it.
    """
    pod = running_operand(context.api, state.name)
    if pod is None or not has_plugin(state):
        return
    uid = pod["metadata"]["uid"]
    state.reports[uid] = [
        f"# scripted by mlk8s, fault {context.fault}: no GPU software ran here",
        f"I health.go:169] XidCriticalError: Xid=94 on Device={identity}; marking device as "
        "unhealthy.",
        f"I server.go:278] 'nvidia.com/gpu' device marked unhealthy: {identity}",
    ]

    def forget() -> None:
        del state.reports[uid]

    context.undo(forget)


def _healer(context: Context, state: NodeState, identity: str) -> Callable[[], None]:
    def heal() -> None:
        assert state.devices is not None
        state.devices.unhealthy.discard(identity)
        if state.spec.dra:
            context.fleet.publish(state)
        else:
            context.fleet.plugins.write(state)

    return heal


def unexpected_admission(context: Context) -> None:
    """Pods are admitted while the plugin has no healthy device."""

    def match(pod: Object) -> bool:
        return context.gpu_pod(pod) and not pod["spec"].get("resourceClaims")

    context.interfere(
        "admission",
        match,
        "UnexpectedAdmissionError",
        "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices "
        "nvidia.com/gpu, which is unexpected",
    )


def all_gpus_visible(context: Context) -> None:
    """Containers without a request see every GPU, while the toolkit accepts their variable."""

    def accepts(node: str) -> bool:
        return context.toolkit(node).get(_ACCEPT, "true") != "false"

    def stop() -> None:
        for state in context.states:
            state.leaks = never

    for state in context.states:
        state.leaks = partial(accepts, state.name)
    context.undo(stop)


def mig_in_use(context: Context) -> None:
    """A process outside Kubernetes uses the GPU, and somebody asks for another layout."""
    for state in context.states:
        assert state.devices is not None
        state.host_client = True
        cut = any(gpu.instances is not None for gpu in state.devices.gpus)
        # The label first, the process last, so that going back finds the GPU free.
        context.label(state, {CONFIG: "all-disabled" if cut else "all-balanced"})

    def free() -> None:
        for state in context.states:
            state.host_client = False

    context.undo(free)
