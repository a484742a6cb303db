"""The stored form of notebooks: one text for each, and every problem found where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from mlk8s.course import canonical
from mlk8s.errors import NotebookError

v4: Any = nbformat.v4  # not typed
PLOTLY = "application/vnd.plotly.v1+json"


def chapter(*cells: Any, outputs: list[Any] | None = None) -> Any:
    """A chapter without a problem, with these cells after it, or one with these outputs."""
    extra = [v4.new_code_cell("1", outputs=outputs)] if outputs else []
    return v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# Basics"),
            v4.new_code_cell("import mlk8s"),
            v4.new_code_cell("n: int = 2", metadata={"tags": ["parameters"]}),
            *cells,
            *extra,
        ]
    )


def found(nb: Any, folder: Path, **options: Any) -> list[str]:
    path = folder / "01-basics.ipynb"
    canonical.write(nb, path)
    return canonical.problems(path, **options)


def stdout(text: str) -> list[Any]:
    return [v4.new_output("stream", name="stdout", text=text)]


def display(**data: Any) -> list[Any]:
    return [v4.new_output("display_data", data={k.replace("__", "/"): v for k, v in data.items()})]


def test_a_good_chapter_has_no_problem(tmp_path: Path) -> None:
    good = chapter(
        v4.new_markdown_cell(
            "## A part\n\n```bash\n#### a comment\nls ![](x.png)\n```\n\n![a die](die.png)\n\n"
            "```{figure} die.png\n:width: 50%\n:alt: A die\n```\n\n`<img src='x'>` needs alt text."
        ),
        v4.new_markdown_cell("### Deeper\n## Back"),
        outputs=[
            *stdout("saved to /tmp/mlk8s/x.json from https://example.org/home/page, ~/tmp/y\n"),
            *stdout("GPU-00000000-0000-0000-0000-000000000001 0000:1b:00.0 00:00:00:00:00:00\n"),
            *display(**{"text__plain": "Figure", PLOTLY: {"layout": {"meta": {"alt": "A line"}}}}),
        ],
    )
    assert found(good, tmp_path) == []


UUID = "GPU-4f3c2b1a-0d9e-8f7a-6b5c-4d3e2f1a0b9c"
BAD = {
    "error output": (
        chapter(
            outputs=[
                v4.new_output(
                    "error", ename="ValueError", evalue="no\nway", traceback=["ValueError"]
                )
            ]
        ),
        4,
        "error output: ValueError: no",
    ),
    "stderr": (
        chapter(outputs=[v4.new_output("stream", name="stderr", text="Warning: x\n")]),
        4,
        "stderr: 'Warning: x'",
    ),
    "home in source": (chapter(v4.new_code_cell("open('/home/ann/x.csv')")), 4, "/home/ann"),
    "root in output": (chapter(outputs=stdout("see /root/venv/lib\n")), 4, "/root/venv"),
    "Users in Markdown": (chapter(v4.new_markdown_cell("in /Users/ann")), 4, "/Users/ann"),
    "Windows": (chapter(v4.new_markdown_cell(r"in C:\Users\ann")), 4, r"C:\Users"),
    "tmp in output": (
        chapter(outputs=display(text__html="<a href='file:///tmp/x1/y'>")),
        4,
        "/tmp/x1",
    ),
    "this checkout": (
        chapter(outputs=stdout(f"{Path(__file__).parent.parent.parent}/a")),
        4,
        "absolute path of a machine",
    ),
    "host name": (chapter(outputs=stdout("on Build-7f3a: ok\n")), 4, "this machine: Build-7f3a"),
    "GPU UUID": (chapter(outputs=stdout(f"GPU 0: H100 (UUID: {UUID})")), 4, "UUID: GPU-4f3c2b1a"),
    "MIG UUID": (chapter(v4.new_code_cell(f"d = 'MIG-{UUID[4:]}'")), 4, "UUID: MIG-4f3c2b1a"),
    "serial": (
        chapter(outputs=stdout("    Serial Number        : 1654922003451\n")),
        4,
        "serial number",
    ),
    "MAC": (chapter(outputs=stdout("link/ether 52:54:00:9d:3c:01 brd")), 4, "52:54:00:9d:3c:01"),
    "in a figure": (
        chapter(
            outputs=display(
                **{PLOTLY: {"data": [{"name": "/home/ann"}], "layout": {"meta": {"alt": "A"}}}}
            )
        ),
        4,
        "/home/ann",
    ),
    "figure": (chapter(outputs=display(**{PLOTLY: {"layout": {}}})), 4, "layout.meta.alt"),
    "image output": (chapter(outputs=display(image__png="iVBORw0K")), 4, "mystnb.image.alt"),
    "image": (chapter(v4.new_markdown_cell("text ![](die.png)")), 4, "image without alt"),
    "HTML image": (
        chapter(v4.new_markdown_cell('<img src="x.png" alt="">')),
        4,
        "image without alt",
    ),
    "figure directive": (
        chapter(v4.new_markdown_cell("```{figure} x.png\n:width: 3em\nCaption\n```")),
        4,
        "image without alt text: ```{figure} x.png",
    ),
    "heading": (
        chapter(v4.new_markdown_cell("## A\ntext\n#### B")),
        4,
        "from level 2 to 4: #### B",
    ),
    "heading across cells": (chapter(v4.new_markdown_cell("### B")), 4, "from level 1 to 3"),
    "injected": (
        chapter(v4.new_code_cell("n = 3", metadata={"tags": ["injected-parameters"]})),
        4,
        "injected parameters",
    ),
    "the day of a run": (
        chapter(outputs=display(text__plain="3.1 s\n[live · x86_64 CPU, 2 cores · 2026-11-30]")),
        4,
        "tag the cell nbval-ignore-output",
    ),
    "no import": (v4.new_notebook(cells=[*chapter().cells[::2]]), 2, "does not import mlk8s"),
}


@pytest.mark.parametrize(("nb", "cell", "text"), BAD.values(), ids=BAD.keys())
def test_a_problem_is_found_in_its_cell(nb: Any, cell: int, text: str, tmp_path: Path) -> None:
    problems = found(nb, tmp_path, host="build-7f3a")
    assert len(problems) == 1
    assert problems[0].startswith(f"{tmp_path / '01-basics.ipynb'}: cell {cell}: ")
    assert text in problems[0]
    assert "\n" not in problems[0]


def test_only_a_chapter_needs_a_parameters_cell(tmp_path: Path) -> None:
    nb = v4.new_notebook(cells=[v4.new_code_cell("import mlk8s")])
    assert found(nb, tmp_path) == [
        f"{tmp_path / '01-basics.ipynb'}: no cell is tagged `parameters`"
    ]
    canonical.write(nb, tmp_path / "scratch.ipynb")
    assert canonical.problems(tmp_path / "scratch.ipynb") == []


@pytest.mark.parametrize("text", ["{", "[]", '{"nbformat": 4, "nbformat_minor": 5}', "{}", ""])
def test_a_file_that_is_no_notebook(text: str, tmp_path: Path) -> None:
    path = tmp_path / "01-basics.ipynb"
    path.write_text(text)
    assert len(canonical.problems(path)) == 1
    with pytest.raises(NotebookError, match="notebook"):
        canonical.fix([path])
    assert path.read_text() == text


def test_a_missing_file(tmp_path: Path) -> None:
    assert "cannot be read" in canonical.check([tmp_path / "none.ipynb"])[0]


def churned() -> Any:
    """A notebook as an editor and papermill leave it: format 4.4, without cell ids."""
    nb = chapter(
        v4.new_code_cell(
            "n",
            execution_count=7,
            metadata={
                "tags": ["b", "a"],
                "collapsed": True,
                "scrolled": False,
                "ExecuteTime": {"start": 1},
                "execution": {"iopub.status.busy": "2026-01-01"},
                "papermill": {"duration": 0.1},
                "mystnb": {"figure": {"name": "fig-n"}},
            },
            outputs=[
                *stdout("a\n"),
                *stdout("b\n"),
                v4.new_output("execute_result", data={"text/plain": "2"}, execution_count=7),
                *stdout("c\n"),
            ],
        )
    )
    nb.nbformat_minor = 4
    for cell in nb.cells:
        del cell["id"]
    nb.metadata.update(
        papermill={"duration": 2.0},
        widgets={"state": {}},
        kernelspec={"name": "venv", "display_name": "My venv"},
        language_info={"name": "python", "version": "3.12.1"},
        title="Basics",
    )
    return nb


def test_canonical_form_drops_what_churns_and_keeps_the_rest() -> None:
    text = canonical.canonical(churned())
    nb = json.loads(text)
    cell = nb["cells"][-1]
    assert text.startswith('{\n "cells": [\n')
    assert text.endswith("}\n")
    assert (nb["nbformat"], nb["nbformat_minor"]) == (4, 5)
    assert nb["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "title": "Basics",
    }
    assert cell["metadata"] == {"mystnb": {"figure": {"name": "fig-n"}}, "tags": ["a", "b"]}
    assert cell["execution_count"] == 3  # the third code cell
    assert [o.get("text", o.get("execution_count")) for o in cell["outputs"]] == [
        ["a\n", "b\n"],
        3,
        ["c\n"],
    ]


def test_canonical_form_is_stable_and_leaves_its_argument_alone() -> None:
    nb = churned()
    before = json.dumps(nb)
    text = canonical.canonical(nb)
    assert json.dumps(nb) == before
    assert canonical.canonical(churned()) == text  # so the ids it made are the same
    assert canonical.canonical(v4.reads(text)) == text


def test_cell_ids_are_kept_and_made_unique() -> None:
    nb = chapter(v4.new_markdown_cell("one"), v4.new_markdown_cell("two"))
    nb.cells[3].id = nb.cells[4].id = "kept"
    ids = [cell["id"] for cell in json.loads(canonical.canonical(nb))["cells"]]
    assert ids[3] == "kept"
    assert len(set(ids)) == len(ids)


def test_check_and_fix_over_a_folder(tmp_path: Path) -> None:
    good, bad = tmp_path / "01-good.ipynb", tmp_path / "02-bad.ipynb"
    canonical.write(chapter(), good)
    bad.write_text(json.dumps(churned()))
    assert canonical.check([tmp_path]) == [
        f"{bad}: not in canonical form; `mlk8s notebooks fix` rewrites it"
    ]
    assert canonical.fix([tmp_path]) == [bad]
    assert canonical.check([tmp_path]) == []
    assert canonical.fix([tmp_path]) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == [good.name, bad.name]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "01-basics.ipynb"
    canonical.write(chapter(), path)
    before = path.read_bytes()
    broken = chapter()
    broken.cells[0].pop("source")
    broken.cells[0].source = 3
    with pytest.raises(NotebookError, match="not valid nbformat"):
        canonical.write(broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
