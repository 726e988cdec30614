# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Glob patterns over paths inside an application, and which component and rule a path belongs to."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional

from .application import NEW_DIRECTORY_MODE, NEW_FILE_MODE, Component, FileRule, Looked, Profile
from .component_paths import LEFT_OUT, LEFT_OUT_OF_WHOLE, WHOLE, fixed_part, is_named, is_open

_WILD = frozenset("*?[")
_REFUSED = {"\\": "a backslash does not escape here, write [*]", "{": "braces are not alternatives, write two patterns"}


def is_plain(pattern: str) -> bool:
    """Whether a pattern has no wildcard."""
    return not any(character in _WILD for character in pattern)


def check_pattern(pattern: str) -> str:
    """The pattern itself; raises ValueError with the reason when it is not one."""
    for character, reason in _REFUSED.items():
        if character in pattern:
            raise ValueError(reason)
    if not pattern.isprintable():
        raise ValueError("it has a control character")
    for segment in pattern.split("/"):
        if segment in ("", ".", ".."):
            raise ValueError("it must be relative to the root, without empty parts, . or ..")
        if "**" in segment and segment != "**":
            raise ValueError("** stands for whole directories, alone between slashes")
    _compile(pattern)
    return pattern


def matches(pattern: str, relative_path: str) -> bool:
    """Whether a pattern matches a path relative to the root (see application.FileRule)."""
    subject = relative_path if "/" in pattern else relative_path.rpartition("/")[2]
    return _compile(pattern).fullmatch(subject) is not None


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(_translate(pattern), re.DOTALL)
    except re.error as reason:
        raise ValueError(f"bad brackets ({reason})") from None


def _translate(pattern: str) -> str:
    """The regular expression of a pattern; ``**/`` is any number of directories, a final ``**`` everything beneath."""
    segments = pattern.split("/")
    parts: list[str] = []
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            parts.append(".+" if last else "(?:[^/]+/)*")
        else:
            parts.append("".join(_translate_segment(segment)) + ("" if last else "/"))
    return "".join(parts)


def _translate_segment(segment: str) -> Iterator[str]:
    position = 0
    while position < len(segment):
        character = segment[position]
        position += 1
        if character == "*":
            yield "[^/]*"
        elif character == "?":
            yield "[^/]"
        elif character == "[":
            end = segment.find("]", position + (2 if segment[position : position + 1] == "!" else 1))
            if end < 0:
                raise ValueError("a [ without its ]")
            yield _translate_set(segment[position:end])
            position = end + 1
        else:
            yield re.escape(character)


def _translate_set(content: str) -> str:
    negated = content.startswith("!")
    members = "".join(c if c == "-" else re.escape(c) for c in content[1 if negated else 0 :])
    return f"[^/{members}]" if negated else f"[{members}]"


@dataclass(frozen=True)
class Classified:
    """What the profile says of one path. owner/group None: the application's. kind None: by the file's name.

    mode: what a new one gets. stated: whether the profile states it, so that what is there gets it too; of a secret
    the default counts as stated.
    """

    component: Component
    rule: Optional[FileRule]
    kind: Optional[str]
    mode: int
    owner: Optional[str]
    group: Optional[str]
    secret: bool
    required: bool
    stated: bool = True
    may_shrink: bool = False


@dataclass(frozen=True)
class TreeDirectory:
    """A directory that must exist; component None: the root, or a parent that no component owns.

    mode and stated: as for Classified.
    """

    path: str
    mode: int
    owner: Optional[str]
    group: Optional[str]
    component: Optional[Component]
    stated: bool = True


