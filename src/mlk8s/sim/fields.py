"""How Go holds and sends the fields of Kubernetes' types, which their JSON schemas do not say.

``data/fields.txt`` has a line for each type with its fields in the order of their protobuf
numbers. These numbers are the wire format that clients and servers of all versions share. A
pointer is marked, because Go omits a zero that is not behind one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources as package_files

_PACKAGES = {"meta": "io.k8s.apimachinery.pkg.apis.meta"}


@dataclass(frozen=True)
class Field:
    """One field of a type.

    Attributes:
        name: in JSON; for an inlined type its definition.
        number: in protobuf.
        pointer: whether a zero value is told from an absent one.
        inlined: whether the fields of the type stand among those of the one that holds it.
    """

    name: str
    number: int
    pointer: bool = False
    inlined: bool = False


@cache
def of(definition: str) -> Mapping[str, Field]:
    """The fields of a type by their names in JSON; empty when the table has no line for it."""
    found: dict[str, Field] = {}
    for field in sent(definition):
        if field.inlined:
            found.update(of(field.name))
        else:
            found[field.name] = field
    return found


def sent(definition: str) -> Sequence[Field]:
    """The fields of a type as protobuf numbers them; empty when it is not in the table."""
    return _table().get(definition, ())


@cache
def _table() -> dict[str, list[Field]]:
    text = (package_files.files("mlk8s.sim") / "data" / "fields.txt").read_text()
    table = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, *words = line.split()
        definition = _definition(name)
        table[definition] = _line(words, definition.rpartition(".")[0])
    return table


def _definition(name: str) -> str:
    package, _, rest = name.partition(".")
    return f"{_PACKAGES.get(package, f'io.k8s.api.{package}')}.{rest}"


def _line(words: list[str], package: str) -> list[Field]:
    fields, number = [], 0
    for word in words:
        name, _, stated = word.partition("=")
        number = int(stated) if stated else number + 1
        if name.startswith("~"):
            fields.append(Field(f"{package}.{name[1:]}", number, inlined=True))
        else:
            fields.append(Field(name.removeprefix("*"), number, pointer=name.startswith("*")))
    return fields
