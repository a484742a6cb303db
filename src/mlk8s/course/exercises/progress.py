"""What the reader has done so far: a small JSON file beside the reader's answers.

It is read anew before each change and put in place whole, so that a notebook and a terminal may
both write, and an interruption loses nothing. A file that is not ours is never written to.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mlk8s.errors import UsageError

_WHAT, _FORMAT = "mlk8s exercises", 1


@dataclass(frozen=True)
class Record:
    """What is known of one exercise.

    Attributes:
        started, solved: local time in ISO form; empty when it has not happened.
        tries: checks that came to a verdict, until it was solved.
        hints: hints seen.
        solution: whether the solution was looked at.
    """

    started: str = ""
    tries: int = 0
    hints: int = 0
    solution: bool = False
    solved: str = ""


class Progress:
    """The file.

    Args:
        path: where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Record]:
        """The records by the exercises' names; empty when there is no file yet.

        Raises:
            UsageError: the file is damaged, foreign, or of a later version of the course.
        """
        return {name: _record(entry) for name, entry in self._document()["exercises"].items()}

    def of(self, name: str) -> Record:
        """The record of one exercise."""
        return self.read().get(name, Record())

    def started(self, name: str) -> None:
        """It was begun; the first time counts."""
        self._change(name, lambda old: replace(old, started=old.started or _now()))

    def hinted(self, name: str, hints: int) -> None:
        """So many hints were seen."""
        self._change(name, lambda old: replace(old, hints=max(old.hints, hints)))

    def shown(self, name: str) -> None:
        """The solution was looked at."""
        self._change(name, lambda old: replace(old, solution=True))

    def tried(self, name: str, solved: bool) -> None:
        """A check came to a verdict. After the first success nothing is counted any more."""
        done = _now() if solved else ""
        self._change(
            name,
            lambda old: old if old.solved else replace(old, tries=old.tries + 1, solved=done),
        )

    def _change(self, name: str, change: Any) -> None:
        document = self._document()
        # Entries of exercises and keys that this version does not know stay as they are.
        kept = document["exercises"].get(name, {})
        document["exercises"][name] = {**kept, **asdict(change(_record(kept)))}
        with writable(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, fresh = tempfile.mkstemp(dir=self.path.parent, prefix=".progress-")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as out:
                    out.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
                os.replace(fresh, self.path)
            except BaseException:
                Path(fresh).unlink(missing_ok=True)
                raise

    def _document(self) -> dict[str, Any]:
        try:
            text = self.path.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return {"what": _WHAT, "format": _FORMAT, "exercises": {}}
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(str(error)) from error
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise self._unusable(f"not JSON: {error}") from error
        if not isinstance(document, dict) or document.get("what") != _WHAT:
            raise self._unusable(f'it does not say "what": "{_WHAT}"')
        if document.get("format") != _FORMAT:
            raise self._unusable(f"it is of format {document.get('format')!r}, not {_FORMAT}")
        records = document.get("exercises")
        if not isinstance(records, dict):
            raise self._unusable('"exercises" is no mapping')
        for name, record in records.items():
            if not isinstance(record, dict):
                raise self._unusable(f"the entry of {name} is no mapping")
            for field in fields(Record):
                if type(record.get(field.name, field.default)) is not type(field.default):
                    raise self._unusable(f"{name}: {field.name} is {record[field.name]!r}")
        return document

    def _unusable(self, reason: str) -> UsageError:
        return UsageError(
            f"{self.path} is not a progress file that this course can read ({reason}). It was not "
            "changed.",
            "repair it, or move it away to begin a new one; your answers are not in it.",
        )


def _record(entry: dict[str, Any]) -> Record:
    known = {field.name for field in fields(Record)}
    return Record(**{key: value for key, value in entry.items() if key in known})


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn a refusal of the file system into a sentence.

    Raises:
        UsageError: it refused.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"The folder of your answers cannot be written: {error.filename or folder} "
            f"({error.strerror}).",
            "set MLK8S_WORK to a folder that you can write to.",
        ) from error


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