class _Patterns:
    """Several patterns at once: one expression for names, one for paths."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        self._names = _join(tuple(p for p in self._patterns if "/" not in p))
        self._paths = _join(tuple(p for p in self._patterns if "/" in p))

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def within(self, directory: str) -> _Patterns:
        """What is left of them for the files of one directory: mostly patterns of names."""
        return _Patterns(_within(self._patterns, directory)) if self._paths else self

    def match(self, path: str, name: str) -> bool:
        if self._names is not None and self._names.fullmatch(name):
            return True
        return self._paths is not None and self._paths.fullmatch(path) is not None


@lru_cache(maxsize=1024)
def _join(patterns: tuple[str, ...]) -> Optional[re.Pattern[str]]:
    joined = "|".join(f"(?:{_translate(pattern)})" for pattern in patterns)
    return re.compile(joined, re.DOTALL) if joined else None


def _within(patterns: tuple[str, ...], directory: str) -> Iterator[str]:
    for pattern in patterns:
        above, slash, name = pattern.rpartition("/")
        if not slash or "**" in pattern:
            yield pattern
        elif _compile(above).fullmatch(directory):
            yield name


_NAMES_LEFT_OUT = _Patterns(LEFT_OUT_OF_WHOLE)


class _Scope:
    """A component made ready for many look-ups. more: patterns of what it leaves out besides its own; and paths."""

    def __init__(self, component: Component, more: tuple[str, ...] = (), paths: frozenset[str] = frozenset()) -> None:
        self.left_out = paths
        self.excluded = _Patterns(component.exclude + more)
        self.rules = tuple((_Patterns((rule.pattern,)), _of_rule(component, rule)) for rule in component.files)
        self.plain = _of_rule(component, None)
        mode = component.directory_mode
        self.directory = Classified(
            component=component,
            rule=None,
            kind=None,
            mode=NEW_DIRECTORY_MODE if mode is None else mode,
            owner=component.owner,
            group=component.group,
            secret=component.secret,
            required=False,
            stated=component.secret or mode is not None,
        )

    def files(self, directory: str) -> _Files:
        rules = ((patterns.within(directory), classified) for patterns, classified in self.rules)
        chosen = tuple(rule for rule in rules if rule[0])
        return _Files(self.excluded.within(directory), chosen, self.plain, self.left_out)


class _Files:
    """What a component says of the files of one directory."""

    def __init__(
        self,
        excluded: _Patterns,
        rules: tuple[tuple[_Patterns, Classified], ...],
        plain: Classified,
        left_out: frozenset[str],
    ) -> None:
        self._excluded = excluded
        self._left_out = left_out
        self._rules = rules
        self._plain = plain

    def file(self, path: str, name: str) -> Optional[Classified]:
        if path in self._left_out or self._excluded.match(path, name):
            return None
        for patterns, classified in self._rules:
            if patterns.match(path, name):
                return classified
        return self._plain


def _of_rule(component: Component, rule: Optional[FileRule]) -> Classified:
    chosen = rule or FileRule(pattern="")
    mode = component.file_mode if chosen.mode is None else chosen.mode
    secret = component.secret if chosen.secret is None else chosen.secret
    return Classified(
        component=component,
        rule=rule,
        kind=chosen.kind,
        mode=NEW_FILE_MODE if mode is None else mode,
        owner=chosen.owner or component.owner,
        group=chosen.group or component.group,
        secret=secret,
        required=chosen.required,
        stated=secret or mode is not None,
        may_shrink=chosen.may_shrink or component.may_shrink,
    )


class Classifier:
    """Answers for many paths of one profile; what holds for a directory is found once.

    Where a component names the whole root, what is code there is looked up on the disk; looking: False takes only what
    is known beforehand for no data, so that code counts as data.
    """

    def __init__(self, profile: Profile, *, looking: bool = True) -> None:
        scopes = [(path, component) for component in profile.components for path in component.paths]
        self._listed = {path: _Scope(component) for path, component in scopes if not is_open(path)}
        # Where several match, the component that comes first by its name has it.
        self._open = [(p, _Scope(component, LEFT_OUT)) for p, component in scopes if is_open(p) and p != WHOLE]
        self._deepest = max((path.count("/") for path, _scope in self._open), default=-1)
        # What nothing else names, a path or a pattern, the component with the whole root has.
        self._whole, self._code = _of_whole(profile, scopes, looking)
        self._directories: dict[str, Optional[_Scope]] = {"": self._whole}
        self._latest: tuple[str, Optional[_Files]] = ("", self._whole.files("") if self._whole else None)

    def file(self, path: str) -> Optional[Classified]:
        """The class of a file (or symlink); None when no component has it or it is excluded."""
        directory, _slash, name = path.rpartition("/")
        named = self._named(path) if self._open else self._listed.get(path)
        if named is not None:
            return named.files(directory).file(path, name)
        if directory != self._latest[0]:
            scope = self._scope(directory)
            self._latest = directory, None if scope is None else scope.files(directory)
        files = self._latest[1]
        return None if files is None else files.file(path, name)

    def directory(self, path: str) -> Optional[Classified]:
        """The class of a directory; None when no component has it or it is excluded."""
        return None if self.leads_on(path) else self.holding(path)

    def holding(self, path: str) -> Optional[Classified]:
        """The same, where a directory that is code's counts as part of the component that has what lies in it."""
        scope = self._scope(path)
        return None if scope is None else scope.directory

    def leads_on(self, path: str) -> bool:
        """Whether a directory is code's, so that no component has it, and data can lie in it all the same."""
        if self._whole is None or self._scope(path) is not self._whole:
            return False
        # The directories above a name are not made up beforehand: one from the bot's index may have thousands.
        beneath = f"{path}/"
        place = bisect_left(self._code, beneath)
        return not path or (place < len(self._code) and self._code[place].startswith(beneath))

    def keeps_out(self, path: str) -> bool:
        """Whether a file would belong to the component with the whole root, were it not code, a cache or ours."""
        if self._whole is None or self.file(path) is not None:
            return False
        names = path.split("/")
        levels = {"/".join(names[:count]) for count in range(1, len(names) + 1)}
        return not levels.isdisjoint(self._whole.left_out) or any(map(_NAMES_LEFT_OUT.match, names, names))

    def _named(self, path: str) -> Optional[_Scope]:
        """What the profile names exactly: a path before a pattern."""
        if path in self._listed:
            return self._listed[path]
        if path.count("/") > self._deepest:
            return None
        return next((scope for pattern, scope in self._open if is_named(pattern, path)), None)

    def _scope(self, directory: str) -> Optional[_Scope]:
        try:
            return self._directories[directory]
        except KeyError:
            parent, _slash, name = directory.rpartition("/")
            scope = self._named(directory) or self._scope(parent)
            if scope is not None and (directory in scope.left_out or scope.excluded.match(directory, name)):
                scope = None
            self._directories[directory] = scope
            return scope


