"""What is taken out of a page when the site is built, and what has to stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlk8s.course.lightness import BUNDLE, bundle, lighten, link_bundle, sheets

SITE = Path(__file__).parents[2] / "_build" / "html"

SCRIPTS = """<script defer src="_static/scripts/fontawesome.js?digest=1"></script>
<script src="_static/documentation_options.js"></script>
<script src="_static/copybutton.js"></script>
<script defer="defer" src="_static/mlk8s.js"></script>
<script>var inline;</script>
<script src="_static/searchtools.js"></script>
<script src="searchindex.js"></script>
"""


def test_a_page_loads_what_it_needs_and_waits_for_none_of_it() -> None:
    light = """<script src="_static/documentation_options.js"></script>
<script defer src="_static/copybutton.js"></script>
<script defer="defer" src="_static/mlk8s.js"></script>
<script>var inline;</script>
"""
    assert lighten(SCRIPTS, searches=False) == light
    assert lighten(light, searches=False) == light
    assert lighten(SCRIPTS, searches=True) == SCRIPTS.partition("\n")[2]


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (".used{a:b}", ".used{a:b}"),
        (".unused{a:b}", ""),
        ("p{a:b}", "p{a:b}"),
        (".used,.unused{a:b}", ".used,.unused{a:b}"),
        (".unused,.used .unused{a:b}", ""),
        (".used.unused{a:b}", ""),
        ("p.unused:before{a:b}", ""),
        # Of what a selector says in parentheses or brackets nothing is known.
        (".used:not(.unused){a:b}", ".used:not(.unused){a:b}"),
        ('[class*=".unused"]{a:b}', '[class*=".unused"]{a:b}'),
        ("@media print{.used{a:b}.unused{a:b}}", "@media print{.used{a:b}}"),
        ("@media print{.unused{a:b}}", ""),
        ("@supports (a:b){.unused{a:b}}", ""),
        ("@keyframes spin{to{a:b}}", "@keyframes spin{to{a:b}}"),
        # Bootstrap puts this name together.
        (".bs-tooltip-auto .used{a:b}", ".bs-tooltip-auto .used{a:b}"),
    ],
)
def test_a_rule_stays_if_it_can_apply(tmp_path: Path, rule: str, kept: str) -> None:
    write(tmp_path, {"one.css": rule})
    assert bundle(tmp_path, ["one.css"], '<p class="used">') == f'@charset "UTF-8";\n{kept}'


def test_what_is_imported_stands_in_its_place_and_addresses_still_lead_there(
    tmp_path: Path,
) -> None:
    files = {
        "styles/theme.css": '@charset "UTF-8";@import "../basic.css";p{a:url(../fonts/one.woff2)}',
        "basic.css": '@import url("styles/deep.css");p{a:url("file.png")}',
        "styles/deep.css": "p{a:url(x.svg#y);b:url(data:image/png;base64,AA);c:url(#z)}",
    }
    text = bundle(write(tmp_path, files), ["styles/theme.css"], "")
    assert text.partition("\n")[2] == (
        "p{a:url(styles/x.svg#y);b:url(data:image/png;base64,AA);c:url(#z)}"
        "p{a:url(file.png)}p{a:url(fonts/one.woff2)}"
    )


def test_a_page_links_one_stylesheet_and_still_says_which_they_were() -> None:
    page = """<head>
  <link href="../_static/styles/theme.css?digest=5" rel="stylesheet" />
  <link rel="icon" href="../_static/favicon.svg" />
  <link rel="stylesheet" type="text/css" href="../_static/mlk8s.css?v=4" />
</head>"""
    names = ["styles/theme.css", "mlk8s.css"]
    assert sheets(page) == names
    linked = link_bundle(page, names, "0a")
    assert linked.count("stylesheet") == 1 and "../_static/favicon.svg" in linked
    assert f'href="../_static/{BUNDLE}?v=0a"' in linked
    assert sheets(linked) == names
    # A later build that did not write this page again.
    assert link_bundle(linked, names, "0a") == linked
    assert f"{BUNDLE}?v=0b" in link_bundle(linked, names, "0b")


def test_all_that_the_stylesheet_of_the_site_names_is_there() -> None:
    static = SITE / "_static"
    text = (static / BUNDLE).read_text(encoding="utf-8")
    named = {
        address.partition("?")[0].partition("#")[0]
        for address in re.findall(r"""url\(["']?([^"')]+)""", text)
        if not address.startswith(("data:", "#"))
    }
    assert any(address.endswith(".woff2") for address in named)
    assert [address for address in sorted(named) if not (static / address).is_file()] == []


def test_the_stylesheet_of_the_site_has_the_colors_of_code_that_the_theme_writes_last() -> None:
    text = (SITE / "_static" / BUNDLE).read_text(encoding="utf-8")
    for theme in ("light", "dark"):
        assert re.search(rf'html\[data-theme="?{theme}"?\] \.highlight \.nn', text), theme
