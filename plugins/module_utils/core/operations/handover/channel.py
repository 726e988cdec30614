# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The wire of a handover: JSON messages and blocks of bytes over two pipes, each bounded.

Both sides say every few seconds that they live. Who has heard nothing for a while takes the other side for dead: a link
that is cut somewhere on the way closes nothing by itself.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional, Union

from ...errors import TradekeepError
from ...signals import shielded, wait_for

VERSION = 2
LONGEST_MESSAGE = 1 << 20
LONGEST_BLOCK = 1 << 20
SILENCE_SECONDS = 20.0
MOST_MESSAGES = 20_000_000
"""In one answer: more than there are files in any backup."""
_PULSES = 10  # in so much silence
_FRAME = struct.Struct(">cI")
_OFFSET = struct.Struct(">Q")
_JSON, _BYTES = b"J", b"B"
_BUFFERED = 1 << 18
_LONGEST_NUMBER = 40
_ALIVE: dict[str, Any] = {"alive": True}


class LinkLostError(TradekeepError):
    """The other side is gone, or has not been heard of for too long."""


class ProtocolError(TradekeepError):
    """The other side says what nobody who keeps to the protocol would say."""


def error_of(message: dict[str, Any]) -> TradekeepError:
    """What the other side says went wrong, as ours."""
    found = message.get("error")
    found = found if isinstance(found, dict) else {}
    text = {key: str(found[key])[:1000] if found.get(key) else None for key in ("message", "path", "hint")}
    return TradekeepError(f"on the source: {text['message'] or 'failed'}", path=text["path"], hint=text["hint"])


class Block(NamedTuple):
    """Bytes and where they belong."""

    offset: int
    data: bytes


Message = Union[dict[str, Any], Block]


