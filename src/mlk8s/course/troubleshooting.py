"""The page on troubleshooting: directives that write what goes wrong as sections of a page.

``{troubles} PLACE`` writes a section for each trouble that shows there, ``{trouble-index}`` the
list of all error texts. They are sections and literal text rather than a notebook's output, because
Sphinx's search reads those only. The texts are in ``sim/nodes/faults.yaml`` (what can be practised
on the embedded cluster) and ``troubles.yaml`` (the rest).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from mlk8s.sim.faults import FAULTS, Fault
from mlk8s.sim.trouble import PLACES, WITNESSES, Message, Trouble, rows

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_FILES = ("mlk8s.sim.nodes", "faults.yaml"), ("mlk8s.course", "troubles.yaml")
_SCRIPT = "the embedded cluster prints this as a script, in the words of this entry's sources"


def _others() -> list[Trouble]:
    text = resources.files("mlk8s.course").joinpath("troubles.yaml").read_text("utf-8")
    return [Trouble(**row) for row in rows(text)]


#: All troubles of the page.
TROUBLES: tuple[Trouble, ...] = (*FAULTS.values(), *_others())


def practice(fault: Fault) -> list[str]:
    """The commands that show a fault on the embedded cluster."""
    preset = f" --nodes {fault.nodes}" if fault.nodes else ""
    return [f"mlk8s cluster up{preset}", f"mlk8s cluster fault on {fault.name}"]


def anchor(trouble: Trouble) -> str:
    """The label of a trouble's section, which ``{ref}`` and links take."""
    return f"trouble-{trouble.name}"


class _Directive(SphinxDirective):
    def note_files(self) -> None:
        """Have the page written again when a text changes, or how it is written."""
        # And in every build: Sphinx drops the index entries of an unread page from the search.
        self.env.note_reread()
        self.env.note_dependency(__file__)
        for package, name in _FILES:
            self.env.note_dependency(str(resources.files(package).joinpath(name)))


class Troubles(_Directive):
    """``{troubles} PLACE``: a section for each trouble that shows there."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the sections."""
        self.note_files()
        (place,) = self.arguments
        if place not in PLACES:
            raise self.error(f"There is no place {place!r}. Next: take one of {', '.join(PLACES)}.")
        return [self._section(each) for each in TROUBLES if each.where == place]

    def _section(self, trouble: Trouble) -> nodes.section:
        section = nodes.section(ids=[anchor(trouble)], names=[anchor(trouble)])
        section += nodes.title("", trouble.heading)
        self.state.document.note_explicit_target(section)
        for message in trouble.errors:
            section += _index(message, anchor(trouble))
            section += nodes.literal_block(
                message.text, message.text, language="text", classes=["mlk8s-error"]
            )
        section += _facts(trouble)
        return section


class TroubleIndex(_Directive):
    """``{trouble-index}``: each error text with links to the sections that have it."""

    def run(self) -> list[nodes.Node]:
        """Write the list."""
        self.note_files()
        found: dict[str, list[Trouble]] = {}
        for trouble in TROUBLES:
            for message in trouble.errors:
                found.setdefault(message.text, []).append(trouble)
        items = []
        for text in sorted(found, key=_telling):
            links = nodes.line_block("", *(nodes.line("", "", _link(each)) for each in found[text]))
            term = nodes.term("", "", nodes.literal(text, text))
            items.append(nodes.definition_list_item("", term, nodes.definition("", links)))
        return [nodes.definition_list("", *items, classes=["mlk8s-errors"])]


def _telling(text: str) -> str:
    """A text without what all messages of its kind begin with, to sort by."""
    return re.sub(r"^(0/\d+ nodes are available: (\d+ )?|[^\w/]+)", "", text).lower()


def _link(trouble: Trouble) -> nodes.reference:
    return nodes.reference("", trouble.heading, internal=True, refid=anchor(trouble))


def _index(message: Message, target: str) -> addnodes.index:
    """Let the search lead from an error's text to its section."""
    return addnodes.index(entries=[("single", message.text, target, "main", None)])


def _facts(trouble: Trouble) -> nodes.definition_list:
    facts: list[tuple[str, list[nodes.Node]]] = [
        ("You see", _prose(trouble.symptom + ".")),
        ("Cause", _prose(trouble.cause)),
        ("Confirm", [_commands(trouble.check)]),
        ("Fix", _prose(trouble.fix)),
    ]
    if isinstance(trouble, Fault):
        facts.append(("Practice", [_commands(practice(trouble))]))
    facts.append(("Sources", [_sources(trouble)]))
    facts.append(("Seen", _prose(_seen(trouble))))
    return nodes.definition_list(
        "",
        *(
            nodes.definition_list_item("", nodes.term("", name), nodes.definition("", *body))
            for name, body in facts
        ),
        classes=["mlk8s-trouble"],
    )


def _seen(trouble: Trouble) -> str:
    """Who has seen the texts: one sentence, or one for each text where they differ."""
    scripted = isinstance(trouble, Fault) and trouble.scripted
    said = [
        _SCRIPT if scripted and each.seen == "embedded" else WITNESSES[each.seen]
        for each in trouble.errors
    ]
    if len(set(said)) > 1:
        return " ".join(f"Text {number}: {who}." for number, who in enumerate(said, 1))
    (who,) = set(said) or {f"there is no text; {WITNESSES['reported']}"}
    return f"{who[0].upper()}{who[1:]}."


def _prose(text: str) -> list[nodes.Node]:
    """A paragraph; what is between backticks is code."""
    parts = text.split("`")
    return [
        nodes.paragraph(
            "",
            "",
            *(
                nodes.literal(part, part) if number % 2 else nodes.Text(part)
                for number, part in enumerate(parts)
                if part
            ),
        )
    ]


def _commands(lines: Iterable[str]) -> nodes.literal_block:
    text = "\n".join(lines)
    return nodes.literal_block(text, text, language="bash", classes=["mlk8s-commands"])


def _sources(trouble: Trouble) -> nodes.paragraph:
    paragraph = nodes.paragraph()
    for number, link in enumerate(trouble.links()):
        if number:
            paragraph += nodes.Text(", ")
        paragraph += nodes.reference("", link.label, refuri=link.url)
    return paragraph


def setup(app: Sphinx) -> None:
    """Register the directives with Sphinx."""
    app.add_directive("troubles", Troubles)
    app.add_directive("trouble-index", TroubleIndex)
