"""Success and failure conditions of trial templates: the part of GJSON that they are written in.

Katib evaluates them with ``github.com/tidwall/gjson``. Modeled is the form of Katib's own
defaults: a path to a list, and queries that filter it,
``status.conditions.#(type=="Complete")#|#(status=="True")#``; also with a query that takes the
first match, ``#(type=="Complete")``, as the last step.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlk8s.sim.status import Object

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_QUERY = rf'#\((?P<key>{_NAME})=="(?P<value>[^"\\]*)"\)(?P<all>#?)'
_FORM = re.compile(rf"(?P<path>{_NAME}(?:\.{_NAME})*)\.(?P<queries>#.+)")
_STEP = re.compile(_QUERY)


class UnsupportedError(Exception):
    """A condition in another form than those that are modeled."""


@dataclass(frozen=True)
class Condition:
    """A condition that has been read.

    Attributes:
        path: the names that lead to the list.
        queries: key and value that its items must have.
    """

    path: tuple[str, ...]
    queries: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises:
            UnsupportedError: it has another form.
        """
        found = _FORM.fullmatch(text)
        steps = found["queries"].split("|") if found else []
        read = [_STEP.fullmatch(step) for step in steps]
        if found is None or not all(read) or not all(step["all"] for step in read[:-1] if step):
            raise UnsupportedError(
                f"the embedded cluster's add-on katib reads conditions of the form "
                f'status.conditions.#(type=="Complete")#|#(status=="True")#, not {text!r}'
            )
        queries = tuple((step["key"], step["value"]) for step in read if step)
        return cls(tuple(found["path"].split(".")), queries)

    def match(self, obj: Object) -> Object | None:
        """The first item of the list that fits; ``None`` where none does."""
        value: object = obj
        for name in self.path:
            value = value.get(name) if isinstance(value, dict) else None
        for item in value if isinstance(value, list) else ():
            if isinstance(item, dict) and all(item.get(key) == text for key, text in self.queries):
                return item
        return None