class Channel:
    """One side of the wire. A thread of its own says that this side lives; ``close`` ends it."""

    def __init__(self, reader: int, writer: int, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._reader, self._writer = reader, writer
        self._silence = silence_seconds
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._ended = False
        self._torn = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.sent = 0
        self.received = 0
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        with shielded():  # a thread that takes signals would undo every later shield of the main one
            threading.Thread(target=self._pulse, daemon=True).start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message, at the latest with the next ``flush`` or ``receive``."""
        self._append(_JSON, json.dumps(message, separators=(",", ":")).encode("ascii"))

    def send_block(self, offset: int, data: bytes) -> None:
        """Send bytes."""
        self._append(_BYTES, _OFFSET.pack(offset) + data)

    def flush(self) -> None:
        """Hand everything to the system. Raises LinkLostError."""
        with self._lock:
            self._write_out(listening=True)

    def receive(self) -> Message:
        """The next message. Raises LinkLostError when there is none, ProtocolError for one that cannot be."""
        self.flush()
        while True:
            kind, body = self._frame()
            if kind == _BYTES:
                return Block(_OFFSET.unpack_from(body)[0], bytes(body[_OFFSET.size :]))
            message = _decoded(body)
            if message != _ALIVE:
                return message

    def message(self) -> dict[str, Any]:
        """The next message, which must be no block. Raises as ``receive``, and what the other side failed with."""
        message = self.receive()
        if isinstance(message, Block):
            raise ProtocolError("sent bytes that nobody asked for", path="the other server")
        if "error" in message:
            raise error_of(message)
        return message

    def last_message(self, key: str, each: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """The message that has this key, once each of those before it was handed on."""
        for _number in range(MOST_MESSAGES):
            if key in (message := self.message()):
                return message
            each(message)
        raise ProtocolError(f"has no end: more than {MOST_MESSAGES} messages", path="the other server")

    def close(self) -> None:
        """Say nothing any more; the descriptors belong to whoever gave them."""
        self._closed.set()

    def wait_for_end(self, seconds: float) -> None:
        """Give the other side the time to end by itself."""
        until = time.monotonic() + seconds
        with contextlib.suppress(TradekeepError, OSError, ValueError):
            while not self._ended and time.monotonic() < until:
                if wait_for((self._reader,), seconds=0.2):
                    self._take_in()
                    self._incoming.clear()

    def _append(self, kind: bytes, body: bytes) -> None:
        with self._lock:
            self._outgoing += _FRAME.pack(kind, len(body)) + body
            if len(self._outgoing) >= _BUFFERED:
                self._write_out(listening=True)

    def _write_out(self, *, listening: bool) -> None:
        """The caller has the lock. listening: what comes in meanwhile is kept, and shows that the other side lives."""
        if self._torn:
            raise _lost("is gone")
        heard = time.monotonic()
        view = memoryview(bytes(self._outgoing))
        self._outgoing.clear()
        self.sent += len(view)
        self._torn = True  # until all of it is written, also when a signal comes in between
        while view:
            with contextlib.suppress(BlockingIOError):
                view = view[self._written(view) :]
                continue
            listened = (self._reader,) if listening and not self._ended else ()
            ready = wait_for(listened, (self._writer,), seconds=1.0)
            if self._reader in ready and self._take_in():
                heard = time.monotonic()
            if self._writer not in ready and time.monotonic() - heard > self._silence:
                raise _lost("has not been heard of for too long")
        self._torn = False

    def _written(self, view: memoryview) -> int:
        try:
            return os.write(self._writer, view)
        except BlockingIOError:
            raise
        except OSError as error:
            raise _lost("is gone") from error

    def _take_in(self) -> bool:
        """Whether anything was there."""
        try:
            data = os.read(self._reader, _BUFFERED)
        except BlockingIOError:
            return False
        except OSError as error:
            raise _lost("is gone") from error
        if not data:
            self._ended = True
            return False
        self._incoming += data
        self.received += len(data)
        return True

    def _frame(self) -> tuple[bytes, bytearray]:
        self._require(_FRAME.size)
        kind, length = _FRAME.unpack_from(self._incoming)
        if (
            kind not in (_JSON, _BYTES)
            or length > LONGEST_BLOCK + _OFFSET.size
            or (kind == _BYTES and length < _OFFSET.size)
        ):
            raise ProtocolError("sent what is no message", path="the other server")
        self._require(_FRAME.size + length)
        body = self._incoming[_FRAME.size : _FRAME.size + length]
        del self._incoming[: _FRAME.size + length]
        return kind, body

    def _require(self, size: int) -> None:
        heard = time.monotonic()
        while len(self._incoming) < size:
            if self._ended:
                raise _lost("is gone")
            if wait_for((self._reader,), seconds=1.0) and self._take_in():
                heard = time.monotonic()
            elif time.monotonic() - heard > self._silence:
                raise _lost("has not been heard of for too long")

    def _pulse(self) -> None:
        with contextlib.suppress(TradekeepError, OSError, ValueError):
            while not self._closed.wait(self._silence / _PULSES):
                if self._lock.acquire(blocking=False):  # else something is being sent, which says the same
                    try:
                        self._outgoing += _frame_of(_ALIVE)
                        self._write_out(listening=False)
                    finally:
                        self._lock.release()


def _frame_of(message: Mapping[str, Any]) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return _FRAME.pack(_JSON, len(body)) + body


def _decoded(body: bytearray) -> dict[str, Any]:
    try:
        message = json.loads(bytes(body), parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("sent what is no message", path="the other server") from error
    if not isinstance(message, dict):
        raise ProtocolError("sent what is no message", path="the other server")
    return message


def _whole(text: str) -> int:
    """More digits than any number of ours has cost time, and fit into no other type."""
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number that is too long")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is none")
    return value


def _lost(what: str) -> LinkLostError:
    return LinkLostError(what, path="the other server", hint="see whether it runs and can be reached, then run again")


def text_of(message: Mapping[str, Any], key: str, longest: int = 4096) -> str:
    """A text from a message of a stranger."""
    value = message.get(key)
    if not isinstance(value, str) or len(value) > longest:
        raise ProtocolError(f"sent a message without a proper {key}", path="the other server")
    return value


def name_of(message: Mapping[str, Any], key: str, longest: int = 300) -> str:
    """A text that is shown to people, and written into notes, from a message of a stranger."""
    value = text_of(message, key, longest)
    if not value or not value.isprintable():
        raise ProtocolError(f"sent a message without a proper {key}", path="the other server")
    return value


def number_of(message: Mapping[str, Any], key: str, most: int = 1 << 62) -> int:
    """A number that is not negative, from a message of a stranger."""
    value = message.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ProtocolError(f"sent a message without a proper {key}", path="the other server")
    return value


def table_of(message: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object from a message of a stranger."""
    value: Optional[Any] = message.get(key)
    if not isinstance(value, dict):
        raise ProtocolError(f"sent a message without a proper {key}", path="the other server")
    return value
