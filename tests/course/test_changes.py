"""What changed between two versions of a notebook, from hand-made pairs and from git."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from typer.testing import CliRunner

from mlk8s.cli import app
from mlk8s.course import canonical
from mlk8s.course.changes import NotebookChanges, Number, Words, compare, page, versions
from mlk8s.errors import NotebookError, UsageError
from mlk8s.provenance import Kind, Provenance, Table

v4: Any = nbformat.v4  # not typed
ORIGIN = Provenance(Kind.RECORDED, "timed", date="2026-11-23")


def stdout(text: str) -> Any:
    return v4.new_output("stream", name="stdout", text=text)


def display(**data: Any) -> Any:
    return v4.new_output("display_data", data={k.replace("__", "/"): v for k, v in data.items()})


def table(*rows: dict[str, Any], origin: Provenance = ORIGIN) -> Any:
    shown = Table(rows, origin, title="Copies")
    return display(text__html=shown._repr_html_(), text__plain=repr(shown))


def figure(*traces: dict[str, Any], **layout: Any) -> Any:
    return display(**{canonical.PLOTLY: {"data": list(traces), "layout": layout}})


def notebook(*outputs: Any, source: str = "show()") -> Any:
    cells = [v4.new_markdown_cell("# Speed", id="a"), v4.new_code_cell(source, id="b")]
    cells[1].outputs = list(outputs)
    return v4.new_notebook(cells=cells)


def changed(old: Any, new: Any) -> NotebookChanges:
    return compare(notebook(old), notebook(new), "x.ipynb")


def test_equal_notebooks_have_no_difference_and_say_how_much_was_compared() -> None:
    found = changed(stdout("3.5 ms, 2 of 4\n"), stdout("3.5 ms, 2 of 4\n"))
    assert (found.status, found.cells, found.compared) == ("same", (), 3)
    assert found.text() == "no difference"


def test_numbers_in_a_text_are_compared_one_by_one() -> None:
    found = changed(
        stdout("a heading\ncopy 1,200.5 GB/s at −3e2 on H100\n"),
        stdout("a heading\ncopy 1,260.5 GB/s at −3e2 on H100\n"),
    )
    (number,) = found.numbers
    assert (number.old, number.new, number.absolute) == (1200.5, 1260.5, 60.0)
    assert number.relative == pytest.approx(60 / 1200.5)
    # The 100 of H100 is a part of a name.
    assert found.compared == 2
    assert found.text() == "1 of 2 numbers (at most +5 %)"
    assert found.cells[0].heading == "Speed" and found.cells[0].new == 2


def test_dates_and_versions_are_words() -> None:
    found = changed(stdout("driver 580.1.2, 2026-11-23\n"), stdout("driver 580.1.3, 2026-11-24\n"))
    assert found.numbers == []
    assert [(w.old, w.new) for w in found.cells[0].words] == [
        ("580.1.2", "580.1.3"),
        ("2026-11-23", "2026-11-24"),
    ]


def test_lines_that_say_something_else_are_shown_whole() -> None:
    found = changed(stdout("it fits\nsame 1\n"), stdout("it does not fit\nsame 1\nmore\n"))
    assert found.cells[0].words == (
        Words("text", "line", "it fits", "it does not fit"),
        Words("text", "line", "", "more"),
    )


def test_a_table_is_compared_by_rows_and_columns() -> None:
    old = table({"kind": "read", "rate [GB/s]": 100.0}, {"kind": "copy", "rate [GB/s]": 80.0})
    new = table(
        {"kind": "write", "rate [GB/s]": 70.0, "n": 3},
        {"kind": "copy", "rate [GB/s]": 88.0, "n": 3},
        {"kind": "read", "rate [GB/s]": 100.0, "n": 3},
        origin=Provenance(Kind.LIVE, "timed", date="2026-11-30"),
    )
    found = changed(old, new)
    assert found.numbers == [Number("table 1 (Copies)", "copy · rate [GB/s]", 80.0, 88.0)]
    words = {(w.where, w.old, w.new) for w in found.cells[0].words}
    assert words == {
        ("column", "", "n"),
        ("row", "", "write · 70 · 3"),
        ("line", "recorded · 2026-11-23", "live · 2026-11-30"),
    }


def test_rows_without_names_are_compared_by_their_place() -> None:
    old = table({"n": 1, "t": 5}, {"n": 1, "t": 6})
    new = table({"n": 1, "t": 5}, {"n": 1, "t": 9})
    assert [(n.where, n.old, n.new) for n in changed(old, new).numbers] == [("row 2 · t", 6, 9)]


def test_a_data_frame_is_a_table() -> None:
    def frame(value: float) -> Any:
        html = (
            "<style>td { width: 3px }</style><table class='dataframe'><thead><tr><th></th>"
            f"<th>a</th></tr></thead><tbody><tr><th>0</th><td>{value}</td></tr></tbody></table>"
        )
        return display(text__html=html, text__plain=f"   a\n0  {value}")

    assert [(n.where, n.new) for n in changed(frame(1.5), frame(2.5)).numbers] == [("0 · a", 2.5)]


def test_figures_are_compared_series_by_series() -> None:
    old = figure({"name": "read", "x": [1, 2], "y": [10.0, 20.0]}, {"name": "gone", "y": [1]})
    new = figure({"name": "read", "x": [1, 2], "y": [10.0, 25.0]}, {"name": "came", "y": [1]})
    found = changed(old, new)
    assert found.numbers == [Number("figure 1, series 'read', y", "x = 2", 20.0, 25.0)]
    assert {(w.group, w.old, w.new) for w in found.cells[0].words} == {
        ("figure 1, series 'gone'", "there", ""),
        ("figure 1, series 'came'", "", "there"),
    }


def test_points_that_were_added_do_not_move_the_others() -> None:
    old = figure({"name": "read", "x": ["fp32", "fp8"], "y": [10.0, 20.0]})
    new = figure({"name": "read", "x": ["fp32", "bf16", "fp8"], "y": [10.0, 15.0, 22.0]})
    found = changed(old, new)
    assert [(n.where, n.old, n.new) for n in found.numbers] == [("x = fp8", 20.0, 22.0)]
    assert ("x = bf16", "", "15.0") in {(w.where, w.old, w.new) for w in found.cells[0].words}


def test_arrays_of_a_figure_may_be_stored_as_bytes() -> None:
    def packed(*values: float) -> dict[str, str]:
        data = base64.b64encode(struct.pack(f"<{len(values)}d", *values)).decode()
        return {"bdata": data, "dtype": "f8"}

    old = figure({"type": "bar", "y": packed(1.0, 2.0)})
    new = figure({"type": "bar", "y": packed(1.0, 3.0)})
    assert [(n.where, n.new) for n in changed(old, new).numbers] == [("item 2", 3.0)]
    assert changed(figure({"type": "bar", "y": [1.0, 2.0]}), old).status == "same"


def test_the_layout_of_a_figure_counts_but_not_its_template() -> None:
    old = figure(title={"text": "At 3 GB"}, template={"layout": {"width": 1}})
    new = figure(title={"text": "At 4 GB"}, template={"layout": {"width": 2}})
    assert [(n.where, n.old, n.new) for n in changed(old, new).numbers] == [("title.text", 3, 4)]


def test_images_and_outputs_that_come_and_go() -> None:
    found = changed(display(image__png="AAAA"), display(image__png="BBBB"))
    assert [word.where for word in found.cells[0].words] == ["pixels"]
    found = compare(notebook(table({"n": 1})), notebook(), "x.ipynb")
    assert Words("table 1", "table", "there", "") in found.cells[0].words


def test_cells_are_matched_by_id_and_then_by_source() -> None:
    old, new = notebook(stdout("1\n")), notebook(stdout("2\n"), source="show(2)")
    old.cells.append(v4.new_code_cell("old = 1", id="c"))
    new.cells.append(v4.new_code_cell("something else", id="d"))
    old.cells.append(v4.new_code_cell("the same source", id="e", outputs=[stdout("7\n")]))
    new.cells.insert(1, v4.new_code_cell("the same source", id="f", outputs=[stdout("8\n")]))
    cells = compare(old, new, "x.ipynb").cells
    assert [(c.kind, c.old, c.new) for c in cells] == [
        ("removed", 3, None),
        ("changed", 4, 2),
        ("changed", 2, 3),
        ("added", None, 4),
    ]
    assert [(n.old, n.new) for c in cells for n in c.numbers] == [(7, 8), (1, 2)]
    assert cells[2].source == ("- show()", "+ show(2)")


def test_a_change_from_zero_has_no_relative_change_and_always_counts() -> None:
    found = changed(stdout("0 and 100\n"), stdout("5 and 101\n"))
    zero, small = found.numbers
    assert (zero.relative, zero.counts(0.5)) == (None, True)
    assert (small.relative, small.counts(0.05)) == (0.01, False)
    assert found.text(at_least=0.05) == "1 of 2 numbers"


def test_the_page_shows_old_new_and_both_changes_and_escapes() -> None:
    old = figure({"name": "<b>", "x": [1], "y": [10.0]})
    new = figure({"name": "<b>", "x": [1], "y": [12.0]})
    text = page.changes_page([changed(old, new)], "HEAD", "notebooks", 0.0)
    row = "<td>x = 1</td><td class=num>10</td><td class=num>12</td>"
    assert f"{row}<td class=num>+2</td><td class=num>+20 %</td>" in text
    assert "<b>" not in text and "&lt;b&gt;" in text
    assert "+20 %" not in page.changes_page([changed(old, new)], "HEAD", "notebooks", 0.3)


def test_a_cell_that_may_vary_is_marked() -> None:
    old, new = notebook(stdout("1 s\n")), notebook(stdout("2 s\n"))
    assert "varies" not in page.fragment(compare(old, new, "x.ipynb"))
    new.cells[1].metadata.tags = ["nbval-ignore-output"]
    assert "Cell 2 (its output varies from run to run)" in page.fragment(
        compare(old, new, "x.ipynb")
    )


# -- versions --------------------------------------------------------------------------------------

Git = Callable[..., None]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """A repository with ``notebooks/one.ipynb`` that says 1, as working directory."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.chdir(tmp_path)

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    git("init", "--quiet")
    Path("notebooks").mkdir()
    canonical.write(notebook(stdout("1\n")), Path("notebooks/one.ipynb"))
    canonical.write(notebook(), Path("notebooks/gone.ipynb"))
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    return git


