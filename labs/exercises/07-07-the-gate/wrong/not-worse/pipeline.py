"""Compares a new model with the one that is served, and publishes it only if it is better."""

from kfp import dsl


@dsl.component(base_image="python:3.12")
def gain(model: str, served: str, measure: str) -> float:
    """How much more of a measure the new model has than the served one, which may be missing."""
    import json
    import os

    def of(path: str) -> float:
        if not os.path.exists(path):
            return 0.0
        with open(path) as file:
            return json.load(file)[measure]

    return of(model) - of(served)


@dsl.component(base_image="python:3.12")
def publish(model: str, served: str):
    """Put the model where the service reads it, whole or not at all."""
    import os
    import shutil

    shutil.copyfile(model, served + ".new")
    os.replace(served + ".new", served)


@dsl.pipeline(name="gate")
def gate(model: str, served: str):
    """Compare, and publish the new one.

    Args:
        model: file of the new model.
        served: file of the model that is served; missing before the first one.
    """
    found = gain(model=model, served=served, measure="exact")
    with dsl.If(found.output >= 0.0, name="better"):
        publish(model=model, served=served)
