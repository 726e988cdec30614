# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a file of requirements depends on, so that its digest changes whenever what pip would install does.

See pip's "Requirements File Format": files include others, and a requirement may be a file of the repository.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import ConfigurationError, TradekeepError, UnsafePathError
from ...host.files import open_file_beneath, os_errors
from ...signals import answer

_LARGEST_BYTES = 8 * 1024 * 1024
_CHUNK = 1 << 20
_OPTION = re.compile(
    r"(?P<name>-r|--requirement|-c|--constraint|-e|--editable)(?:\s*=\s*|\s+|(?<=-[rce]))(?P<value>.+)"
)
_INCLUDING = ("-r", "--requirement", "-c", "--constraint", "-e", "--editable")
_EDITABLE = ("-e", "--editable")
_COMMENT = re.compile(r"(^|\s+)#.*$")
# What follows the name of a file: extras, a marker, options such as --hash.
_AFTER_PATH = re.compile(r"(\[[^\]]*\])?(\s+;.*|\s+--.*|;.*)?$")


def digest_of(source: Path, lock_file: str, arguments: Sequence[str] = ()) -> str:
    """One digest of the lock file in a directory, of all it includes, and of pip's arguments.

    Raises ConfigurationError for what cannot be built beside the code: the repository itself as a package.
    """
    reading = _Reading(source)
    reading.requirements(lock_file)
    reading.arguments(arguments)
    return reading.digest.hexdigest()


class _Reading:
    def __init__(self, source: Path) -> None:
        self._source = Path(os.path.realpath(source))
        self._seen: set[str] = set()
        self.digest = hashlib.sha256()

    def requirements(self, path: str) -> None:
        """A file of requirements or constraints, and what it refers to."""
        if path in self._seen:
            return
        self._seen.add(path)
        content = self._content(path)
        self._count(path, hashlib.sha256(content).digest())
        directory = path.rpartition("/")[0]
        for line in _logical_lines(content.decode("utf-8", "replace")):
            self._line(line, directory, path)

    def arguments(self, arguments: Sequence[str]) -> None:
        """pip's own arguments, which may name such files too, relative to the source."""
        for word, following in zip(arguments, [*arguments[1:], ""]):
            self._count("argument", word.encode("utf-8", "surrogateescape"))
            option = _OPTION.fullmatch(f"{word} {following}" if word in _INCLUDING else word)
            if option is not None:
                self._included(option["name"], option["value"], "", "deploy.dependencies.arguments")

    def _line(self, line: str, directory: str, path: str) -> None:
        option = _OPTION.fullmatch(line)
        if option is not None:
            self._included(option["name"], option["value"], directory, path)
            return
        word = _AFTER_PATH.sub("", line)
        if not word.startswith("-") and "://" not in word and " @" not in word and (word[:1] == "." or "/" in word):
            self._local(word, path)

    def _included(self, name: str, value: str, directory: str, where: str) -> None:
        value = value.strip().strip("\"'")
        if name in _EDITABLE:
            raise _itself(value, where)
        # What lies outside of the repository counts by its name, which the line that names it already does.
        if "://" not in value and not value.startswith("/"):
            self.requirements(os.path.normpath(os.path.join(directory, value)))

    def _local(self, word: str, where: str) -> None:
        """A package that lies in the repository: an archive counts with its content."""
        if word.startswith("/"):
            return
        path = os.path.normpath(word)
        if path == "." or os.path.isdir(self._source / path):
            raise _itself(word, where)
        file_digest = hashlib.sha256()
        for chunk in self._chunks(path):
            file_digest.update(chunk)
        self._count(path, file_digest.digest())

    def _content(self, path: str) -> bytes:
        content = bytearray()
        for chunk in self._chunks(path):
            content += chunk
            if len(content) > _LARGEST_BYTES:
                raise TradekeepError("is too large for a file of requirements", path=path)
        return bytes(content)

    def _chunks(self, path: str) -> Iterator[bytes]:
        # A symlink inside of the repository is as good as the file; one that leads out of it is not.
        real = os.path.relpath(os.path.realpath(self._source / path), self._source)
        if real.startswith(".."):
            raise UnsafePathError("leads out of the repository", path=path)
        try:
            descriptor = open_file_beneath(self._source, real)
        except FileNotFoundError:
            raise TradekeepError(
                "is not in the commit", path=path, hint="add it, or correct deploy.dependencies"
            ) from None
        with os_errors(path), open(descriptor, "rb") as file:
            while chunk := file.read(_CHUNK):
                answer()
                yield chunk

    def _count(self, name: str, value: bytes) -> None:
        for part in (name.encode("utf-8", "surrogateescape"), value):
            self.digest.update(len(part).to_bytes(8, "big") + part)


def _logical_lines(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        stripped = _COMMENT.sub("", line).strip()
        if stripped:
            yield stripped


def _itself(value: str, where: str) -> ConfigurationError:
    return ConfigurationError(
        f"{value} would install a directory of the repository, whose place changes with each deploy",
        path=where,
        hint="list only other packages; the code runs from the checkout (PYTHONPATH in the unit makes it importable)",
    )