def test_the_working_tree_against_a_commit(repository: Git) -> None:
    Path("notebooks/gone.ipynb").unlink()
    canonical.write(notebook(stdout("2\n")), Path("notebooks/one.ipynb"))
    canonical.write(notebook(), Path("notebooks/two.ipynb"))
    found = versions.compare([Path("notebooks")], "HEAD")
    assert [(each.name, each.status) for each in found] == [
        ("notebooks/gone.ipynb", "removed"),
        ("notebooks/one.ipynb", "changed"),
        ("notebooks/two.ipynb", "added"),
    ]
    assert [(n.old, n.new) for n in found[1].numbers] == [(1, 2)]
    (one,) = versions.compare([Path("notebooks/one.ipynb")], "HEAD")
    assert one == found[1]
    repository("commit", "--quiet", "--all", "-m", "second")
    assert versions.compare([Path("notebooks/one.ipynb")], "HEAD")[0].status == "same"
    assert versions.compare([Path("notebooks/one.ipynb")], "HEAD~1")[0].status == "changed"


def test_a_folder_and_a_file_as_the_old_version(tmp_path: Path) -> None:
    for folder, text in (("old", "1\n"), ("new", "3\n")):
        (tmp_path / folder).mkdir()
        canonical.write(notebook(stdout(text)), tmp_path / folder / "one.ipynb")
    canonical.write(notebook(), tmp_path / "old" / "other.ipynb")
    one = tmp_path / "new" / "one.ipynb"
    for paths, against, names in (
        ([tmp_path / "new"], tmp_path / "old", ["one.ipynb", "other.ipynb"]),
        ([one], tmp_path / "old", ["one.ipynb"]),
        ([one], tmp_path / "old" / "one.ipynb", ["one.ipynb"]),
    ):
        found = versions.compare(paths, str(against))
        assert [each.name for each in found] == names
        assert [(n.old, n.new) for n in found[0].numbers] == [(1, 3)]


