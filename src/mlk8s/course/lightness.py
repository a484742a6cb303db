"""What the theme puts into every page and no reader needs: taken out when the site is built.

A chapter on a phone waits for whatever its head names. The theme's scripts are deferred or left
out. Its stylesheets, nine files and a tenth that one of them imports, become one, without the rules
for classes that no page of the book has: 1,900 icons, and most of Bootstrap.
"""

from __future__ import annotations

import hashlib
import html
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: The one stylesheet, in the site's ``_static``.
BUNDLE = "site.css"

# --- scripts ----------------------------------------------------------------------------------

# The theme's icons are in its font as well; its script for them is heavier than a chapter. The
# search's files serve a list below the search field, which this book has switched off.
_NEEDLESS = re.compile(
    r"[ \t]*<script[^>]*\b(?:fontawesome|searchtools|language_data|searchindex)\.js[^>]*>"
    r"</script>\n?"
)
# documentation_options.js stays: the inline scripts behind it use what it defines.
_BLOCKING = re.compile(
    r"<script(?= )(?![^>]*\bdefer\b)(?=[^>]*\bsrc=)(?![^>]*documentation_options)"
)


def lighten(page: str, searches: bool) -> str:
    """A page of the theme without the scripts that it does not need, the others deferred.

    Args:
        page: the HTML.
        searches: the page is the search's own, which needs its scripts in their places.
    """
    if searches:
        return re.sub(r"<script[^>]*/fontawesome\.js[^>]*></script>\n?", "", page)
    return _BLOCKING.sub("<script defer", _NEEDLESS.sub("", page))


# --- stylesheets ------------------------------------------------------------------------------

_LINK = re.compile(
    r'[ \t]*<link (?=[^>]*rel="stylesheet")[^>]*href="(?P<href>[^"]+)"(?P<rest>[^>]*)>\n?'
)
_SOURCES = re.compile(r'data-sources="([^"]*)"')
# Plotly has a stylesheet of its own; the theme's script for icons is on no page.
_NO_CLASSES = {"plotly.min.js", "fontawesome.js"}
_ADDRESS = re.compile(r"""url\((["']?)(?!data:|https?:|/|#)([^"')]+)\1\)""")
# Bootstrap's script puts the names of these classes together.
_COMPOSED = "bs-"


def sheets(page: str) -> list[str]:
    """The stylesheets that a page was built with, in their order, from ``_static`` on.

    A page that links the bundle already names them beside it.
    """
    found: list[str] = []
    for link in _LINK.finditer(page):
        sources = _SOURCES.search(link["rest"])
        if sources:
            found += html.unescape(sources[1]).split()
        else:
            found.append(urlsplit(link["href"]).path.partition("_static/")[2])
    return found


def bundle(folder: Path, names: Iterable[str], used: str) -> str:
    """Several stylesheets as one: what they import is in it, what nobody uses is not.

    Args:
        folder: the site's ``_static``, where the bundle is to lie.
        names: the stylesheets, from ``folder`` on, in the order in which they apply.
        used: everything that could name a class: pages and scripts.

    Returns:
        The stylesheet, with addresses that count from ``folder``.

    Raises:
        OSError: a stylesheet cannot be read.
    """
    rules = [rule for name in names for rule in _read(folder, name)]
    return '@charset "UTF-8";\n' + "".join(_kept(rules, used))


def _read(folder: Path, name: str) -> Iterator[Any]:
    """The rules of one stylesheet and, in their place, of those that it imports."""
    import tinycss2

    where = posixpath.dirname(name)

    def placed(match: re.Match[str]) -> str:
        return f"url({posixpath.normpath(posixpath.join(where, match[2]))})"

    text = _ADDRESS.sub(placed, Path(folder, name).read_text(encoding="utf-8"))
    for rule in tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True):
        keyword = getattr(rule, "lower_at_keyword", "")
        if keyword == "import":
            [address] = [part for part in rule.prelude if part.type in {"string", "url"}]
            # As an url() it counts from the folder by now, as a string from the stylesheet.
            base = where if address.type == "string" else ""
            yield from _read(folder, posixpath.normpath(posixpath.join(base, address.value)))
        elif keyword != "charset":  # which may stand at a file's beginning alone
            yield rule


def _kept(rules: Iterable[Any], used: str) -> Iterator[str]:
    """The rules that can apply to something, as text."""
    import tinycss2

    for rule in rules:
        if rule.type == "at-rule" and rule.lower_at_keyword in {"media", "supports"}:
            inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
            kept = "".join(_kept(inner, used))
            if kept:
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{kept}}}"
        elif rule.type != "qualified-rule" or _applies(rule.prelude, used):
            yield rule.serialize()


def _applies(prelude: Iterable[Any], used: str) -> bool:
    """Whether one selector of a list has only classes that are in use.

    What stands in the parentheses of ``:not()`` and the like is not looked at.
    """
    possible, dot = True, False
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            if possible:
                return True
            possible = True
        elif dot and token.type == "ident":
            possible &= token.value in used or token.value.startswith(_COMPOSED)
        dot = token.type == "literal" and token.value == "."
    return possible


def link_bundle(page: str, names: list[str], digest: str) -> str:
    """A page with one link in place of its stylesheets.

    Args:
        page: the HTML.
        names: what :func:`sheets` found in it.
        digest: changes with the bundle's content, so that a browser does not keep an old one.
    """
    first = _LINK.search(page)
    if first is None:
        return page
    static = first["href"].partition("_static/")[0] + "_static/"
    link = (
        f'  <link rel="stylesheet" href="{static}{BUNDLE}?v={digest}"'
        f' data-sources="{html.escape(" ".join(names))}" />\n'
    )
    return page[: first.start()] + link + _LINK.sub("", page[first.start() :])


# --- the site ---------------------------------------------------------------------------------


def lighten_pages(app: Sphinx, exception: Exception | None) -> None:
    """Rewrite what was built; a page that a former build wrote comes out as it was."""
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    static = site / "_static"
    pages = {
        path: path.read_text(encoding="utf-8")
        for path in sorted(site.rglob("*.html"))
        if path.relative_to(site).parts[0] not in {"_static", "_sources"}
    }
    used = "".join(pages.values())
    for path in [*static.glob("*.*js"), *static.glob("scripts/*.js")]:
        if path.name not in _NO_CLASSES:
            used += path.read_text(encoding="utf-8")
    names: list[str] = []
    for page in pages.values():
        names += [name for name in sheets(page) if name not in names]
    text = bundle(static, names, used)
    (static / BUNDLE).write_text(text, encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    for path, page in pages.items():
        light = lighten(page, searches=path.name == "search.html")
        light = link_bundle(light, names, digest)
        if light != page:
            path.write_text(light, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    # After the theme, which writes the colors of code anew when a build has finished.
    app.connect("build-finished", lighten_pages, priority=900)
