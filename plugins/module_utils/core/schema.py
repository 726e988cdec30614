# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A small declarative reader for mappings that people write.

A schema is built of readers. Each turns one value into what the model wants, or raises ConfigurationError with the
path of the offending key (``components.credentials.file_mode``, ``services[0].units``) and what was expected there.
A value is only repeated in a message where it cannot be a secret.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional, Protocol

from .errors import ConfigurationError


class Reader(Protocol):
    """Reads one value."""

    def read(self, value: Any, path: str) -> Any:
        """The value as the model wants it; raises ConfigurationError."""


def wrong(path: str, expected: str, value: Any, *, hint: Optional[str] = None) -> ConfigurationError:
    """The error for a value of the wrong type; it names the type and not the value."""
    return ConfigurationError(f"expected {expected}, found {type_in_words(value)}", path=path or None, hint=hint)


def type_in_words(value: Any) -> str:
    """The type of a value as a person who writes YAML calls it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text" if value else "empty text"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Sequence) else type(value).__name__


def child(path: str, key: str) -> str:
    """The path of a key inside the mapping at ``path``."""
    return f"{path}.{key}" if path else key


def did_you_mean(word: str, known: Sequence[str]) -> Optional[str]:
    """A hint with the closest known word, or with all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(sorted(known))}" if known else None


@dataclass(frozen=True)
class Text:
    """Text; ``parse`` returns it in its normal form or raises ValueError with the reason."""

    expected: str
    parse: Callable[[str], Any] = str
    hint: Optional[str] = None
    show: bool = True

    def read(self, value: Any, path: str) -> Any:
        """See Reader."""
        if not isinstance(value, str) or not value:
            raise wrong(path, self.expected, value, hint=self.hint)
        try:
            return self.parse(value)
        except ValueError as reason:
            found = f", found {value!r}" if self.show else ""
            raise ConfigurationError(f"expected {self.expected}{found}: {reason}", path=path, hint=self.hint) from None


@dataclass(frozen=True)
class FreeText:
    """Any text on one line, also empty."""

    def read(self, value: Any, path: str) -> str:
        """See Reader."""
        if not isinstance(value, str):
            raise wrong(path, "text", value)
        if not value.isprintable():
            # It is shown on terminals and written into unit files.
            raise ConfigurationError("expected text on one line, found a control character", path=path)
        return value


@dataclass(frozen=True)
class Flag:
    """true or false, and nothing that merely looks like it."""

    def read(self, value: Any, path: str) -> bool:
        """See Reader."""
        if not isinstance(value, bool):
            raise wrong(path, "true or false", value)
        return value


@dataclass(frozen=True)
class Number:
    """A number within bounds; ``whole`` for counts."""

    minimum: float
    maximum: float
    whole: bool = True

    def read(self, value: Any, path: str) -> Any:
        """See Reader."""
        expected = f"a {'whole ' if self.whole else ''}number from {self.minimum:g} to {self.maximum:g}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong(path, expected, value)
        if (self.whole and not isinstance(value, int)) or not self.minimum <= value <= self.maximum:
            raise ConfigurationError(f"expected {expected}, found {value!r}", path=path)
        return value if self.whole else float(value)


@dataclass(frozen=True)
class Choice:
    """One of a few words; ``convert`` makes the model's value of it (an enum, for instance)."""

    words: tuple[str, ...]
    convert: Callable[[str], Any] = str

    def read(self, value: Any, path: str) -> Any:
        """See Reader."""
        expected = f"one of {', '.join(self.words)}"
        if not isinstance(value, str):
            raise wrong(path, expected, value)
        if value not in self.words:
            raise ConfigurationError(
                f"expected {expected}, found {value!r}", path=path, hint=did_you_mean(value, self.words)
            )
        return self.convert(value)


