"""The calculators in the book: a form for each, and the Python that computes in the browser.

``{calculator} NAME`` writes a form with the answer to its defaults, so a page without a script is
whole. The build puts Pyodide, installed from ``tools/pyodide``, and a zip of the library beside the
other static files; ``calculators.js`` asks for them at the first click on Calculate.
"""

from __future__ import annotations

import functools
import hashlib
import html
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.errors import ConfigError
from sphinx.util.docutils import SphinxDirective

from mlk8s.course import calculators
from mlk8s.course.calculators import Ask, Calculator
from mlk8s.errors import UsageError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: The class around what the directive writes, by which :mod:`mlk8s.course.site` knows such a page.
CLASS = "mlk8s-calculator-page"
#: What Pyodide asks for when it starts without packages, and its license notice.
RUNTIME = (
    "pyodide.mjs",
    "pyodide.asm.mjs",
    "pyodide.asm.wasm",
    "pyodide-lock.json",
    "python_stdlib.zip",
    "README.md",
)
ARCHIVE = "mlk8s.zip"
_SOURCE = Path(__file__).parents[3]
# Every choice is computed once, so that what the library imports late is imported as well. Without
# `site` no installed package can be found: what a browser does not have is missing here, too.
_TRACE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from mlk8s.course import calculators
for each in calculators.CALCULATORS:
    for given in calculators.variants(each):
        calculators.answer_json(each.name, json.dumps(given))
print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.partition(".")[0] == "mlk8s"]))
"""


@functools.cache
def sources() -> tuple[Path, ...]:
    """The files of the library that the calculators use: modules, and the data beside them.

    Raises:
        UsageError: one of them imports what only an installed package has.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _TRACE, str(_SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UsageError(
            "The calculators do not run on the standard library alone: "
            + done.stderr.strip().rpartition("\n")[2],
            "import it where it is used, in a function that no calculator calls.",
        )
    modules = [Path(name) for name in json.loads(done.stdout)]
    data = [module.with_suffix(".json") for module in modules]
    return tuple(sorted({*modules, *(path for path in data if path.is_file())}))


def archive() -> bytes:
    """The files as a zip, the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sources():
            # Without a date of its own an entry is of 1980.
            entry = zipfile.ZipInfo(path.relative_to(_SOURCE).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def form(calculator: type[Calculator], version: str, megabytes: int) -> str:
    """A calculator as HTML: its inputs, a button, and the answer to its defaults.

    Args:
        calculator: which.
        version: of the archive, so that a browser does not take an old one from its cache.
        megabytes: what the first calculation loads, 10⁶ bytes.
    """
    name = calculator.name
    first = calculator()
    found = first.answer().as_html()
    fields = "".join(
        _field(name, key, ask, default) for key, (ask, default) in calculator.inputs().items()
    )
    return (
        f'<section class="mlk8s-calculator" data-calculator="{name}" data-version="{version}">'
        f'<form aria-label="{html.escape(calculator.title)}" novalidate autocomplete="off">'
        f'<div class="fields">{fields}</div>'
        '<p class="actions"><button type="submit" class="calculate" disabled>Calculate</button> '
        '<button type="button" class="stop" hidden>Stop</button> '
        '<button type="reset" hidden>Defaults</button> '
        f'<span class="note">The first calculation loads Python from this site, {megabytes} MB.'
        "</span></p>"
        # Not a noscript element: where the script does not come, it cannot compute either.
        '<p class="unscripted">Without JavaScript the form cannot compute: use the command below.'
        "</p></form>"
        '<p class="status" role="status"></p>'
        '<div class="answer" role="region" tabindex="-1" '
        f'aria-label="Answer: {html.escape(calculator.title)}">'
        f'<div class="finding">{found["finding"]}</div>'
        f'<div class="details">{found["details"]}</div>'
        f"<p>The same in a terminal: <code>{html.escape(first.command())}</code></p>"
        "</div></section>"
    )


def _field(calculator: str, name: str, ask: Ask, default: str) -> str:
    """One input with its label, help and place for an error."""
    key = f"calc-{calculator}-{name}"
    when = ""
    if ask.when is not None:
        when = f' data-when="{ask.when[0]}" data-values="{html.escape(json.dumps(ask.when[1]))}"'
    # The error comes first: it is what a screen reader should say first.
    described = f"{key}-error" + (f" {key}-help" if ask.help else "")
    common = f'id="{key}" name="{name}" aria-describedby="{described}"'
    if ask.choices:
        options = "".join(
            f'<option value="{html.escape(value)}"{" selected" if value == default else ""}>'
            f"{html.escape(label)}</option>"
            for value, label in ask.choices.items()
        )
        control = f"<select {common}>{options}</select>"
    else:
        keyboard = ' inputmode="decimal"' if ask.low is not None else ""
        control = (
            f'<input type="text"{keyboard} maxlength="1000" spellcheck="false" {common} '
            f'value="{html.escape(default)}">'
        )
    unit = f' <span class="unit">[{html.escape(ask.unit)}]</span>' if ask.unit else ""
    note = f'<p class="help" id="{key}-help">{html.escape(ask.help)}</p>' if ask.help else ""
    return (
        f'<div class="field"{when}><label for="{key}">{html.escape(ask.label)}{unit}</label>'
        f'{control}{note}<p class="error" id="{key}-error" hidden></p></div>'
    )


class CalculatorDirective(SphinxDirective):
    """``{calculator} NAME``: the form of a calculator."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the form."""
        for path in (Path(__file__), *sources()):
            self.env.note_dependency(str(path))
        try:
            calculator = calculators.get(self.arguments[0])
        except UsageError as error:
            raise self.error(str(error)) from error
        packed = archive()
        runtime = _runtime(self.env.app)
        size = len(packed) + sum(path.stat().st_size for path in runtime)
        version = hashlib.sha256(packed).hexdigest()[:16]
        text = form(calculator, version, round(size / 1e6))
        return [nodes.raw("", text, format="html", classes=[CLASS])]


def _runtime(app: Sphinx) -> list[Path]:
    """The files of Pyodide, where the build has installed it."""
    folder = Path(app.confdir, app.config.mlk8s_pyodide)
    found = [folder / name for name in RUNTIME]
    missing = [path.name for path in found if not path.is_file()]
    if missing:
        raise ConfigError(
            f"Pyodide is not in {folder}: {', '.join(missing)} is missing. "
            "Next: build with `make book`, which installs it."
        )
    return found


def _write(app: Sphinx) -> None:
    """Put Pyodide and the library beside the other static files."""
    if app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "pyodide"
    target.mkdir(parents=True, exist_ok=True)
    for path in _runtime(app):
        if _differs(path, target / path.name):
            shutil.copyfile(path, target / path.name)
    (target.parent / ARCHIVE).write_bytes(archive())


def _differs(source: Path, copy: Path) -> bool:
    return not copy.is_file() or source.read_bytes() != copy.read_bytes()


def on_page(raw: Iterable[nodes.raw]) -> bool:
    """Whether a page's raw parts have a calculator among them."""
    return any(CLASS in node["classes"] for node in raw)


def setup(app: Sphinx) -> None:
    """Register the directive with Sphinx, and what a page with one needs."""
    app.add_directive("calculator", CalculatorDirective)
    app.add_config_value("mlk8s_pyodide", "_build/pyodide/node_modules/pyodide", "html", str)
    app.connect("builder-inited", _write)
