"""Says what to do next after a failure that has no words of its own for it.

Ansible finds it beside the playbooks. A task that fails with the output of a program names the
thing and the reason; what is left to say is the same for all of them.
"""

from __future__ import annotations

from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.callback import CallbackBase

AGAIN = "run the same command again; it goes on from there."


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Prints after the recap, for each machine that was given up."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "next_step"

    def __init__(self) -> None:
        super().__init__()
        self._steps: dict[str, str] = {}

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Keep the step of a failure, until another one of this machine says what to do."""
        said = "Next:" in str(result.result.get("msg", ""))
        step = f"Mend what the step {result.task.get_name()!r} names above, and {AGAIN}"
        self._steps[result.host.get_name()] = "" if said else step

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Keep that SSH did not work."""
        self._steps[result.host.get_name()] = (
            f"Get SSH to work without a question, with the address and the user above, and {AGAIN}"
        )

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Say it; a failure that was rescued is none."""
        for host, step in self._steps.items():
            if step and (host in stats.failures or host in stats.dark):
                self._display.display(f"{host}: Next: {step}")