@dataclass(frozen=True)
class Mode:
    """Permissions as quoted octal text; the owner keeps what the bot cannot do without (``floor``)."""

    floor: int

    def read(self, value: Any, path: str) -> int:
        """See Reader."""
        expected = f'a quoted octal mode such as "{0o200 | self.floor:04o}"'
        if isinstance(value, int) and not isinstance(value, bool):
            # YAML 1.1 reads an unquoted 0600 as octal: the person wrote 0600, the number is 384.
            raise wrong(path, expected, value, hint=f"quote it: an unquoted 0600 is 384 to YAML, and this is {value}")
        if not isinstance(value, str):
            raise wrong(path, expected, value)
        digits = value[1:] if len(value) == 4 and value[0] == "0" else value
        if len(digits) != 3 or any(digit not in "01234567" for digit in digits):
            raise ConfigurationError(f"expected {expected}, found {value!r}", path=path)
        return self._within_bounds(int(digits, 8), path)

    def _within_bounds(self, mode: int, path: str) -> int:
        if mode & self.floor != self.floor:
            raise ConfigurationError(
                f'expected a mode that lets the owner in, found "{mode:04o}"', path=path, hint="see chmod(1)"
            )
        if mode & 0o002:
            raise ConfigurationError(
                f'expected a mode that keeps others from writing, found "{mode:04o}"', path=path, hint="see chmod(1)"
            )
        return mode


@dataclass(frozen=True)
class JsonDocument:
    """Anything that JSON can say; NaN and infinity, which it cannot, are refused."""

    def read(self, value: Any, path: str) -> Any:
        """See Reader."""
        if value is None or isinstance(value, (str, bool, int)):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, Mapping):
            return {self._key(key, path): self.read(item, child(path, str(key))) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.read(item, f"{path}[{index}]") for index, item in enumerate(value)]
        raise wrong(path, "something that JSON can say", value)

    @staticmethod
    def _key(key: Any, path: str) -> str:
        if not isinstance(key, str):
            raise wrong(path, "text as every key", key, hint="quote the key")
        return key


@dataclass(frozen=True)
class ListOf:
    """A list of equal things, as a tuple; no item twice."""

    item: Reader
    minimum: int = 0

    def read(self, value: Any, path: str) -> tuple[Any, ...]:
        """See Reader."""
        if not isinstance(value, (list, tuple)):
            raise wrong(path, "a list", value, hint="write [item, ...]")
        if len(value) < self.minimum:
            raise ConfigurationError("expected at least one item, found an empty list", path=path)
        items: list[Any] = []
        for index, raw in enumerate(value):
            item = self.item.read(raw, f"{path}[{index}]")
            if item in items:
                raise ConfigurationError("expected each item once, found this one again", path=f"{path}[{index}]")
            items.append(item)
        return tuple(items)


@dataclass(frozen=True)
class MapOf:
    """A mapping from names to equal things."""

    key: Reader
    item: Reader

    def read(self, value: Any, path: str) -> dict[str, Any]:
        """See Reader."""
        if not isinstance(value, Mapping):
            raise wrong(path, "a mapping", value)
        return {
            self.key.read(key, child(path, str(key))): self.item.read(item, child(path, str(key)))
            for key, item in value.items()
        }


@dataclass(frozen=True)
class Table:
    """A mapping with known keys; ``null`` means that the key is absent. ``build`` makes the model's value of it."""

    fields: Mapping[str, Reader]
    required: tuple[str, ...] = ()
    build: Callable[..., Any] = dict

    def read(self, value: Any, path: str) -> Any:
        """See Reader."""
        if not isinstance(value, Mapping):
            raise wrong(path, "a mapping", value)
        present = {key: item for key, item in value.items() if item is not None}
        for key in value:
            if key not in self.fields:
                raise self._unknown(key, path)
        for key in self.required:
            if key not in present:
                raise ConfigurationError("expected this key, found nothing", path=child(path, key))
        return self.build(**{key: self.fields[key].read(item, child(path, key)) for key, item in present.items()})

    def _unknown(self, key: Any, path: str) -> ConfigurationError:
        if not isinstance(key, str):
            return wrong(child(path, str(key)), "text as every key", key, hint="quote the key")
        return ConfigurationError("unknown key", path=child(path, key), hint=did_you_mean(key, tuple(self.fields)))