def test_what_cannot_be_compared_is_named(repository: Git, tmp_path: Path) -> None:
    folder = Path("notebooks")
    with pytest.raises(UsageError, match="'nowhere' is neither a file, a folder nor a commit"):
        versions.compare([folder], "nowhere")
    with pytest.raises(UsageError, match="There is no missing"):
        versions.compare([Path("missing")], "HEAD")
    Path("empty").mkdir()
    with pytest.raises(NotebookError, match="no notebook in empty"):
        versions.compare([Path("empty")], "HEAD")
    with pytest.raises(UsageError, match="is one notebook, and 2 are"):
        versions.compare([folder], "notebooks/one.ipynb")
    Path("notebooks/one.ipynb").write_text("{}")
    with pytest.raises(NotebookError, match=r"one\.ipynb is not a notebook"):
        versions.compare([folder], "HEAD")


def test_outside_of_a_repository_a_commit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    canonical.write(notebook(), tmp_path / "one.ipynb")
    with pytest.raises(UsageError, match="not a git repository"):
        versions.compare([tmp_path], "HEAD")


def test_the_command_prints_the_largest_changes_and_writes_the_page(repository: Git) -> None:
    canonical.write(notebook(stdout("2\n")), Path("notebooks/one.ipynb"))
    done = CliRunner().invoke(app, ["notebooks", "diff"])
    assert done.exit_code == 0, done.output
    assert "notebooks/one.ipynb: 1 of 1 numbers (at most +100 %)" in done.output
    assert "cell 2, text, 2: 1 → 2 (+100 %)" in done.output
    assert "notebooks/gone.ipynb: no difference" in done.output
    assert "From HEAD to notebooks" in Path("_build/changes.html").read_text()
    done = CliRunner().invoke(app, ["notebooks", "diff", "--json", "--against", "HEAD"])
    (number,) = json.loads(done.output)[1]["cells"][0]["numbers"]
    assert (number["absolute"], number["relative"]) == (1, 1)
