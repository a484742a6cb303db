"""The book's site: a Sphinx extension, the renderer for Plotly outputs, and a server to look at it.

The extension exists for one promise: a built page asks no other machine for anything. So formulas
become MathML at build time, Plotly's script is copied from the installed package, and a term's
definition is written into the links that use it. Besides, a page knows the age of its facts
(:mod:`mlk8s.course.ages`). The look is in ``book/_static``; what the pages
say is in ``book/`` and ``notebooks/``.

Sphinx and docutils are imported where they are used, because the command line imports
:func:`serve` and must start at once.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import html
import io
import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar
from urllib.parse import urlsplit

from mlk8s.course import canonical
from mlk8s.errors import UsageError

if TYPE_CHECKING:
    from docutils import nodes
    from myst_nb.core.render import MimeData, NbElementRenderer
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment
    from sphinx.writers.html5 import HTML5Translator

SITE_URL_VARIABLE = "MLK8S_SITE_URL"
DEFAULT_SITE_URL = "http://127.0.0.1:8000/"
LOOPBACK = "127.0.0.1"


# --- serving a built site ---------------------------------------------------------------------


_COMPRESSED = {"application/json", "application/javascript", "image/svg+xml"}


@lru_cache(maxsize=128)
def _gzipped(path: Path, modified_ns: int) -> bytes:
    """A file's compressed content; another time of change is another entry."""
    return gzip.compress(path.read_bytes(), compresslevel=6, mtime=0)


class _Handler(SimpleHTTPRequestHandler):
    """Serves files as a static host would: the book's own 404 page, no directory listings."""

    protocol_version = "HTTP/1.1"  # a page has some 20 files, which then share a connection

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Compress text, as static hosts do: a chapter then takes a seventh of the bytes."""
        path = Path(self.translate_path(self.path))
        kind = self.guess_type(str(path))
        if not (
            "gzip" in self.headers.get("Accept-Encoding", "")
            and path.is_file()
            and (kind.startswith("text/") or kind in _COMPRESSED)
        ):
            return super().send_head()
        body = _gzipped(path, path.stat().st_mtime_ns)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Vary", "Accept-Encoding")
        self.end_headers()
        return io.BytesIO(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        page = Path(self.directory) / "404.html"
        if code != HTTPStatus.NOT_FOUND or not page.is_file():
            super().send_error(code, message, explain)
            return
        body = page.read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing for each request; the address is all that a reader needs to see."""