def _of_whole(
    profile: Profile, scopes: Iterable[tuple[str, Component]], looking: bool
) -> tuple[Optional[_Scope], list[str]]:
    """The component with the whole root, if there is one, without what is no data; and what is code, sorted.

    A file that a rule of the component asks for by name is no code.
    """
    component = next((component for path, component in scopes if path == WHOLE), None)
    if component is None:
        return None, []
    if profile.not_data is None:
        raise ValueError("what is no data can be said of an application alone")
    looked = profile.not_data.look() if looking else Looked()
    asked_for = {rule.pattern for rule in component.files if rule.required or rule.template is not None}
    code = looked.tracked - asked_for
    paths = profile.not_data.ours | looked.directories | code
    return _Scope(component, LEFT_OUT_OF_WHOLE, paths), sorted(code)


_latest: dict[bool, tuple[Profile, Classifier]] = {}


def classifier(profile: Profile, *, looking: bool = True) -> Classifier:
    """The classifier of a profile; the latest one is kept, as operations ask about one profile many times."""
    if looking not in _latest or _latest[looking][0] is not profile:
        _latest[looking] = profile, Classifier(profile, looking=looking)
    return _latest[looking][1]


def look_up(profile: Profile) -> None:
    """Find out now what is no data, before work begins in a process that has fewer rights."""
    if profile.not_data is not None:
        profile.not_data.look()


def classify(profile: Profile, relative_path: str) -> Optional[Classified]:
    """What the profile says of a file; None when no component has it or it is excluded."""
    return classifier(profile).file(relative_path)


def code_or_data(profile: Profile, relative_path: str) -> Optional[Classified]:
    """The same, whatever is code here now: for what was data when it was written into an archive."""
    return classifier(profile, looking=False).file(relative_path)


def classify_directory(profile: Profile, relative_path: str) -> Optional[Classified]:
    """What the profile says of a directory; None when no component has it or it is excluded."""
    return classifier(profile).directory(relative_path)


def tree_directories(profile: Profile) -> tuple[TreeDirectory, ...]:
    """Every directory that must exist, parents first, the root as ``""``; parents that are not listed are included."""
    lookup = classifier(profile)
    wanted = {""}
    for component in profile.components:
        for path in component.directories + tuple(fixed_part(p) for p in component.paths):
            parts = path.split("/")
            wanted.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
    found: list[TreeDirectory] = []
    for path in sorted(wanted):
        known = lookup.directory(path)
        if known is None:
            stated = profile.root_mode is not None
            found.append(TreeDirectory(path, root_mode(profile), None, None, None, stated))
        else:
            found.append(TreeDirectory(path, known.mode, known.owner, known.group, known.component, known.stated))
    return tuple(found)


def root_mode(profile: Profile) -> int:
    """What the root, and directories between it and a component, are made with."""
    return NEW_DIRECTORY_MODE if profile.root_mode is None else profile.root_mode


def expected_files(profile: Profile) -> tuple[tuple[Component, FileRule], ...]:
    """The rules whose plain path is expected to exist (``required``)."""
    return tuple((c, rule) for c in profile.components for rule in c.files if rule.required)


def templates(profile: Profile) -> tuple[tuple[Component, FileRule], ...]:
    """The rules that bring a first document for their plain path."""
    return tuple((c, rule) for c in profile.components for rule in c.files if rule.template is not None)
