# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The lines that a repository's ``.gitignore`` needs so that data is never committed, and the block that has them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from ...application import Application, Component
from ...errors import TradekeepError
from ...kinds import default_kind
from ...kinds.sqlite import SIDECAR_SUFFIXES
from ...patterns import matches
from ...vocabulary import RESERVED_PREFIX
from ..kind_of import SQLITE, kind_of
from .preserved import component_paths, component_patterns

BEGIN = "# tradekeep: data of the running bot (managed block)"
END = "# tradekeep: end of the managed block"
# Not data of one profile: secrets that no repository should have, and what deploys keep beside the code.
_ALWAYS = (".env", f"{RESERVED_PREFIX}*")
_ANY = "any"


@dataclass(frozen=True)
class IgnoreLine:
    """One line, and paths that git ignores when it is there. Without samples, only the line itself shows that it is."""

    line: str
    samples: tuple[str, ...] = ()

    @property
    def takes_back(self) -> bool:
        """Whether it says what is not ignored."""
        return self.line.startswith("!")


def ignore_lines(application: Application) -> tuple[IgnoreLine, ...]:
    """What the profile's preserved paths need: its components, its patterns, the sidecars of databases."""
    return tuple({item.line: item for item in _lines(application)}.values())


def missing_lines(wanted: Iterable[IgnoreLine], text: str, ignored: Collection[str]) -> list[str]:
    """The lines that are not there and whose effect is not there either. ignored: samples that git ignores already."""
    present = {line.strip() for line in text.splitlines()}
    missing: list[str] = []
    for item in wanted:
        if item.line in present:
            continue
        # What a line takes back matters only after lines that are missing too.
        if item.takes_back:
            if missing:
                missing.append(item.line)
        elif not item.samples or not all(sample in ignored for sample in item.samples):
            missing.append(item.line)
    return missing


def without_block(text: str) -> str:
    """What is there besides the managed block. Raises TradekeepError where the block has no end."""
    before, _block, after = _split(text)
    return before + after


def with_block(text: str, lines: Iterable[str]) -> str:
    """The same with these lines in the managed block, where it is now or at the end; without lines, without a block."""
    before, block, after = _split(text)
    inside = [f"{line}\n" for line in lines]
    if not inside:
        return before + after if block else text
    if before and not before.endswith("\n"):
        before += "\n"
    return "".join((before, f"{BEGIN}\n", *inside, f"{END}\n", after))


def block_lines(text: str) -> list[str]:
    """The lines of the managed block."""
    return _split(text)[1].splitlines()[1:-1]


def _split(text: str) -> tuple[str, str, str]:
    lines = text.splitlines(keepends=True)
    stripped = [line.strip() for line in lines]
    if BEGIN not in stripped:
        return text, "", ""
    begin = stripped.index(BEGIN)
    if END not in stripped[begin:]:
        raise TradekeepError(
            "the managed block has no end", path=".gitignore", hint=f"remove the line {BEGIN!r} and run again"
        )
    end = stripped.index(END, begin) + 1
    return "".join(lines[:begin]), "".join(lines[begin:end]), "".join(lines[end:])


def _lines(application: Application) -> Iterator[IgnoreLine]:
    components = {component.name: component for component in application.profile.components}
    for path, name in component_paths(application):
        yield from _of_component(application, path, components[name])
    for pattern in component_patterns(application):
        yield from _of_component_pattern(application, pattern)
    deploy = application.profile.deploy
    for pattern in deploy.preserve:
        yield from _of_pattern(application, pattern)
    for name in _ALWAYS:
        yield from _of_pattern(application, name)
    if deploy.dependencies is not None:
        # A link that each deploy exchanges.
        yield IgnoreLine(f"/{_escaped(deploy.dependencies.environment)}", (deploy.dependencies.environment,))


def _of_component(application: Application, path: str, component: Component) -> Iterator[IgnoreLine]:
    """Without a slash at the end, so that it also holds where the directory is a symlink to another disk."""
    directory = _is_directory(path, component)
    yield IgnoreLine(f"/{_escaped(path)}", (f"{path}/{_ANY}" if directory else path,))
    if not directory:
        suffixes = _beside(application, path)
        yield from (IgnoreLine(f"/{_escaped(path)}{suffix}", (f"{path}{suffix}",)) for suffix in suffixes)


def _beside(application: Application, path: str) -> tuple[str, ...]:
    """What may come to lie beside a file: also of one that is named like a database and is taken as bytes."""
    place, root = application.checkout / path, application.root
    inside = place.relative_to(root).as_posix() if root in place.parents else path
    kinds = kind_of(application.profile, inside), default_kind(path)
    return SIDECAR_SUFFIXES if SQLITE in kinds else ()


def _of_component_pattern(application: Application, pattern: str) -> Iterator[IgnoreLine]:
    """It begins at the checkout, as a path does; git matches it part by part too."""
    sample = _sample(pattern)
    suffixes = ("", *_beside(application, sample))
    yield from (IgnoreLine(f"/{pattern}{suffix}", (f"{sample}{suffix}",)) for suffix in suffixes)


def _is_directory(path: str, component: Component) -> bool:
    """Paths here begin at the checkout, those of the component at the root of the data."""
    if any(path.endswith(f"/{item}") or path == item for item in component.directories):
        return True
    return "." not in path.rpartition("/")[2]


def _of_pattern(application: Application, pattern: str) -> Iterator[IgnoreLine]:
    if pattern.startswith("!"):
        yield IgnoreLine(f"!{_anchored(pattern[1:])}")
        return
    sample = _sample(pattern)
    suffixes = ("", *_beside(application, sample))
    for suffix in suffixes:
        found = f"{sample}{suffix}"
        samples = (found,) if "/" in pattern else (found, f"{_ANY}/{found}")
        usable = all(matches(f"{pattern}{suffix}", path) for path in samples)
        yield IgnoreLine(f"{_anchored(pattern)}{suffix}", samples if usable else ())


def _anchored(pattern: str) -> str:
    """Ours as git's: both take a pattern without a slash as a name anywhere, and one with a slash from the top."""
    guarded = re.sub(r"^([#!])", r"\\\1", re.sub(r" $", r"\\ ", pattern))
    return f"/{guarded}" if "/" in pattern and not pattern.startswith("**/") else guarded


def _escaped(path: str) -> str:
    """A path, which has no wildcards, as a pattern: git drops a space at the end."""
    return re.sub(r" $", r"\\ ", path.replace("\\", "\\\\"))


def _sample(pattern: str) -> str:
    """A path that a pattern matches."""
    plain = re.sub(r"\[!?([^]])[^]]*\]", r"\1", pattern)
    return plain.replace("**", _ANY).replace("*", _ANY).replace("?", "a")
