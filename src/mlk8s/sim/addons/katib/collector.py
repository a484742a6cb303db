"""The metrics collectors: what runs in the containers that Katib puts into the pods of Trials.

Each follows the log of the primary container, repeats it in its own, stops the Trial early where
its rules say so, and reports the metrics when the primary container has ended. Source:
``cmd/metricscollector/v1beta1/file-metricscollector/main.go`` of Katib at v0.19.0, which is a
process of its own beside the Trial's; here it runs in the simulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable
from datetime import UTC, datetime

from mlk8s.sim.addons.base import Setting
from mlk8s.sim.addons.katib import conditions, metrics, names
from mlk8s.sim.addons.katib.medianstop import StopRules
from mlk8s.sim.addons.katib.observations import Observations
from mlk8s.sim.addons.objects import write_status
from mlk8s.sim.api import Api
from mlk8s.sim.controllers.base import Controller
from mlk8s.sim.kubelet.container import Execution
from mlk8s.sim.kubelet.launch import Scripted
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

_STOPPED = ("TrialEarlyStopped", "Trial is early stopped")
# Go's klog.Fatal.
_FATAL = 255
# Where in main.go klog says that a message is from.
_STARTS, _REPEATS, _WATCHES, _STOPS, _FAILS, _REPORTS = 400, 143, 183, 265, 425, 459


class Collectors(Controller):
    """All collectors of the cluster.

    Args:
        setting: the cluster.
        observations: where they report to.
    """

    name = "katib-metrics-collector"
    watch = ("pods",)

    def __init__(self, setting: Setting, observations: Observations) -> None:
        super().__init__(setting.api, setting.recorder, setting.pods)
        self.kubelet = setting.kubelet
        self.observations = observations
        self._running: dict[int, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """End all collectors."""
        for task in self._running.values():
            task.cancel()

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The pods that have a collector."""
        labels = change.object["metadata"].get("labels") or {} if change.key == "pods" else {}
        if names.TRIAL_LABEL not in labels or change.type == "DELETED":
            return ()
        return ((change.namespace, change.name),)

    def sync(self, namespace: str, name: str) -> None:
        """Start the collector of a pod when its container has started."""
        pod = self.api.find("pods", namespace, name)
        run = self.kubelet.execution(namespace, name, names.COLLECTOR)
        if pod is None or not isinstance(run, Scripted) or run.exit is not None:
            return
        trial_name = pod["metadata"]["labels"][names.TRIAL_LABEL]
        trial = self.api.find(names.TRIALS, namespace, trial_name)
        if trial is None or id(run) in self._running:
            return
        primary = self.kubelet.execution(namespace, name, trial["spec"]["primaryContainerName"])
        if primary is None:
            # It has not been made yet: the change of the pod that tells of it comes.
            return
        collector = _Collector(self.api, self.observations, trial, primary, run)
        task = asyncio.get_running_loop().create_task(collector.work())
        self._running[id(run)] = task
        task.add_done_callback(lambda _: self._running.pop(id(run)))


class _Collector:
    """The collector of one run of one pod.

    Args:
        api: the cluster.
        observations: where it reports to.
        trial: whose pod it is.
        primary: the run of the primary container.
        own: its own run.
    """

    def __init__(
        self,
        api: Api,
        observations: Observations,
        trial: Object,
        primary: Execution,
        own: Scripted,
    ) -> None:
        self.api = api
        self.observations = observations
        self.trial = trial
        self.primary = primary
        self.own = own
        spec = trial["spec"]
        self._metrics = metrics.wanted(spec["objective"])
        self._filters = metrics.filters(spec["metricsCollector"])
        self._found: list[metrics.Metric] = []
        rules = spec.get("earlyStoppingRules") or []
        self._rules = StopRules(rules, spec["objective"]) if rules else None
        self._ruled = {each["name"] for each in rules}
        self._stopped = False

    async def work(self) -> None:
        """Follow the log to its end, then report."""
        self._say(_STARTS, f"Trial Name: {self.trial['metadata']['name']}")
        rest = ""
        async for data in self.primary.log.read(follow=True):
            *lines, rest = (rest + data.decode(errors="replace")).split("\n")
            for line in lines:
                self._line(line)
        if rest:
            self._line(rest)
        if self.own.exit is not None:
            return  # The pod has been stopped meanwhile.
        ended = self.primary.exit
        if ended is None or ended.code != 0:
            self._say(_FAILS, "Failed to wait for worker container: training has failed", "F")
            self.own.end(_FATAL)
            return
        self._report()
        self.own.end(0)

    def _line(self, line: str) -> None:
        self._say(_REPEATS if self._rules is None else _WATCHES, line)
        if self._stopped:
            return
        self._found += metrics.in_line(line, self._metrics, self._filters)
        if self._rules is None or not any(name in line for name in self._ruled):
            return
        for name, text in metrics.matches(line, self._filters):
            value = metrics.number(text)
            if value is not None and self._rules.report(name, value):
                self._stopped = True
                self._say(_STOPS, "Training container is early stopped")
                self.primary.conclude()
                return

    def _report(self) -> None:
        metadata = self.trial["metadata"]
        found = metrics.collected(self._found, self._metrics[0])
        if self._stopped:
            self._mark()
        namespace, name = metadata["namespace"], metadata["name"]
        self.observations.report(metadata["uid"], namespace, name, found)
        listed = "".join(
            f'metric_logs:{{time_stamp:"{each.time}" metric:{{name:"{each.name}" '
            f'value:"{each.value}"}}}} '
            for each in found
        )
        self._say(_REPORTS, f"Metrics reported. :\n{listed.rstrip()}")

    def _mark(self) -> None:
        """Say in the Trial that it was stopped: Katib's service for early stopping does so."""
        metadata = self.trial["metadata"]
        trial = self.api.find(names.TRIALS, metadata["namespace"], metadata["name"])
        if trial is None or trial["metadata"]["uid"] != metadata["uid"]:
            return
        status = trial.setdefault("status", {})
        conditions.put(status, names.EARLY_STOPPED, True, *_STOPPED, self.api.timestamp())
        write_status(self.api, names.TRIALS, trial, status)

    def _say(self, line: int, text: str, severity: str = "I") -> None:
        """Print a message as klog does: severity, day, time, thread, place."""
        now = self.api.clock.now()
        moment = datetime.fromtimestamp(now, UTC).strftime("%m%d %H:%M:%S.%f")
        head = f"{severity}{moment} {1:>7} main.go:{line}]"
        self.own.log.write(f"{head} {text}\n".encode(), now)
