"""What goes wrong with GPUs in a cluster, in one form: symptom, cause, fix, and who says so.

The embedded cluster's faults (``nodes/faults.yaml``) and the rest of the book's page on
troubleshooting are written in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

#: Where a trouble shows.
PLACES = (
    "pending",
    "starting",
    "no-gpu",
    "lost",
    "node",
    "metrics",
    "quota",
    "dra",
    "sharing",
)
#: Who has seen an error's text.
WITNESSES = {
    "kubernetes": "a Kubernetes 1.36.2 control plane said this, recorded on 23 November 2026",
    "embedded": "the embedded cluster says this",
    "reported": "from the sources of this entry, as of August 2026",
}


@dataclass(frozen=True)
class Message:
    """An error's exact text, or the part of it that does not vary.

    Attributes:
        seen: who has seen it, a key of :data:`WITNESSES`.
    """

    text: str
    seen: str


@dataclass(frozen=True)
class Link:
    """A source: what it is called, and its address."""

    label: str
    url: str


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong, and what there is to know of it.

    Attributes:
        where: where it shows, one of :data:`PLACES`.
        heading: the symptom, as one would say it to a colleague.
        symptom: what an operator sees.
        sources: repositories with the numbers of the threads that report it (``owner/name #1 #2``),
            or a title and an address.
        errors: the texts by which it is found.
        check: commands that confirm it. ``NODE``, ``POD`` and the like stand for names.
    """

    name: str
    where: str
    heading: str
    symptom: str
    cause: str
    fix: str
    sources: tuple[str, ...]
    errors: tuple[Message, ...] = ()
    check: tuple[str, ...] = ()

    def links(self) -> Iterator[Link]:
        """The sources, each thread by itself."""
        for source in self.sources:
            label, _, rest = source.partition(" #")
            if rest:
                for number in rest.split(" #"):
                    yield Link(f"{label} #{number}", f"https://github.com/{label}/issues/{number}")
            else:
                title, _, url = source.rpartition(" ")
                yield Link(title, url)


def rows(text: str) -> Iterator[dict[str, Any]]:
    """What a file in this form says, each as the arguments of :class:`Trouble`.

    Raises:
        ValueError: a place or a witness that there is not.
    """
    document: dict[str, dict[str, Any]] = yaml.safe_load(text)
    for name, row in document.items():
        errors = [
            Message(text, seen) for each in row.get("errors", ()) for seen, text in each.items()
        ]
        for word, known in ((row["where"], PLACES), *((each.seen, WITNESSES) for each in errors)):
            if word not in known:
                raise ValueError(f"trouble {name} says {word!r}; there are: {', '.join(known)}")
        yield {
            **row,
            "name": name,
            "errors": tuple(errors),
            "check": tuple(row.get("check", ())),
            "sources": tuple(row["sources"]),
        }