def open_server(directory: Path, port: int) -> ThreadingHTTPServer:
    """Bind a server for a built site to the loopback address, without starting it.

    Args:
        directory: the folder that holds the site's ``index.html``.
        port: TCP port; 0 lets the operating system choose a free one.

    Returns:
        A server whose ``server_address`` names the port it got.

    Raises:
        UsageError: the site is not built, or the port cannot be used.
    """
    if not (directory / "index.html").is_file():
        raise UsageError(
            f"There is no built site in {directory}: it has no index.html.",
            "run `make book`, which builds it.",
        )
    if not 0 <= port <= 65535:
        raise UsageError(
            f"Port {port} does not exist: ports run from 0 to 65535.",
            "name another one, for example 8000.",
        )

    def handler(*args: Any) -> _Handler:
        return _Handler(*args, directory=str(directory))

    try:
        return ThreadingHTTPServer((LOOPBACK, port), handler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = "another program listens on it"
        else:
            reason = os.strerror(error.errno or 0).lower()
        raise UsageError(
            f"Port {port} on {LOOPBACK} cannot be used: {reason}.",
            "name another port, or 0 to have a free one chosen.",
        ) from error


def serve(directory: Path, port: int) -> None:
    """Serve a built site on the loopback address until Ctrl-C.

    Args:
        directory: the folder that holds the site's ``index.html``.
        port: TCP port; 0 lets the operating system choose a free one.

    Raises:
        UsageError: the site is not built, or the port cannot be used.
    """
    with open_server(directory, port) as server:
        print(f"The book is at http://{LOOPBACK}:{server.server_port}/ (Ctrl-C stops)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()  # the shell's prompt goes on a line of its own, after ^C


# --- Plotly figures ---------------------------------------------------------------------------


class PlotlyMimeRenderer:
    """Writes a Plotly output as its JSON and an empty box, which ``mlk8s.js`` draws in.

    MyST-NB finds it through the ``myst_nb.mime_renderers`` entry point. A figure states in
    ``layout.meta`` its alternative text (``alt``) and an ``id`` that is the same in every run.
    """

    mime_priority_overrides: ClassVar[Sequence[tuple[str, str, int | None]]] = [
        (builder, canonical.PLOTLY, 1) for builder in ("html", "dirhtml", "singlehtml")
    ]

    @staticmethod
    def handle_mime(
        renderer: NbElementRenderer, data: MimeData, inline: bool
    ) -> list[nodes.Element] | None:
        """Render one output; ``None`` leaves every other type to MyST-NB."""
        if data.mime_type != canonical.PLOTLY or inline:
            return None
        from docutils import nodes

        figure: Any = data.content
        meta = figure.get("layout", {}).get("meta") or {}
        alt = meta.get("alt", "")
        if not alt:
            # The build treats a warning as an error, so no figure is published without a text.
            renderer.logger.warning(
                "a Plotly figure has no alternative text: set layout.meta.alt",
                subtype="mlk8s_alt",
                line=data.line,
            )
        box = f'<div class="mlk8s-plot" role="figure" aria-label="{html.escape(alt)}"'
        if "id" in meta:
            box += f' id="{html.escape(str(meta["id"]))}"'
        # In a script element only "</" could end it early, and JSON may write "<" as \u003c.
        content = json.dumps(figure, sort_keys=True, separators=(",", ":")).replace("<", r"\u003c")
        text = (
            f'<div class="mlk8s-figure">{box}></div>'
            f'<script type="application/json">{content}</script>'
            f"<noscript><p>{html.escape(alt)}</p></noscript></div>"
        )
        return [nodes.raw(text=text, format="html", classes=["output", "mlk8s-output"])]


def _write_plotly(app: Sphinx) -> None:
    """Put Plotly's script, from the installed package, beside the other static files."""
    if app.builder.format != "html":
        return
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs()
    target = Path(app.outdir) / "_static" / "plotly.min.js"
    if not target.is_file() or target.read_text(encoding="utf-8") != script:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(script, encoding="utf-8")


# --- formulas ---------------------------------------------------------------------------------


def to_mathml(latex: str, display: str) -> tuple[str, str]:
    """A formula as MathML, which browsers draw without a script.

    Args:
        latex: the formula, without dollar signs.
        display: ``inline`` or ``block``.

    Returns:
        The ``<math>`` element, and what is wrong with the formula (empty where nothing is).
    """
    from latex2mathml import converter, exceptions

    # They have no common base of their own.
    known = tuple(
        kind
        for kind in vars(exceptions).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    )
    try:
        # Sphinx numbers an equation; the converter would number its lines once more.
        mathml = converter.convert(latex.replace("{align}", "{align*}"), display=display)
    except known as error:
        return f"<code>{html.escape(latex)}</code>", type(error).__name__
    # The converter passes a command it does not know on as text.
    unknown = re.findall(r">(\\[A-Za-z]+)<", mathml)
    return mathml, f"unknown command {', '.join(unknown)}" if unknown else ""


def _mathml(node: nodes.Element, display: str) -> str:
    from sphinx.util import logging

    mathml, problem = to_mathml(node.astext(), display)
    if problem:
        logging.getLogger(__name__).warning(
            "formula %r cannot be written as MathML: %s", node.astext(), problem, location=node
        )
    return mathml


def _visit_math(self: HTML5Translator, node: nodes.math) -> None:
    from docutils import nodes

    self.body.append(f'<span class="math">{_mathml(node, "inline")}</span>')
    raise nodes.SkipNode


def _visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    from docutils import nodes
    from sphinx.util.math import get_node_equation_number

    self.body.append(self.starttag(node, "div", CLASS="math mlk8s-equation"))
    self.body.append(_mathml(node, "block"))
    if node.get("number"):
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})</span>')
    self.body.append("</div>\n")
    raise nodes.SkipNode


# --- definitions behind the terms -------------------------------------------------------------


