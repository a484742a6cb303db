"""The syntax of the Common Expression Language: from text to a tree, with CEL's own error texts.

The grammar is https://github.com/google/cel-spec/blob/master/doc/langdef.md with optional access
(``a.?b``); messages are those that ``cel-go``, which Kubernetes uses, shows for the frequent
mistakes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

from mlk8s.sim.cel.values import Uint

# cel-go counts its parser's recursion up to 250; the tree may be as deep here.
_MAX_DEPTH = 200
_MAX_NESTING = 60
_TOKEN = re.compile(
    r"""
    (?P<skip>[\t\n\f\r\ ]+|//[^\n]*)
  | (?P<bytes>[bB](?:[rR]?\"\"\"(?:\\.|[^\\])*?\"\"\"|[rR]?'''(?:\\.|[^\\])*?'''
        |[rR]?"(?:\\.|[^"\\\n])*"|[rR]?'(?:\\.|[^'\\\n])*'))
  | (?P<raw>[rR](?:\"\"\"(?:.|\n)*?\"\"\"|'''(?:.|\n)*?'''|"[^"\n]*"|'[^'\n]*'))
  | (?P<string>\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''
        |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
  | (?P<double>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
  | (?P<uint>(?:0x[0-9a-fA-F]+|\d+)[uU])
  | (?P<int>0x[0-9a-fA-F]+|\d+)
  | (?P<ident>[_a-zA-Z][_a-zA-Z0-9]*)
  | (?P<op>==|!=|<=|>=|&&|\|\||[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_OPERATORS: dict[str, tuple[int, str]] = {
    "||": (1, "_||_"),
    "&&": (2, "_&&_"),
    "<": (3, "_<_"),
    "<=": (3, "_<=_"),
    ">": (3, "_>_"),
    ">=": (3, "_>=_"),
    "==": (3, "_==_"),
    "!=": (3, "_!=_"),
    "in": (3, "@in"),
    "+": (4, "_+_"),
    "-": (4, "_-_"),
    "*": (5, "_*_"),
    "/": (5, "_/_"),
    "%": (5, "_%_"),
}
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "`": "`",
    "?": "?",
}
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"`?])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2}))"
)
_STARTS = (
    "'[', '{', %s'(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, "
    "STRING, BYTES, IDENTIFIER"
)


class CelSyntaxError(Exception):
    """The text is not CEL; the message is in the form in which cel-go shows issues."""


@dataclass(frozen=True)
class Node:
    """A part of an expression.

    Attributes:
        kind: ``literal``, ``ident``, ``select``, ``call``, ``list`` or ``map``.
        at: offset in the text that messages point to.
        name: of an identifier, a field or a function.
        value: of a literal.
        target: what a field is selected from, or a method called on.
        args: of a call; items of a list; keys and values of a map in turn.
        optional: written ``.?`` or ``[?``.
    """

    kind: str
    at: int
    name: str = ""
    value: Any = None
    target: Node | None = None
    args: tuple[Node, ...] = ()
    optional: bool = False
    depth: int = 1


def issue(text: str, at: int, message: str) -> str:
    """One message with the line it is about and a mark below, as cel-go prints it."""
    at = min(at, len(text))
    line = text.count("\n", 0, at)
    column = at - (text.rfind("\n", 0, at) + 1)
    source = text.split("\n")[line].replace("\t", " ")
    return f"ERROR: <input>:{line + 1}:{column + 1}: {message}\n | {source}\n | {'.' * column}^"


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        CelSyntaxError: with cel-go's message.
    """
    return _Parser(text).parse()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._errors: list[str] = []
        self._tokens = self._lex()
        self._next = 0
        self._nesting = 0

    def parse(self) -> Node:
        node = self._expression()
        token = self._peek()
        if token.kind != "end":
            last = self._tokens[self._next + 1].kind == "end"
            what = "extraneous" if last else "mismatched"
            self._fail(token, f"{what} input '{token.text}' expecting <EOF>")
        if self._errors:
            raise CelSyntaxError("\n".join(self._errors))
        return node

    def _lex(self) -> list[_Token]:
        tokens: list[_Token] = []
        at, text = 0, self._text
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                # The lexer has read one character more when it notices, if that could go on.
                end = at + 2 if text[at] in "=|&" and at + 1 < len(text) else at + 1
                if text[at] in "'\"":
                    end = len(text)
                shown = text[at:end].replace("\n", "\\n").replace("\t", "\\t")
                message = f"Syntax error: token recognition error at: '{shown}'"
                self._errors.append(issue(text, at, message))
                at = end
                continue
            kind = match.lastgroup or ""
            if kind != "skip":
                tokens.append(_Token(kind, match.group(), at))
            at = match.end()
        tokens.append(_Token("end", "<EOF>", len(text)))
        return tokens

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _accept(self, text: str) -> bool:
        token = self._peek()
        if token.kind == "op" and token.text == text:
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            token = self._peek()
            if token.kind == "end":
                self._fail(token, f"missing '{text}' at '<EOF>'")
            self._fail(token, f"mismatched input '{token.text}' expecting '{text}'")

    def _fail(self, token: _Token, message: str) -> NoReturn:
        self._errors.append(issue(self._text, token.at, f"Syntax error: {message}"))
        raise CelSyntaxError("\n".join(self._errors))

    def _node(self, kind: str, at: int, **fields: Any) -> Node:
        children = [*fields.get("args", ())]
        if fields.get("target") is not None:
            children.append(fields["target"])
        depth = 1 + max((child.depth for child in children), default=0)
        if depth > _MAX_DEPTH:
            self._too_deep()
        return Node(kind, at, depth=depth, **fields)

    def _too_deep(self) -> NoReturn:
        raise CelSyntaxError("ERROR: <input>:-1:0: expression recursion limit exceeded: 250")

    def _expression(self) -> Node:
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            self._too_deep()
        condition = self._binary(1)
        token = self._peek()
        if self._accept("?"):
            first = self._binary(1)
            self._expect(":")
            second = self._expression()
            condition = self._node("call", token.at, name="_?_:_", args=(condition, first, second))
        self._nesting -= 1
        return condition

    def _binary(self, level: int) -> Node:
        left = self._unary()
        while True:
            token = self._peek()
            if token.kind not in ("op", "ident"):
                return left
            precedence, name = _OPERATORS.get(token.text, (0, ""))
            if precedence < level:
                return left
            self._next += 1
            right = self._binary(precedence + 1)
            if name in ("_||_", "_&&_") and left.kind == "call" and left.name == name:
                # A long chain stays flat, as cel-go balances it.
                left = self._node("call", left.at, name=name, args=(*left.args, right))
            else:
                left = self._node("call", token.at, name=name, args=(left, right))

    def _unary(self) -> Node:
        token = self._peek()
        count = 0
        while self._accept("!"):
            count += 1
        if count:
            operand = self._member()
            return (
                self._node("call", token.at, name="!_", args=(operand,)) if count % 2 else operand
            )
        while self._accept("-"):
            count += 1
        if not count:
            return self._member()
        number = self._peek()
        if number.kind in ("int", "double") and count % 2:
            return self._member(negative=True)
        operand = self._member()
        return self._node("call", token.at, name="-_", args=(operand,)) if count % 2 else operand

    def _member(self, negative: bool = False) -> Node:
        node = self._primary(negative)
        while True:
            token = self._peek()
            if self._accept("."):
                optional = self._accept("?")
                name = self._take()
                if name.kind != "ident":
                    self._fail(name, f"mismatched input '{name.text}' expecting IDENTIFIER")
                opened = self._peek()
                if not optional and self._accept("("):
                    args = self._arguments(")")
                    node = self._node("call", opened.at, name=name.text, target=node, args=args)
                else:
                    node = self._node(
                        "select", token.at, name=name.text, target=node, optional=optional
                    )
            elif self._accept("["):
                optional = self._accept("?")
                index = self._expression()
                self._expect("]")
                node = self._node(
                    "call", token.at, name="_[_]", args=(node, index), optional=optional
                )
            else:
                return node

    def _arguments(self, end: str) -> tuple[Node, ...]:
        if self._accept(end):
            return ()
        items = [self._expression()]
        while self._accept(","):
            if end == "]" and self._peek().text == "]":
                break
            items.append(self._expression())
        self._expect(end)
        return tuple(items)

    def _primary(self, negative: bool) -> Node:
        token = self._take()
        kind, text = token.kind, token.text
        if kind == "int":
            number = int(text, 0) if text.startswith("0x") else int(text)
            number = -number if negative else number
            if not -(2**63) <= number < 2**63:
                self._errors.append(issue(self._text, token.at, "invalid int literal"))
            return Node("literal", token.at, value=number)
        if kind == "uint":
            return Node("literal", token.at, value=Uint(int(text[:-1], 0)))
        if kind == "double":
            return Node("literal", token.at, value=-float(text) if negative else float(text))
        if kind == "string":
            return Node("literal", token.at, value=_unescape(_body(text)))
        if kind == "raw":
            return Node("literal", token.at, value=_body(text[1:]))
        if kind == "bytes":
            inner = _unescape(_body(text[1:]))
            return Node("literal", token.at, value=inner.encode())
        if kind == "ident":
            if text in ("true", "false", "null"):
                value = {"true": True, "false": False, "null": None}[text]
                return Node("literal", token.at, value=value)
            opened = self._peek()
            if text != "in" and self._accept("("):
                return self._node("call", opened.at, name=text, args=self._arguments(")"))
            if text != "in":
                return Node("ident", token.at, name=text)
        if text == "(":
            inside = self._expression()
            self._expect(")")
            return inside
        if text == "[":
            return self._node("list", token.at, args=self._arguments("]"))
        if text == "{":
            return self._node("map", token.at, args=self._entries())
        if text == "." and self._peek().kind == "ident":
            return self._primary(negative=False)
        return self._unexpected(token)

    def _unexpected(self, token: _Token) -> NoReturn:
        kind, text = token.kind, token.text
        after_open = self._next >= 2 and self._tokens[self._next - 1].text == "("
        expected = _STARTS % ("')', " if after_open and kind == "end" else "")
        self._fail(token, f"mismatched input '{text}' expecting {{{expected}}}")

    def _entries(self) -> tuple[Node, ...]:
        parts: list[Node] = []
        while not self._accept("}"):
            parts.append(self._expression())
            self._expect(":")
            parts.append(self._expression())
            if not self._accept(","):
                self._expect("}")
                break
        return tuple(parts)


def _body(text: str) -> str:
    width = 3 if text[:3] in ('"""', "'''") and len(text) >= 6 else 1
    return text[width:-width]


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        simple, byte, short, long, octal = match.groups()
        if simple:
            return _ESCAPES[simple]
        if octal:
            return chr(int(octal, 8))
        return chr(int(byte or short or long, 16))

    return _ESCAPE.sub(one, text) if "\\" in text else text
