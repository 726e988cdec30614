# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The data around one exchange, looked at without having the services wait for it.

All of it is looked at before they are stopped and after they were started. In between the kernel tells what was
touched, and only that is looked at; where it cannot tell, everything is, and a note says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import Callable, Optional

from ...errors import TradekeepError
from ...kinds.sqlite import SIDECAR_SUFFIXES
from .bots_writes import BotsWrites
from .following import Followed
from .proof import Fact, Proof, Witness

# While the bot runs, what was missed can be looked at again.
_TRIES = 3


def _rests() -> bool:
    """Of a bot that was stopped."""
    return False


def _differing(before: Mapping[str, Fact], after: Mapping[str, Fact]) -> set[str]:
    """The files of which the facts are not the same."""
    return {path for path in {*before, *after} if before.get(path) != after.get(path)}


class Watched:
    """What was there before one exchange, and the proofs after it. Made while the bot runs.

    note: told why the data had to be looked at file by file between stop and start.

    What the bot does until it is at rest is its own: what has to be read is read anew then, of the few files that it
    has touched since. Until it starts again whatever becomes less is damage, as nobody should write; what it does after
    that is its own again, as far as it is no loss (see ``bots_writes``).
    """

    def __init__(self, witness: Witness, writes: BotsWrites, note: Callable[[str], None]) -> None:
        self._witness = witness
        self._writes = writes
        self._note = note
        self._handed_over: Optional[int] = None
        self._followed = self._follow()
        self._facts: dict[str, Fact] = witness.facts() if self._followed is None else self._followed.facts
        if self._followed is not None:
            self._followed.changed.clear()
        self._stale: set[str] = set()
        self._samples = witness.samples(dict(self._facts), self._hear)
        self._catch_up()

    def before(self) -> None:
        """With the services at rest, before anything is exchanged: what they wrote until they ended is theirs."""
        if self._followed is not None:
            try:
                self._followed.catch_up()
            except TradekeepError as error:
                self._lose(error)
        self._read_anew()

    def after(self, bot_runs: Callable[[], bool] = _rests) -> Proof:
        """The proof as of now, before the services start.

        bot_runs: asked where something is less than it was: whether that is the bot's own doing, as nothing has
            stopped it.
        """
        proof = self._strict()
        if proof.damaged and bot_runs():
            return self.later()
        self._handed_over = None if self._followed is None else time.time_ns()
        return proof

    def later(self) -> Proof:
        """The proof as of now, while the bot runs, from a look at everything."""
        after = self._witness.facts()
        proof = self._witness.compare(self._facts, after, self._samples, lambda path: self._is_bots(path, after))
        changed = {path: fact for path, fact in after.items() if self._facts.get(path) != fact}
        for path, problem in self._writes.losses(proof.by_bot, self._samples, self._facts, after):
            was, sample = self._facts.get(path), self._samples.get(path)
            if was is None or not self._witness.is_elsewhere(path, was, sample, changed):
                proof.damaged.append(f"{path}: {problem}")
        return proof

    def _strict(self) -> Proof:
        if self._followed is not None:
            try:
                proof = self._proof_of(self._followed)
            except TradekeepError as error:
                self._lose(error)
            else:
                if not proof.damaged:
                    return proof
        return self._witness.compare(self._facts, self._witness.facts(), self._samples)

    def _is_bots(self, path: str, after: Mapping[str, Fact]) -> bool:
        """Whether it was done since the services were started. What is gone before that, the kernel has told of.

        Files are dated by a clock that is some milliseconds behind, which is less than the start of a service takes.
        """
        times = (after[name] for name in (path, *(path + suffix for suffix in SIDECAR_SUFFIXES)) if name in after)
        latest = max((max(fact.mtime_ns, fact.ctime_ns) for fact in times), default=None)
        return self._handed_over is None or path not in after or latest is None or latest > self._handed_over

    def _read_anew(self) -> None:
        """Bring the facts up to now, and what was read of the files that are other ones since."""
        if self._followed is None:
            old, self._facts = self._facts, self._witness.facts()
            self._stale |= _differing(old, self._facts)
        else:
            self._facts = self._followed.facts
            self._stale |= self._followed.changed
            self._followed.changed.clear()
        changed, self._stale = self._stale, set()
        changed |= {path[: -len(suffix)] for path in changed for suffix in SIDECAR_SUFFIXES if path.endswith(suffix)}
        for path in changed:
            self._samples.pop(path, None)
        wanted = {path: self._facts[path] for path in sorted(changed) if path in self._facts}
        self._samples.update(self._witness.samples(wanted, self._hear))

    def close(self) -> None:
        """Follow the data no longer."""
        if self._followed is not None:
            self._followed.close()
            self._stale |= self._followed.changed
            self._followed = None

    def _proof_of(self, followed: Followed) -> Proof:
        """The proof by what was touched: it is judged as if there were nothing else, and the rest is untouched."""
        looked_at = set(followed.touched())
        # The rows of a database can be in its WAL.
        databases = {path[: -len(suffix)] for path in looked_at for suffix in SIDECAR_SUFFIXES if path.endswith(suffix)}
        looked_at |= {path + suffix for path in looked_at | databases for suffix in ("", *SIDECAR_SUFFIXES)}
        facts = ((path, self._witness.fact(path)) for path in looked_at)
        before = {path: self._facts[path] for path in looked_at if path in self._facts}
        after = {path: fact for path, fact in facts if fact is not None}
        proof = self._witness.compare(before, after, self._samples)
        rest = followed.files.copy()
        for name, counts in proof.components.items():
            rest[name] -= counts["files"]
        for name, count in rest.items():
            counts = proof.components.setdefault(name, {"files": 0, "untouched": 0, "written": 0})
            counts["files"] += count
            counts["untouched"] += count
        named = sorted(proof.components.items())
        return dataclasses.replace(proof, components={name: counts for name, counts in named if counts["files"]})

    def _catch_up(self) -> None:
        """What the bot did meanwhile is looked at now rather than while it is stopped."""
        if self._followed is None:
            return
        try:
            self._followed.catch_up()
        except TradekeepError:
            self.close()
            self._followed = self._follow()
            if self._followed is not None:
                self._followed.changed = _differing(self._facts, self._followed.facts)
        self._read_anew()

    def _hear(self, _path: str) -> None:
        """To read a database takes time in which the bot goes on."""
        if self._followed is not None:
            with contextlib.suppress(TradekeepError):  # who catches up is told once more
                self._followed.hear()

    def _follow(self) -> Optional[Followed]:
        for attempt in range(_TRIES):
            try:
                return Followed(self._witness)
            except TradekeepError as error:
                if attempt == _TRIES - 1:
                    self._tell(error)
        return None

    def _lose(self, reason: TradekeepError) -> None:
        self.close()
        self._tell(reason)

    def _tell(self, reason: TradekeepError) -> None:
        self._note(f"all data was looked at file by file between stop and start: {reason}")
