"""How good the answers are: valid, of the right kind, with the right fields, exactly right.

The four are steps, since each is easier than the next: YAML that Kubernetes accepts is soon
learned, and says nothing about whether it is what was asked for.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from mlk8s.errors import UsageError
from mlk8s.lm import generation
from mlk8s.lm.judges import Judge, Schemas, Server
from mlk8s.lm.model import Model
from mlk8s.lm.task import Example, Manifest
from mlk8s.provenance import Provenance, Scalar, Table

__all__ = ["Judge", "Report", "Schemas", "Server", "Verdict", "judge", "leaves", "verdict"]

#: What a leaf is where there is none.
_ABSENT = "(absent)"


@dataclass(frozen=True)
class Verdict:
    """One answer, judged.

    Attributes:
        example: the request and the truth.
        answer: what the model wrote.
        refusal: why it is no valid manifest; empty if it is one.
        wrong: fields that differ from the truth, by path: what is expected, what is there.
        fields: leaves of the truth and of the answer together; of an answer that cannot be read,
            those of the truth.
        right_kind: whether the object is of the kind that was asked for.
    """

    example: Example
    answer: str
    refusal: str
    wrong: Mapping[str, tuple[Scalar, Scalar]]
    fields: int
    right_kind: bool

    @property
    def valid(self) -> bool:
        """Whether it is one object that the judge accepts."""
        return not self.refusal

    @property
    def right_fields(self) -> float:
        """Share of the leaves that are equal; a leaf too many counts as one that is missing."""
        return 1 - len(self.wrong) / self.fields

    @property
    def exact(self) -> bool:
        """Whether the object is the truth, and valid."""
        return self.valid and not self.wrong

    @property
    def difference(self) -> str:
        """From the truth to the answer, as a unified diff; empty when they are the same text."""
        lines = difflib.unified_diff(
            self.example.answer.splitlines(),
            self.answer.splitlines(),
            "expected",
            "answered",
            lineterm="",
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """All answers of a model to some requests, judged.

    Attributes:
        verdicts: in the order of the examples.
        provenance: where the figures come from.
    """

    verdicts: tuple[Verdict, ...]
    provenance: Provenance = field(repr=False)

    def _share(self, values: Iterable[float]) -> float:
        return sum(values) / len(self.verdicts)

    @property
    def valid(self) -> float:
        """Share of answers that the judge accepts."""
        return self._share(each.valid for each in self.verdicts)

    @property
    def right_kind(self) -> float:
        """Share of answers of the kind that was asked for."""
        return self._share(each.right_kind for each in self.verdicts)

    @property
    def right_fields(self) -> float:
        """Mean share of fields that are right."""
        return self._share(each.right_fields for each in self.verdicts)

    @property
    def exact(self) -> float:
        """Share of answers without any mistake."""
        return self._share(each.exact for each in self.verdicts)

    @property
    def summary(self) -> Table:
        """The four shares in a row."""
        row: dict[str, Scalar] = {
            "requests": len(self.verdicts),
            "valid [%]": round(100 * self.valid, 1),
            "right kind [%]": round(100 * self.right_kind, 1),
            "right fields [%]": round(100 * self.right_fields, 1),
            "exact [%]": round(100 * self.exact, 1),
        }
        return Table(row, self.provenance, title="Answers to held-out requests")

    def mistakes(self) -> Table:
        """Where the valid answers are wrong: by field, the most frequent first."""
        asked: Counter[str] = Counter()
        wrong: dict[str, list[tuple[Scalar, Scalar]]] = {}
        for each in self.verdicts:
            if each.valid:
                asked.update(leaves(each.example.manifest).keys() | each.wrong.keys())
                for path, pair in each.wrong.items():
                    wrong.setdefault(path, []).append(pair)
        rows: list[dict[str, Scalar]] = []
        for path, pairs in sorted(wrong.items(), key=lambda item: (-len(item[1]), item[0])):
            (expected, found), _ = Counter(map(_texts, pairs)).most_common(1)[0]
            rows.append(
                {
                    "field": path,
                    "wrong": len(pairs),
                    "of": asked[path],
                    "expected, most often": expected,
                    "answered": found,
                }
            )
        return Table(rows, self.provenance, title="Mistakes in valid answers, by field")

    def __repr__(self) -> str:
        return repr(self.summary)

    def _repr_html_(self) -> str:
        return self.summary._repr_html_()


def judge(
    model: Model,
    examples: Sequence[Example],
    accepts: Judge | None = None,
    *,
    longest: int = generation.LONGEST,
) -> Report:
    """Put requests to a model and judge its answers.

    Args:
        model: any.
        examples: requests with their truth; held-out ones, to know what was learned.
        accepts: says whether an object is valid; by default :class:`Schemas`.
        longest: tokens of an answer.

    Raises:
        UsageError: there are no examples.
        ClusterError, ClusterUnavailable: as the judge raises them.
    """
    if not examples:
        raise UsageError("There are no examples to judge by.", "pass at least one.")
    chosen = Schemas() if accepts is None else accepts
    answers = generation.generate(model, [each.prompt for each in examples], longest=longest)
    verdicts = tuple(
        verdict(example, answer, chosen) for example, answer in zip(examples, answers, strict=True)
    )
    return Report(verdicts, _provenance(model, len(examples), chosen))


def verdict(example: Example, answer: str, accepts: Judge) -> Verdict:
    """Judge one answer."""
    truth = leaves(example.manifest)
    try:
        found = _object(answer)
    except ValueError as error:
        missing = {path: (value, _ABSENT) for path, value in truth.items()}
        return Verdict(example, answer, str(error), missing, len(truth), False)
    there = leaves(found)
    every = list(dict.fromkeys((*truth, *there)))
    pairs = {path: (truth.get(path, _ABSENT), there.get(path, _ABSENT)) for path in every}
    # 1 and true are equal in Python, and not to Kubernetes.
    wrong = {p: (a, b) for p, (a, b) in pairs.items() if a != b or type(a) is not type(b)}
    return Verdict(
        example,
        answer,
        accepts(found) or "",
        wrong,
        len(every),
        found["kind"] == example.kind,
    )


def leaves(value: Any, path: str = "") -> dict[str, Scalar]:
    """Every leaf of an object by its path, as ``spec.ports[0].port``; empty parts are leaves."""
    inner: Iterator[tuple[str, Any]] | None = None
    if isinstance(value, dict) and value:
        inner = ((f"{path}.{key}" if path else str(key), each) for key, each in value.items())
    elif isinstance(value, list) and value:
        inner = ((f"{path}[{index}]", each) for index, each in enumerate(value))
    if inner is None:
        scalar = isinstance(value, str | int | float | bool | None)
        return {path: value if scalar else str(value)}
    return {where: leaf for at, each in inner for where, leaf in leaves(each, at).items()}


def _object(answer: str) -> Manifest:
    """The one object in an answer.

    Raises:
        ValueError: it is no YAML, not one document, or has not what every object has.
    """
    try:
        documents = list(yaml.safe_load_all(answer))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(f"no YAML: {getattr(error, 'problem', None) or error}{place}") from error
    if len(documents) != 1:
        raise ValueError(f"{len(documents)} documents, and one was asked for")
    [found] = documents
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__}, not an object")
    metadata = found.get("metadata")
    named = isinstance(metadata, dict) and isinstance(metadata.get("name"), str)
    if not named or not all(isinstance(found.get(key), str) for key in ("apiVersion", "kind")):
        raise ValueError("apiVersion, kind or metadata.name is missing, or is no text")
    return found


def _texts(pair: tuple[Scalar, Scalar]) -> tuple[str, str]:
    return str(pair[0]), str(pair[1])


def _provenance(model: Model, count: int, accepts: Judge) -> Provenance:
    from mlk8s.bench import device
    from mlk8s.gpu import source

    method = f"{count} requests, greedy answers, judged by {accepts}"
    if model.device.type == "cuda":
        return source.live_provenance(method)
    return device.cpu_provenance(method)
