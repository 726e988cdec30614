# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What decides about the content of an environment, and what cannot be part of one."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ConfigurationError,
    TradekeepError,
    UnsafePathError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.lock_file import digest_of


def write(base: Path, **files: str) -> None:
    for name, content in files.items():
        path = base / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def lock(base: Path, content: str, *arguments: str) -> str:
    (base / "lock.txt").write_text(content)
    return digest_of(base, "lock.txt", arguments)


def test_the_digest_is_that_of_the_content_and_of_the_arguments(tmp_path: Path) -> None:
    digests = [
        lock(tmp_path, "requests==2.32.0\n"),
        lock(tmp_path, "requests==2.32.1\n"),
        lock(tmp_path, "requests==2.32.1\n", "--no-index"),
        lock(tmp_path, "requests==2.32.1\n", "--no-index", "--pre"),
    ]
    assert len(set(digests)) == 4
    assert lock(tmp_path, "requests==2.32.0\n") == digests[0]


@pytest.mark.parametrize(
    "line",
    [
        "-r sub/base.txt",
        "--requirement=sub/base.txt",
        "-rsub/base.txt",
        "-c ./sub/base.txt # pinned",
        "-c \\\n sub/base.txt",
    ],
)
def test_a_file_that_is_included_counts_and_so_does_what_it_includes(tmp_path: Path, line: str) -> None:
    write(tmp_path, sub__base="", sub__deep="one==1\n")
    (tmp_path / "sub/base.txt").write_text("-r deep\n")
    before = lock(tmp_path, f"{line}\n")
    assert lock(tmp_path, f"{line}\n") == before
    write(tmp_path, sub__deep="one==2\n")
    assert lock(tmp_path, f"{line}\n") != before


def test_a_file_that_an_argument_names_counts(tmp_path: Path) -> None:
    write(tmp_path, pins="one==1\n")
    before = lock(tmp_path, "one\n", "-c", "pins")
    write(tmp_path, pins="one==2\n")
    assert lock(tmp_path, "one\n", "-c", "pins") != before


def test_files_that_include_each_other_end(tmp_path: Path) -> None:
    write(tmp_path, other="-r lock.txt\n")
    assert lock(tmp_path, "-r other\n")


def test_a_wheel_in_the_repository_counts_with_its_content(tmp_path: Path) -> None:
    write(tmp_path, wheels__x="one")
    line = "./wheels/x ; python_version > '3' --hash=sha256:00\n"
    before = lock(tmp_path, line)
    write(tmp_path, wheels__x="two")
    assert lock(tmp_path, line) != before


@pytest.mark.parametrize(
    "line", [".", "-e .", "--editable=./pkg", ".[extra]", "./pkg", "pkg/", "-e git+https://x.example/y"]
)
def test_the_repository_itself_is_refused_as_a_package(tmp_path: Path, line: str) -> None:
    (tmp_path / "pkg").mkdir()
    with pytest.raises(ConfigurationError, match=r"^lock\.txt: .* would install a directory of the repository"):
        lock(tmp_path, f"one==1\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "# -e .",
        "one==1  # see ./pkg",
        "one @ https://x.example/one.whl",
        "https://x.example/one.whl",
        "--find-links ./wheels",
        "one==1 --config-settings a/b",
        "-c https://x.example/pins.txt",
        "-r /etc/bot/requirements.txt",
    ],
)
def test_other_lines_are_pips_alone(tmp_path: Path, line: str) -> None:
    assert lock(tmp_path, f"{line}\n")


def test_what_the_commit_does_not_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(TradekeepError, match=r"^absent\.txt: is not in the commit"):
        digest_of(tmp_path, "absent.txt")
    with pytest.raises(TradekeepError, match=r"^wheels/x\.whl: is not in the commit"):
        lock(tmp_path, "./wheels/x.whl\n")


def test_a_symlink_counts_as_what_it_leads_to_but_not_out_of_the_repository(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source, sub__prod="one==1\n")
    (source / "lock.txt").symlink_to("sub/prod")
    before = digest_of(source, "lock.txt")
    write(source, sub__prod="one==2\n")
    assert digest_of(source, "lock.txt") != before
    write(tmp_path, secret="one==1\n")
    (source / "lock.txt").unlink()
    (source / "lock.txt").symlink_to("../secret")
    with pytest.raises(UnsafePathError, match="leads out of the repository"):
        digest_of(source, "lock.txt")
    (source / "other.txt").write_text("-r ../secret\n")
    with pytest.raises(UnsafePathError, match="leads out of the repository"):
        digest_of(source, "other.txt")
