# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Key files that are judged on the controller; tests/plays/test_keys.py has a whole play refuse them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.tradekeep.ops.plugins.lookup.key_problems import LookupModule

SECRET = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlFgE\n-----END PGP PRIVATE KEY BLOCK-----\n"


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (SECRET, "public_key", "holds a secret key"),
        ("no key\n", "public_key", "holds no OpenPGP public key"),
        ("", "public_key", "holds no OpenPGP public key"),
        (None, "public_key", "there is no such file on the controller"),
        ("\nsecond line\n", "passphrase", "holds no passphrase in its first line"),
        ("correct horse\n", "passphrase", ""),
    ],
)
def test_a_file_that_must_not_be_installed_is_named(content: str, kind: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "file.asc"
    if content is not None:
        file.write_text(content)
    lookup = LookupModule(loader=DataLoader())
    found = lookup.run([str(file), ""], {}, kind=kind)
    assert [text for text in found if text.startswith(f"{file}: {words}")] == found
    assert bool(found) == bool(words)
    assert "lFgE" not in str(found)


def test_files_that_would_replace_each_other_are_named(tmp_path: Path) -> None:
    files = [tmp_path / place / "operator.asc" for place in ("one", "two")]
    lookup = LookupModule(loader=DataLoader())
    found = lookup.run([str(file) for file in files], {})
    assert "operator.asc: two files have this name; give each its own" in found
