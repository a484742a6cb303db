"""Runs the pipeline of pipeline.py on this machine. Try it: python run.py.

A model is its scores on held-out requests here: the loss, and the share of its answers that are
exactly what was asked for.
"""

import contextlib
import io
import json
import sys
import tempfile
import warnings
from pathlib import Path

Scores = dict[str, float]
SERVED: Scores = {"loss": 0.20, "exact": 0.80}
#: What is new, and whether it is to be published.
CASES: dict[str, tuple[Scores, bool]] = {
    "a model that is worse": ({"loss": 0.15, "exact": 0.65}, False),
    "a model that is as good": ({"loss": 0.18, "exact": 0.80}, False),
    "a model that is better": ({"loss": 0.25, "exact": 0.85}, True),
}


def first_mistake() -> str | None:
    """What the pipeline decides wrongly first; None where it decides rightly."""
    # The folder of this file is not on Python's path where it is called from elsewhere.
    sys.path.insert(0, str(Path(__file__).parent))
    # About settings for a cluster, which mean nothing here.
    warnings.simplefilter("ignore")
    from kfp import local
    from pipeline import gate

    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=f"{name}/runs")
        served, model = Path(name) / "served.json", Path(name) / "new.json"
        for case, (new, wanted) in CASES.items():
            served.write_text(json.dumps(SERVED))
            model.write_text(json.dumps(new))
            gate(model=str(model), served=str(served))
            published = json.loads(served.read_text()) == new
            if published != wanted:
                return f"{case} is {'' if published else 'not '}published"
    return None


if __name__ == "__main__":
    print(first_mistake() or "the gate decides rightly")
