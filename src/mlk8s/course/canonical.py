"""The form in which a notebook is stored in git, and what must not be stored in it.

:func:`canonical` gives the one text that a notebook has, whoever saved it last, so that a diff
shows what changed for a reader. :func:`problems` finds what no rewriting repairs: an error output,
a path of somebody's machine, a figure that a screen reader cannot read. Nothing here executes a
notebook; :mod:`mlk8s.course.run` does.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlk8s.errors import NotebookError

if TYPE_CHECKING:
    from nbformat import NotebookNode

PLOTLY = "application/vnd.plotly.v1+json"
_WIDGET = "application/vnd.jupyter.widget-view+json"  # refers to a state that is not stored
_KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
# Written by editors and by papermill at every save or run; of no use to a reader.
_CHURN = ["papermill", "vscode", "colab"]
_NOTEBOOK_CHURN = [*_CHURN, "widgets", "signature", "toc", "varInspector", "celltoolbar"]
_CELL_CHURN = [*_CHURN, "execution", "collapsed", "scrolled", "ExecuteTime", "trusted"]

#: The badge of what a run has measured: another day and machine write another one.
_LIVE = re.compile(r"\[live · [^\]]*\d{4}-\d\d-\d\d\]")
_CHAPTER = re.compile(r"\d\d-[a-z0-9-]+\.ipynb")
_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_IMPORTS_US = re.compile(r"^\s*(?:import|from)\s+mlk8s\b", re.MULTILINE)
_HOME_PATH = re.compile(
    r"(?<![\w.~+-])/(?:(?:home|root|Users)/|tmp/(?!mlk8s\b))[\w.-]+|\b[A-Z]:\\+Users\\"
)
_UUID = re.compile(r"\b(?:GPU|MIG|MIG-GPU)-(?!0{8})[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-")
_SERIAL = re.compile(r"(?i)\bserial\b[\s\S]{0,60}?\b\d{10,13}\b")
_MAC = re.compile(
    r"(?<![\w:])(?!00:00:00:|(?i:ff:ff:ff:))(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:])"
)
_FENCE = re.compile(r"\s*(`{3,}|~{3,}|:{3,})\s*(\{[\w:-]+\})?(.*)")
_HEADING = re.compile(r" {0,3}(#{1,6})\s")
_IMAGE = re.compile(r"!\[\s*\]\(|<img\b(?![^>]*\balt\s*=\s*[\"'][^\"']+[\"'])[^>]*>?")
_LITERAL = {"{code}", "{code-block}", "{code-cell}", "{literalinclude}", "{math}", "{mermaid}"}


def read(path: Path) -> NotebookNode:
    """The notebook in a file, as it is: not validated, nothing added.

    Raises:
        NotebookError: the file cannot be read, or is not a notebook.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotebookError(
            f"The notebook {path} cannot be read: {error.strerror}.",
            "check the name, and that the file may be read.",
        ) from error
    except UnicodeDecodeError as error:
        raise _not_a_notebook(str(path), error) from error
    return parse(text, str(path))