def _collect_definitions(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Read the glossary, and have every page written again when a definition changed."""
    from docutils import nodes

    found: dict[str, str] = {}
    objects = env.get_domain("std").get_objects()
    for docname in {entry[3] for entry in objects if entry[2] == "term"}:
        for item in env.get_doctree(docname).findall(nodes.definition_list_item):
            paragraph = next(item.findall(nodes.paragraph), None)
            if paragraph is not None:
                text = " ".join(paragraph.astext().split())
                for term in item.findall(nodes.term):
                    found |= {f"{docname}#{identifier}": text for identifier in term["ids"]}
    changed = found != getattr(env, "mlk8s_definitions", {})
    env.mlk8s_definitions = found  # type: ignore[attr-defined]  # Sphinx's own way to keep data
    return sorted(env.found_docs) if changed else []


def _attach_definitions(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Give each resolved ``{term}`` link its definition, as the title that ``mlk8s.js`` shows."""
    from docutils import nodes

    known: dict[str, str] = {}
    for key, text in app.env.mlk8s_definitions.items():  # type: ignore[attr-defined]
        page, _, identifier = key.partition("#")
        uri = "" if page == docname else app.builder.get_relative_uri(docname, page)
        known[f"{uri}#{identifier}"] = text
    for link in doctree.findall(nodes.reference):
        if any("std-term" in child["classes"] for child in link.findall(nodes.inline)):
            uri = link.get("refuri") or f"#{link.get('refid', '')}"
            # HTML has no other attribute that Sphinx writes, and without a script it still shows.
            link["reftitle"] = known.get(uri, "")


# --- the configuration, and the last touches to a page -----------------------------------------


def _complete_config(app: Sphinx, config: Config) -> None:
    """Add what a static ``_config.yml`` cannot say: the public address, the state of the assets."""
    from sphinx.errors import ConfigError

    from mlk8s.course import ages

    url = os.environ.get(SITE_URL_VARIABLE, DEFAULT_SITE_URL)
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigError(
            f"{SITE_URL_VARIABLE}={url!r} is not an address of a site. "
            f"Next: write it in full, like {DEFAULT_SITE_URL}"
        )
    url = url.rstrip("/") + "/"
    config.html_baseurl = url
    config.ogp_site_url = url
    config.notfound_urls_prefix = parts.path.rstrip("/") + "/"
    # Sphinx copies the static files only when it writes a page, and a page names their checksums.
    digest = hashlib.sha256()
    for folder in config.html_static_path:
        for path in sorted(Path(app.confdir, folder).glob("*")):
            digest.update(path.read_bytes())
    # Which stand in the pages' notes.
    facts = [each.fact for each in ages.lists(Path(app.confdir))]
    digest.update(repr((sorted(ages.LIMITS.items()), facts)).encode())
    config.mlk8s_assets = digest.hexdigest()


def _finish_page(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Repair a page's text, load what it uses, note ages, root the 404 page's scripts."""
    from docutils import nodes

    from mlk8s.course import ages
    from mlk8s.course.calculators import page

    for wrong, right in _ROLES.items():
        context["body"] = context.get("body", "").replace(wrong, right)
    if doctree is not None and page.on_page(doctree.findall(nodes.raw)):
        app.add_js_file("calculators.js", loading_method="defer")
    source = Path(app.env.doc2path(pagename)) if pagename in app.env.found_docs else None
    if source is not None and source.suffix == ".ipynb":
        note = ages.note(ages.on_page(source, Path(app.srcdir)))
        context["body"] = context["body"].replace("</h1>", f"</h1>{note}", 1)
    if pagename == app.config.notfound_pagename:
        # This page is sent for any address, so what its scripts load must not be relative to it.
        context["content_root"] = app.config.notfound_urls_prefix


# What MyST-NB and docutils write, and what a screen reader can use: a name that is the text on the
# button, and a list whose children are its items.
_ROLES = {
    '<summary aria-label="Toggle hidden content">': "<summary>",
    'role="doc-biblioentry"': 'role="listitem"',
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    from mlk8s.course import chapter_pages, lightness, troubleshooting
    from mlk8s.course.calculators import page

    lightness.setup(app)
    chapter_pages.setup(app)
    troubleshooting.setup(app)
    page.setup(app)
    app.add_css_file("mlk8s.css", priority=900)
    # Plotly's 5 MB are no script of a page: mlk8s.js asks for them when a figure comes near.
    plotly: dict[str, Any] = {"data-plotly": f"plotly.min.js?v={version('plotly')}"}
    app.add_js_file("mlk8s.js", loading_method="defer", **plotly)
    app.add_js_file("quiz.js", loading_method="defer")
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math_block, None))
    app.add_config_value("mlk8s_assets", "", "html", str)  # another value writes all pages anew
    app.connect(
        "config-inited", _complete_config, priority=400
    )  # before sphinx-notfound-page checks
    app.connect("builder-inited", _write_plotly)
    app.connect("env-updated", _collect_definitions)
    app.connect("doctree-resolved", _attach_definitions)
    app.connect("html-page-context", _finish_page, priority=900)  # after the theme's own
    # The number goes up when what a page is read into changes: the cache of another is not used.
    return {"env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
