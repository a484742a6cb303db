"""Each message is put to the layer that has to change."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

LAYERS = {"a": 3, "b": 6, "c": 5, "d": 4, "e": 2, "f": 3, "g": 7, "h": 5}
LOOK = {
    "a": "Which file would make the message go away?",
    "b": "Would another driver bring code for this device?",
    "c": "Which program wrote the PTX?",
    "d": "Which layer is libcudart?",
    "e": "Of the library and the module, which one is still the old one?",
    "f": "Which file in the image should not be there?",
    "g": "Does it depend on the machine or on the input?",
    "h": "Which layer is cuDNN, and who ships it?",
}


def check(work: Work) -> str:
    """Compare the answers; the first wrong one is named."""
    answers = {key: work.number(key, "layers, 1 to 7") for key in LAYERS}
    for key, layer in answers.items():
        if layer not in range(1, 8):
            raise Wrong(f"{key}: {layer:g} is no layer; there are 1 to 7.")
    wrong = [key for key, layer in answers.items() if layer != LAYERS[key]]
    if wrong:
        rest = f" ({len(wrong)} in all)" if len(wrong) > 1 else ""
        raise Wrong(f"Not layer {answers[wrong[0]]:g} for {wrong[0]}{rest}. {LOOK[wrong[0]]}")
    return "All eight messages are put to the layer that has to change."
