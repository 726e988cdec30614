# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The words that profiles and configurations are written with: names, paths, accounts, calendars.

Each ``parse_*`` returns the normal form of a text or raises ValueError with the reason; the readers wrap them.
"""

from __future__ import annotations

import re

from .component_paths import WHOLE
from .patterns import check_pattern, is_plain
from .schema import Text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_NUMBER = re.compile(r"#(?:0|[1-9][0-9]{0,9})")
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@:_.*-]{0,250}")
_FINGERPRINT = re.compile(r"(?:0x)?([0-9A-Fa-f]{64}|[0-9A-Fa-f]{40})")
_NO_ACCOUNT = 0xFFFFFFFF
"""(uid_t) -1."""
RESERVED_PREFIX = ".tradekeep"


def parse_name(text: str) -> str:
    """A name that is safe in file and unit names."""
    if not _NAME.fullmatch(text):
        raise ValueError("letters, digits, - and _, at most 63")
    return text


def parse_account(text: str) -> str:
    """The name of a user or group, or ``#1000`` for a number that may have none, such as that of a container."""
    if _NUMBER.fullmatch(text):
        if int(text[1:]) >= _NO_ACCOUNT:
            raise ValueError("no account has such a number")
    elif not _ACCOUNT.fullmatch(text):
        raise ValueError("a name, or '#1000' for a number that has none on this host")
    return text


def parse_unit(text: str) -> str:
    """A systemd unit or supervisor program."""
    if not _UNIT.fullmatch(text):
        raise ValueError("letters, digits and @ : _ . - *")
    return text


def parse_absolute_path(text: str) -> str:
    """An absolute path without . or .., in its normal form."""
    if not text.startswith("/"):
        raise ValueError("it must start with /")
    if not text.isprintable():
        raise ValueError("it has a control character")
    parts = [part for part in text.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise ValueError("it must not contain . or ..")
    return "/" + "/".join(parts)


def parse_relative_path(text: str) -> str:
    """A path relative to the application's root, in its normal form."""
    if text.startswith("/"):
        raise ValueError("it must be relative to the root")
    if not text.isprintable():
        raise ValueError("it has a control character")
    parts = [part for part in text.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise ValueError("it must not contain . or ..")
    if any(part.startswith(RESERVED_PREFIX) for part in parts):
        raise ValueError(f"names that start with {RESERVED_PREFIX} are the engine's own")
    if not is_plain(text):
        raise ValueError("it must be a path and not a pattern")
    if not parts:
        raise ValueError("it names nothing")
    return "/".join(parts)


def parse_component_path(text: str) -> str:
    """A path relative to the root, a pattern of such paths, or ``.`` for the whole of it."""
    if text == WHOLE:
        return text
    if is_plain(text):
        return parse_relative_path(text)
    normal = "/".join(part for part in text.split("/") if part)
    if text.startswith("/"):
        raise ValueError("it must be relative to the root")
    if "**" in normal.split("/"):
        raise ValueError("it is matched part by part: write * for each directory")
    if any(part.startswith(RESERVED_PREFIX) for part in normal.split("/")):
        raise ValueError(f"names that start with {RESERVED_PREFIX} are the engine's own")
    return check_pattern(normal)


def parse_recipient(text: str) -> str:
    """A key file, or a whole fingerprint: shorter key ids can be forged."""
    fingerprint = _FINGERPRINT.fullmatch(text.replace(" ", ""))
    if fingerprint:
        return fingerprint.group(1).upper()
    if text.startswith("/"):
        return parse_absolute_path(text)
    raise ValueError("shorter key ids and addresses can be forged")


_WEEKDAY = r"(?:Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?)"
_WEEKDAYS = rf"{_WEEKDAY}(?:(?:\.\.|-){_WEEKDAY})?(?:,{_WEEKDAY}(?:(?:\.\.|-){_WEEKDAY})?)*"
_ITEM = r"(?:\*|\d+(?:\.\.\d+)?)(?:/\d+)?"
_ITEMS = rf"{_ITEM}(?:,{_ITEM})*"
_DATE = rf"(?:{_ITEMS}-)?{_ITEMS}[-~]{_ITEMS}"
_TIME = rf"(?P<hours>{_ITEMS}):(?P<minutes>{_ITEMS})(?::(?P<seconds>{_ITEMS})(?:\.\d+)?)?"
_ZONE = r"(?:UTC|[A-Z][A-Za-z_]+(?:/[A-Za-z0-9_+-]+)+)"
_WORDS = r"minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly|annually"
_CALENDAR = re.compile(
    rf"(?:(?:{_WORDS})|(?=\S)(?:{_WEEKDAYS})?(?:(?:^|\s+){_DATE})?(?:(?:^|\s+){_TIME})?)(?:\s+{_ZONE})?", re.IGNORECASE
)


def parse_calendar(text: str) -> str:
    """A systemd OnCalendar expression: its grammar and the ranges of the time of day (systemd.time(7))."""
    normal = " ".join(text.split())
    found = _CALENDAR.fullmatch(normal)
    if not found or re.fullmatch(_ZONE, normal):
        raise ValueError("see systemd.time(7), and try it with systemd-analyze calendar")
    for part, limit in (("hours", 24), ("minutes", 60), ("seconds", 60)):
        numbers = re.findall(r"(?<!/)\b\d+", found.group(part) or "")
        if any(int(number) >= limit for number in numbers):
            raise ValueError(f"{part} end before {limit}")
    return normal


NAME = Text("a name", parse_name)
ACCOUNT = Text("the name of an account", parse_account)
UNIT = Text("the name of a unit or program", parse_unit)
ABSOLUTE_PATH = Text("an absolute path", parse_absolute_path)
SECRET_FILE = Text("the absolute path of a file", parse_absolute_path, show=False)
COMPONENT_PATH = Text("a path inside the root, or a pattern of such paths", parse_component_path)
RELATIVE_PATH = Text("a path inside the root", parse_relative_path)
PATTERN = Text("a pattern", check_pattern)
CALENDAR = Text("an OnCalendar expression", parse_calendar)
RECIPIENT = Text("a key file's absolute path or a whole fingerprint of 40 or 64 hexadecimal digits", parse_recipient)
