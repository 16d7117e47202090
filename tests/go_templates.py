"""Go templates, as far as the Helm chart uses them, for machines without helm.

Actions: `if`, `else`, `with`, `range` with one or two variables, `define`, `include`, pipelines, parentheses, and
comments, with white space trimmed by dashes. Anything else is an error, so that the chart stays within them.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

_ACTION = re.compile(r"(\s*\{\{-|\{\{)\s*(/\*.*?\*/|.*?)\s*(-\}\}\s*|\}\})", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\$?[\w.]+|\||\(|\)|:=|,|\$')

Scope = dict[str, object]


def indented(width: int, text: str) -> str:
    return "\n".join(" " * width + line for line in str(text).split("\n"))


def to_yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=True, default_flow_style=False).rstrip("\n").removesuffix("\n...")


FUNCTIONS: dict[str, Callable[..., object]] = {
    "default": lambda otherwise, value=None: value or otherwise,
    "eq": lambda left, right: left == right,
    "not": lambda value: not value,
    "nindent": lambda width, text: "\n" + indented(width, text),
    "quote": lambda value: json.dumps(shown(value), ensure_ascii=False),
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "toYaml": to_yaml,
}


def shown(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


class Chart:
    """A chart's templates, ready to be rendered with values."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = yaml.safe_load((folder / "Chart.yaml").read_text())
        self.values = yaml.safe_load((folder / "values.yaml").read_text())
        self._defined: dict[str, list] = {}
        self._files = {
            path.name: _parsed(path.read_text(), self._defined) for path in sorted((folder / "templates").iterdir())
        }

    def render(self, values: dict, release: str, namespace: str) -> dict[str, str]:
        """Every template but the partial ones, by name, under values that are laid over the chart's own."""
        root = {
            "Values": merged(self.values, values),
            "Release": {"Name": release, "Namespace": namespace, "Service": "Helm"},
            "Chart": {"Version": self.about["version"], "AppVersion": self.about["appVersion"]},
            "Files": {"Get": lambda name: (self.folder / name).read_text()},
        }
        return {
            name: self._run(nodes, root, {"$": root}) for name, nodes in self._files.items() if not name.startswith("_")
        }

    def _run(self, nodes: list, dot: object, scope: Scope) -> str:
        return "".join(self._node(node, dot, scope) for node in nodes)

    def _node(self, node: str | tuple, dot: object, scope: Scope) -> str:
        if isinstance(node, str):
            return node
        verb, words, body, otherwise = node
        if verb == "range":
            return self._range(words, body, dot, scope)
        value = self._value(words, dot, scope)
        if verb == "print":
            return shown(value)
        if not value:
            return self._run(otherwise, dot, scope)
        return self._run(body, value if verb == "with" else dot, scope)

    def _range(self, words: list[str], body: list, dot: object, scope: Scope) -> str:
        names, words = (words[: words.index(":=")], words[words.index(":=") + 1 :]) if ":=" in words else ([], words)
        names = [name for name in names if name != ","]
        items = self._value(words, dot, scope) or []
        pairs = sorted(items.items()) if isinstance(items, dict) else list(enumerate(items))
        return "".join(
            self._run(body, value, {**scope, **dict(zip(names, (key, value)[2 - len(names) :], strict=True))})
            for key, value in pairs
        )

    def _value(self, words: list[str], dot: object, scope: Scope) -> object:
        """A pipeline: each command gets what the one before it gives as its last argument."""
        passed: tuple[object, ...] = ()
        for command in _split(words):
            passed = (self._command(command, passed, dot, scope),)
        return passed[0]

    def _command(self, words: list[str], passed: tuple[object, ...], dot: object, scope: Scope) -> object:
        first, *rest = list(_operands(words))
        given = [self._operand(operand, dot, scope) for operand in rest] + list(passed)
        if first == "include":
            return self._run(self._defined[given[0]], given[1], {"$": given[1]})
        if isinstance(first, str) and first in FUNCTIONS:
            return FUNCTIONS[first](*given)
        value = self._operand(first, dot, scope)
        return value(*given) if callable(value) else value

    def _operand(self, operand: str | list[str], dot: object, scope: Scope) -> object:
        if isinstance(operand, list):
            return self._value(operand, dot, scope)
        if operand.startswith('"'):
            return json.loads(operand)
        if operand.isdigit():
            return int(operand)
        name, *path = operand.split(".")
        if name and not name.startswith("$"):
            raise ValueError(f"{operand} is not among the functions that the chart may use")
        value = scope[name] if name else dot
        for step in filter(None, path):
            value = value.get(step) if isinstance(value, dict) else None
        return value


def merged(below: object, above: object) -> object:
    """Values laid over others, table by table; null removes what is below."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    both = {**below, **{name: merged(below.get(name), value) for name, value in above.items()}}
    return {name: value for name, value in both.items() if value is not None}


def _parsed(text: str, defined: dict[str, list]) -> list:
    pieces = list(_pieces(text))
    nodes, _ = _block(pieces, 0, defined)
    return nodes


def _pieces(text: str) -> Iterator[str | list[str]]:
    position = 0
    for action in _ACTION.finditer(text):
        yield text[position : action.start()]
        position = action.end()
        if not action[2].startswith("/*"):
            if _TOKEN.sub("", action[2]).strip():
                raise ValueError(f"{action[2]!r} has what this subset does not know")
            yield _TOKEN.findall(action[2])
    yield text[position:]


def _block(pieces: list, position: int, defined: dict[str, list]) -> tuple[list, int]:
    """The nodes up to the `else` or `end` of a block, and where that is."""
    nodes: list = []
    while position < len(pieces):
        piece = pieces[position]
        if isinstance(piece, str):
            nodes.append(piece)
        elif piece[0] in ("else", "end"):
            return nodes, position
        elif piece[0] in ("if", "with", "range", "define"):
            body, position = _block(pieces, position + 1, defined)
            otherwise: list = []
            if pieces[position] == ["else"]:
                otherwise, position = _block(pieces, position + 1, defined)
            if piece[0] == "define":
                defined[json.loads(piece[1])] = body
            else:
                nodes.append((piece[0], piece[1:], body, otherwise))
        else:
            nodes.append(("print", piece, [], []))
        position += 1
    return nodes, position


def _split(words: list[str]) -> Iterator[list[str]]:
    """The commands of a pipeline."""
    depth, command = 0, []
    for word in words:
        depth += (word == "(") - (word == ")")
        if word == "|" and not depth:
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _operands(words: list[str]) -> Iterator[str | list[str]]:
    """The words of a command, those in parentheses together."""
    depth, inner = 0, []
    for word in words:
        if word == "(":
            depth += 1
            if depth == 1:
                continue
        if word == ")":
            depth -= 1
            if not depth:
                yield inner
                inner = []
                continue
        if depth:
            inner.append(word)
        else:
            yield word
