# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Text in any of Unicode's encodings, as editors and programs on other systems write it, with or without a mark.

Nothing is imported to decode it: a worker's account may not read the place where Python's codecs lie.
"""

from __future__ import annotations

import codecs
import json
from typing import Callable, NamedTuple

_Decode = Callable[[bytes, str, bool], "tuple[str, int]"]


class Form(NamedTuple):
    """An encoding. mark: the bytes that it begins with, which are none of the text."""

    name: str
    mark: bytes
    decode: _Decode


# The mark of UTF-32 begins with that of UTF-16.
_MARKED = (
    Form("utf-8-sig", codecs.BOM_UTF8, codecs.utf_8_decode),
    Form("utf-32", codecs.BOM_UTF32_LE, codecs.utf_32_le_decode),
    Form("utf-32", codecs.BOM_UTF32_BE, codecs.utf_32_be_decode),
    Form("utf-16", codecs.BOM_UTF16_LE, codecs.utf_16_le_decode),
    Form("utf-16", codecs.BOM_UTF16_BE, codecs.utf_16_be_decode),
)
_UNMARKED = {
    "utf-16-le": codecs.utf_16_le_decode,
    "utf-16-be": codecs.utf_16_be_decode,
    "utf-32-le": codecs.utf_32_le_decode,
    "utf-32-be": codecs.utf_32_be_decode,
}
UTF_8 = Form("utf-8", b"", codecs.utf_8_decode)


def marked_form(start: bytes) -> Form:
    """The encoding that a mark at the beginning names; UTF-8 where there is none."""
    return next((form for form in _MARKED if start.startswith(form.mark)), UTF_8)


def json_form(start: bytes) -> Form:
    """The encoding of JSON, of which the first four bytes show it without a mark, too."""
    form = marked_form(start)
    name = "" if form.mark else json.detect_encoding(start[:4])
    return Form(name, b"", _UNMARKED[name]) if name in _UNMARKED else form


def decoded(content: bytes, form: Form, errors: str = "strict") -> str:
    """All of the text, without the mark. Raises UnicodeDecodeError."""
    return form.decode(content[len(form.mark) :], errors, True)[0]


class Utf8:
    """A text's bytes as those that UTF-8 has for it, chunk by chunk. Raises UnicodeDecodeError."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._skip = len(form.mark)
        self._rest = b""

    def feed(self, chunk: bytes, *, final: bool = False) -> bytes:
        """What the next bytes come to; of a character that they end within, the rest comes with the next."""
        data = self._rest + chunk[self._skip :]
        self._skip = max(0, self._skip - len(chunk))
        text, used = self._form.decode(data, "surrogatepass", final)
        self._rest = data[used:]
        return text.encode("utf-8", "surrogatepass")
