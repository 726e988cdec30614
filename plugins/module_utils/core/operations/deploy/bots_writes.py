# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the bot itself wrote while it ran: its own matter, unless it is a loss by the rule that holds for backups.

It works off a queue, purges a table, compacts a log, removes old files. New code that ruins data is told from that by
how much is gone: what the profile requires, all tables of a database, most of a component, see ``shrinking``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Optional

from ...application import Application
from ...errors import CheckError, EmptyError, TradekeepError
from ...kinds.sqlite_rows import COUNTED_BYTES
from ...patterns import Classified, code_or_data
from ..kind_of import kind_in
from ..losses import FEW_BYTES, FEW_FILES, watched
from ..shrinking import collapsed, fewer_rows
from ..text import counted, human_bytes
from .data_reader import DataReader
from .proof import Fact, Sample, comes_and_goes

Facts = Mapping[str, Fact]


class BotsWrites:
    """Judges what became of data while the bot ran. root: the application's, which paths begin with."""

    def __init__(self, application: Application, reader: DataReader) -> None:
        self._application = application
        self._reader = reader
        self._root = f"{application.root}/"

    def losses(
        self, written: Collection[str], samples: Mapping[str, Sample], before: Facts, after: Facts
    ) -> Iterator[tuple[str, str]]:
        """What is lost of the data before, as far as it is the application's, each with where that was.

        written: the files that the bot wrote or removed. samples: what is known of them from before.
        """
        for path in sorted(written):
            classified = self._classified(path)
            if classified is None or not classified.component.backup:
                continue
            problem = self._loss_of(path, classified, before[path], after.get(path), samples.get(path))
            if problem is not None:
                yield path, problem
        if written:
            yield from self._fewer(before, after)

    def _loss_of(
        self, path: str, classified: Classified, was: Fact, now: Optional[Fact], sample: Optional[Sample]
    ) -> Optional[str]:
        kind = kind_in(classified, path)
        emptied = was.size > 0 and (now is None or now.size == 0)
        if classified.required and emptied:
            return f"the profile requires it, and it is {'gone' if now is None else 'empty'}"
        if classified.may_shrink:
            return None
        if kind == "sqlite":
            return self._loss_of_rows(path, was, now, sample)
        return (
            f"had {counted(was.size, 'byte')} and has none" if kind == "jsonl" and emptied and now is not None else None
        )

    def _loss_of_rows(self, path: str, was: Fact, now: Optional[Fact], sample: Optional[Sample]) -> Optional[str]:
        if sample is None or sample.rows is None:
            return None
        if now is None:
            return "was there before the deploy and is gone" if any(sample.rows.values()) else None
        try:
            rows = self._reader.rows(path)
        except (CheckError, EmptyError) as error:
            return f"cannot be read any more: {error.message}"
        except TradekeepError:
            return None  # as one that the bot holds for itself
        if was.size > COUNTED_BYTES >= now.size and any(rows.values()):
            return None  # made smaller by a vacuum; numbers of two sorts do not compare
        for item in fewer_rows(self._application, path[len(self._root) :], sample.rows, rows):
            if item.lost and not item.others:
                return f"table {item.table} had {counted(item.before, 'row')} and has {item.now}"
        return None

    def _fewer(self, before: Facts, after: Facts) -> Iterator[tuple[str, str]]:
        """Components that matter and hold far fewer files or bytes."""
        profile = self._application.profile
        had, has = self._held(before), self._held(after)
        for component in watched(self._application):
            name = component.name
            files, left = had[name, "files"], has[name, "files"]
            if collapsed(files, left, profile.maximum_file_loss_percent, FEW_FILES):
                yield f"component {name}", f"held {counted(files, 'file')} and holds {left} now"
                continue
            size, kept = had[name, "bytes"], has[name, "bytes"]
            if collapsed(size, kept, profile.maximum_byte_loss_percent, FEW_BYTES):
                text = f"held {human_bytes(size)} beside databases and logs and holds {human_bytes(kept)} now"
                yield f"component {name}", text

    def _held(self, facts: Facts) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for path, fact in facts.items():
            classified = self._classified(path)
            if classified is not None and not classified.may_shrink and not comes_and_goes(path):
                found[classified.component.name, "files"] += 1
                if kind_in(classified, path) not in ("sqlite", "log"):
                    found[classified.component.name, "bytes"] += fact.size
        return found

    def _classified(self, path: str) -> Optional[Classified]:
        """Outside of the root the profile says nothing."""
        inside = path.startswith(self._root)
        return code_or_data(self._application.profile, path[len(self._root) :]) if inside else None
