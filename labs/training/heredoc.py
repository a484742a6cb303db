#!/usr/bin/env python3
"""What becomes of a training function on its way into a pod.

Kubeflow's SDK puts the function's source into a shell script, between "<< EOM" and "EOM", and the
pod's bash writes it to a file that torchrun runs (kubeflow/sdk 0.5.0,
kubeflow/trainer/constants/constants.py, EXEC_FUNC_SCRIPT). The marker is not in quotes, so bash
reads the source as it reads text in double quotes: $NAME becomes the variable's value, `command`
is executed and replaced by what it prints, and of two backslashes one remains. Run this file to see
it happen to a function that has all three.
"""

from __future__ import annotations

import difflib
import inspect
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path


def careless() -> None:
    """The three traps, one on each line."""
    print("this costs $5")
    print("today is `echo whatever bash was told`")
    print("a backslash: \\")


def careful() -> None:
    """The same output, from a source that bash leaves alone."""
    print("this costs", chr(36) + "5")
    print("today is", chr(96) + "echo whatever bash was told" + chr(96))
    print("a backslash:", chr(92))


def arrives(function: Callable[..., object]) -> str:
    """The file that torchrun would run in the pod, made by the SDK's own script in this shell.

    What stands in backticks is executed, here as there: render only functions that you know.

    Args:
        function: a training function without parameters.

    Raises:
        subprocess.CalledProcessError: bash does not take the script.
    """
    from kubeflow.trainer.backends.kubernetes.utils import get_command_using_train_func
    from kubeflow.trainer.constants import constants
    from kubeflow.trainer.types import types

    trainer = types.RuntimeTrainer(
        trainer_type=types.TrainerType.CUSTOM_TRAINER, framework="torch", image="mlk8s/course"
    )
    trainer.set_command(constants.TORCH_COMMAND)
    runtime = types.Runtime(
        name="torch-distributed",
        trainer=trainer,
        kind=types.RuntimeKind.CLUSTER_TRAINING_RUNTIME,
    )
    command = get_command_using_train_func(runtime, function, None, [], None)
    # The last line starts the training; the ones before write the file.
    writes = command[-1].rstrip().rpartition("\n")[0]
    with tempfile.TemporaryDirectory(prefix="heredoc-") as folder:
        subprocess.run([*command[:-1], writes], cwd=folder, check=True)
        [file] = Path(folder).iterdir()
        return file.read_text()


def difference(function: Callable[..., object]) -> str:
    """From the source to what arrives, as a unified diff; empty when nothing is lost."""
    sent = textwrap.dedent(inspect.getsource(function)) + f"\n{function.__name__}()\n"
    lines = difflib.unified_diff(
        sent.strip().splitlines(),
        arrives(function).strip().splitlines(),
        "written",
        "arrives in the pod",
        lineterm="",
        n=0,
    )
    return "\n".join(lines)


def main() -> int:
    """Show both functions."""
    for function in (careless, careful):
        lost = difference(function)
        print(f"{function.__name__}:\n{lost or 'arrives as it was written'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
