# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Makes text safe to show, once, where it leaves the engine: terminal, journal, answers of modules, logs, Markdown.

Names of files, messages of programs and texts of archives come from bots and strangers. Inside the engine they stay as
they are. Shown, they must neither act on the terminal, nor begin a line of their own, nor be of any length.
"""

from __future__ import annotations

import re
import shlex
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Optional

LINE_LIMIT = 2000
"""So many characters of a line are shown: enough for a path and what is wrong with it, and little for a terminal."""

VALUE_LIMIT = 32768
"""The same for one text in a record: more than the longest path with each of its bytes escaped."""

_CUT = "…"
# sd-daemon(3): a line of a unit that begins like this has the level of the journal that it names.
_LEVEL = re.compile(r"(\s*)<(?=\d{1,3}>)")

_ACTS_IN_MARKDOWN = re.compile(r"[^\w\s.,/=]|_")


def counted(count: float, what: str, plural: Optional[str] = None) -> str:
    """A number with its noun: ``1 path``, ``2 paths``. plural: where it is not made with an s."""
    number = f"{count:g}" if isinstance(count, float) else str(count)
    return f"{number} {what}" if count == 1 else f"{number} {plural or f'{what}s'}"


def pasted(*words: object) -> str:
    """Words of a command that a person is told to type, as a shell takes them: each one as it is."""
    return shlex.join(map(str, words))


def printable(text: object, limit: int = LINE_LIMIT) -> str:
    r"""Text on one line without a character that acts; of too much of it the beginning and the end.

    What is no printable character becomes its escape: ``\x1b``, ``\n``, ``\u202e``, ``\udcff`` for a byte that is not
    UTF-8. Printable text within the limit stays as it is, so the function changes nothing in what it returned before.
    """
    whole = str(text)
    if len(whole) <= limit:
        shown = whole if whole.isprintable() else "".join(map(_escaped, whole))
        if len(shown) <= limit:
            return shown
    tail_room = (limit - 1) // 2
    head = _fitting(map(_escaped, whole[:limit]), limit - 1 - tail_room)
    tail = _fitting(map(_escaped, reversed(whole[-limit:])), tail_room)
    return "".join([*head, _CUT, *reversed(tail)])


def shortened(text: str, limit: int = LINE_LIMIT) -> str:
    """Of a text that is too long the beginning and the end, unescaped: for JSON, which escapes by itself."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return text[: limit - 1 - tail] + _CUT + text[len(text) - tail :]


def output_line(text: object) -> str:
    """A line for a terminal or the journal, without its line break; none sets its own level in the journal."""
    whole = str(text)
    level = _LEVEL.match(whole)
    return printable(whole if level is None else f"{level[1]}\\x3c{whole[level.end() :]}")


def output_text(text: str) -> str:
    """The output of a program, for a file that a person reads: its lines and tabs stay, and nothing in them acts."""
    return "".join(character if character in "\n\t" else _escaped(character) for character in text)


def markdown(text: object, limit: int = LINE_LIMIT) -> str:
    """Text on one line of Markdown that is neither markup, nor HTML, nor a mention, nor the end of a table's cell."""
    return _ACTS_IN_MARKDOWN.sub(lambda sign: f"&#{ord(sign[0])};", printable(text, limit))


def traceback_lines(error: BaseException) -> Iterator[str]:
    """A traceback, each line of it indented: an exception's own text cannot pass for a line that tradekeep said."""
    for part in traceback.format_exception(type(error), error, error.__traceback__):
        # Calls, with their line of source, begin with blanks; everything else quotes what the exception says.
        lines = part.rstrip("\n").split("\n") if part.startswith("  ") else [part.strip()]
        yield from (f"  {printable(line)}" for line in lines)


def printable_values(value: Any, limit: int = VALUE_LIMIT) -> Any:
    """JSON-ready content with every text in it printable, the keys included."""
    return _each_text(value, lambda text: printable(text, limit))


def shortened_values(value: Any, limit: int = VALUE_LIMIT) -> Any:
    """JSON-ready content with no text in it longer than the limit."""
    return _each_text(value, lambda text: shortened(text, limit))


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        found: dict[Any, Any] = {}
        for key, item in value.items():
            found[_unused(_each_text(key, change), found)] = _each_text(item, change)
        return found
    if isinstance(value, (list, tuple)):
        return [_each_text(item, change) for item in value]
    return value


def _unused(key: Any, found: Mapping[Any, Any]) -> Any:
    """A key that is not taken: a name that is spelt like the escape of another must not hide it."""
    number, wanted = 1, key
    while key in found:
        number += 1
        key = f"{wanted} ({number})"
    return key


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _fitting(pieces: Iterable[str], room: int) -> list[str]:
    """As many of the pieces as there is room for; none is divided."""
    found = []
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            break
        found.append(piece)
    return found