def parse(text: str, title: str) -> NotebookNode:
    """The notebook in a text, as it is; ``title`` is what an error calls it.

    Raises:
        NotebookError: the text is not a notebook.
    """
    import nbformat

    try:
        # Not nbformat.read: it invents random cell ids for notebooks that have none.
        nb: NotebookNode = nbformat.reader.reads(text)
        if nb.nbformat != 4:
            nb = nbformat.convert(nb, 4)
            for cell in nb.cells:
                del cell["id"]
        return nb
    except (ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as error:
        # nbformat lets through whatever its own code meets in a file of another shape.
        raise _not_a_notebook(title, error) from error


def _not_a_notebook(title: str, error: Exception) -> NotebookError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return NotebookError(
        f"The file {title} is not a notebook: {reason}.",
        "restore it from git, or repair its JSON.",
    )


def normalized(nb: NotebookNode) -> NotebookNode:
    """A copy in nbformat 4.5 without anything that changes from one save or run to the next."""
    nb = copy.deepcopy(nb)
    nb.nbformat, nb.nbformat_minor = 4, 5
    for key in _NOTEBOOK_CHURN:
        nb.metadata.pop(key, None)
    nb.metadata.kernelspec = dict(_KERNELSPEC)
    nb.metadata.language_info = {"name": "python"}
    seen: set[str] = set()
    code_cells = 0
    for index, cell in enumerate(nb.cells):
        if not _CELL_ID.fullmatch(str(cell.get("id", ""))) or cell.id in seen:
            content = f"{index}\n{cell.cell_type}\n{cell.source}"
            cell.id = hashlib.sha256(content.encode()).hexdigest()[:8]
        seen.add(cell.id)
        for key in _CELL_CHURN:
            cell.metadata.pop(key, None)
        if tags := sorted(set(cell.metadata.pop("tags", []))):
            cell.metadata.tags = tags
        if cell.cell_type == "code":
            # Its place among the code cells: what a run from a clean kernel gives, and what nbval
            # takes as the sign that the outputs belong to a run.
            code_cells += 1
            cell.execution_count = code_cells
            cell.outputs = _outputs(cell.get("outputs", []), code_cells)
    return nb


def _outputs(outputs: Iterable[NotebookNode], count: int) -> list[NotebookNode]:
    """The outputs, with neighbors of one stream merged: where they split depends on timing."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
            continue
        if output.output_type == "execute_result":
            output.execution_count = count
        output.get("data", {}).pop(_WIDGET, None)
        merged.append(output)
    return merged


def is_injected(cell: NotebookNode) -> bool:
    """Whether papermill put the cell there, to set parameters."""
    return "injected-parameters" in cell.metadata.get("tags", [])


def canonical(nb: NotebookNode) -> str:
    """The text of a notebook as stored in git: sorted keys, one-space indent, a last newline.

    Raises:
        NotebookError: the notebook does not have the structure that nbformat 4.5 asks for.
    """
    import nbformat

    nb = normalized(nb)
    try:
        nbformat.validate(nb)
    except nbformat.ValidationError as error:
        raise NotebookError(
            f"The notebook is not valid nbformat 4.5: {str(error).splitlines()[0]}.",
            "save it once from JupyterLab, or restore it from git.",
        ) from error
    return str(nbformat.v4.writes(nb)).rstrip("\n") + "\n"


def write(nb: NotebookNode, path: Path) -> bool:
    """Store a notebook in canonical form.

    Returns:
        Whether the file changed. One that is canonical already keeps its time stamp.
    """
    text = canonical(nb)
    if path.exists() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)
    return True


def write_text(path: Path, text: str) -> None:
    """Store a text; a reader of the file sees the old one or the new one, whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def problems(path: Path, *, host: str | None = None) -> list[str]:
    """What keeps a notebook from being published, one line each, with the number of the cell.

    Args:
        path: the notebook. One named ``NN-slug.ipynb`` is a chapter, and needs a parameters cell.
        host: the host name that must not occur; that of this machine unless given.

    Returns:
        Lines ``path: cell N: problem``; cells of all kinds are counted, from 1.
    """
    try:
        nb = read(path)
        text = canonical(nb)
    except NotebookError as error:
        return [f"{path}: {error.problem}"]
    host = socket.gethostname() if host is None else host
    found = []
    if path.read_bytes() != text.encode():
        found.append(f"{path}: not in canonical form; `mlk8s notebooks fix` rewrites it")
    tags = {tag for cell in nb.cells for tag in cell.metadata.get("tags", [])}
    if _CHAPTER.fullmatch(path.name) and "parameters" not in tags:
        found.append(f"{path}: no cell is tagged `parameters`")
    level, code_seen = 0, False
    for number, cell in enumerate(nb.cells, 1):
        lines: list[str] = []
        if cell.cell_type == "markdown":
            lines, level = _markdown(cell.source, level)
        elif cell.cell_type == "code":
            if not code_seen and not _IMPORTS_US.search(cell.source):
                lines.append("the first code cell does not import mlk8s")
            code_seen = True
            lines += _code(cell)
        lines += _identifiers(cell, host)
        found += [f"{path}: cell {number}: {line}" for line in dict.fromkeys(lines)]
    return found


def _code(cell: NotebookNode) -> Iterator[str]:
    """Problems of a code cell: leftovers of a run, errors, outputs that cannot be heard."""
    if is_injected(cell):
        yield "papermill's injected parameters are stored"
    compared = "nbval-ignore-output" not in cell.metadata.get("tags", [])
    for output in cell.get("outputs", []):
        if compared and _LIVE.search(output.get("data", {}).get("text/plain", "")):
            yield "a live measurement's day is compared: tag the cell nbval-ignore-output"
        if output.output_type == "error":
            yield f"error output: {output.ename}: {output.evalue}".splitlines()[0]
        elif output.output_type == "stream" and output.name == "stderr":
            yield f"output on stderr: {output.text.strip()[:60]!r}"
        for kind, data in output.get("data", {}).items():
            if kind == PLOTLY and not _plotly_alt(data):
                yield "a Plotly figure without alt text (layout.meta.alt)"
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
            if kind.startswith("image/") and not alt:
                yield "an image output without alt text (cell metadata mystnb.image.alt)"


def _plotly_alt(figure: Any) -> bool:
    meta = figure.get("layout", {}).get("meta")
    return isinstance(meta, dict) and bool(str(meta.get("alt") or "").strip())


def _markdown(source: str, level: int) -> tuple[list[str], int]:
    """Problems of a Markdown cell, and the level of its last heading.

    Args:
        source: the text of the cell.
        level: the level of the last heading before it, 0 where there is none.
    """
    found = []
    fences: list[tuple[str, bool]] = []  # the open fences: marker, and whether the text is literal
    lines = source.splitlines()
    for i, line in enumerate(lines):
        fence = _FENCE.fullmatch(line)
        if fence and fences and fence[1].startswith(fences[-1][0]) and not (fence[2] or fence[3]):
            fences.pop()
        elif fences and fences[-1][1]:
            continue
        elif fence:
            fences.append((fence[1], fence[1][0] != ":" and (fence[2] or "") in {"", *_LITERAL}))
            if fence[2] in {"{figure}", "{image}"} and not _alt_option(lines[i + 1 :]):
                found.append(f"an image without alt text: {line.strip()}")
        else:
            if (heading := _HEADING.match(line)) and not fences:
                depth = len(heading[1])
                if depth > level + 1:
                    found.append(f"heading skips from level {level} to {depth}: {line.strip()}")
                level = depth
            if _IMAGE.search(re.sub(r"`[^`]*`", "", line)):
                found.append(f"an image without alt text: {line.strip()[:80]}")
    return found, level


def _alt_option(lines: Sequence[str]) -> bool:
    """Whether the options at the head of a directive's body hold a filled ``:alt:``."""
    for line in lines:
        if not re.match(r"\s*:[\w-]+:", line):
            return False
        if re.match(r"\s*:alt:\s*\S", line):
            return True
    return False


def _identifiers(cell: NotebookNode, host: str) -> Iterator[str]:
    """What names a machine or its user, in the source and the outputs of a cell."""
    # Where this checkout, its environment and this user live, wherever that is.
    places = {str(p) for p in (Path.cwd(), Path.home(), Path(sys.prefix)) if len(p.parts) > 2}
    patterns = {
        "absolute path of a machine": re.compile(
            "|".join([_HOME_PATH.pattern, *(rf"{re.escape(place)}\b" for place in sorted(places))])
        ),
        "GPU or MIG UUID": _UUID,
        "serial number": _SERIAL,
        "MAC address": _MAC,
    }
    # A short or ordinary host name is found in prose, and names no machine.
    if len(host) > 4 and host.lower() not in {"localhost", "ubuntu", "debian", "gpu-node"}:
        patterns["host name of this machine"] = re.compile(rf"(?i)(?<!\w){re.escape(host)}(?!\w)")
    for text in _strings([cell.source, cell.get("outputs", [])]):
        for what, pattern in patterns.items():
            if match := pattern.search(text):
                yield f"{what}: {match[0]}"


def _strings(value: Any) -> Iterator[str]:
    """All text in a JSON value, keys aside; encoded pixels and arrays are not text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "bdata" and (not key.startswith("image/") or key == "image/svg+xml"):
                yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """The notebooks that are named, or lie directly in a folder that is named."""
    for path in paths:
        yield from sorted(path.glob("*.ipynb")) if path.is_dir() else [path]


def check(paths: Iterable[Path]) -> list[str]:
    """The problems of all notebooks that are named, or lie in a folder that is named."""
    return [line for path in _files(paths) for line in problems(path)]


def fix(paths: Iterable[Path]) -> list[Path]:
    """Rewrite notebooks in canonical form.

    Returns:
        Those that changed. What :func:`problems` finds in their content is left to the author.

    Raises:
        NotebookError: a file is not a notebook; it and those after it are left alone.
    """
    return [path for path in _files(paths) if write(read(path), path)]
