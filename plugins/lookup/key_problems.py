# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Key files judged on the controller, before any host is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
name: key_problems
short_description: Say what is wrong with key files on the controller
version_added: 0.1.0
author:
  - tradekeep.ops contributors (@tradekeep)
description:
  - Reads files on the controller that are to be installed on hosts, as the module M(ansible.builtin.copy) finds them,
    and returns a sentence for each that must not be. Nothing of their content is returned.
  - Needs no gpg.
options:
  _terms:
    description: Files on the controller.
    type: list
    elements: path
    required: true
  kind:
    description:
      - V(public_key) for files that must hold public OpenPGP keys and no secret one. They are installed side by side,
        so that no two may have the same name.
      - V(passphrase) for files with a passphrase in their first line.
    type: str
    choices: [public_key, passphrase]
    default: public_key
"""

EXAMPLES = r"""
- name: Refuse a secret key where a public one is meant
  ansible.builtin.assert:
    that: query('tradekeep.ops.key_problems', 'keys/operator.asc') | length == 0
"""

RETURN = r"""
_raw:
  description: A sentence for each problem, nothing where all is well.
  type: list
  elements: str
"""

import os
from collections.abc import Iterator
from typing import Any, Callable, Optional

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..module_utils.core.archive.openpgp import LARGEST_KEY_FILE, keys_in


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[str], variables: Optional[dict[str, Any]] = None, **options: Any) -> list[str]:
        """The problems of all files."""
        judged = _JUDGES.get(str(options.get("kind", "public_key")))
        if judged is None:
            raise AnsibleLookupError(f"kind: expected one of {', '.join(_JUDGES)}")
        files = [str(term) for term in terms if term]
        found = [text for file in files for text in self._judged(file, variables or {}, judged)]
        names = [os.path.basename(file) for file in files]
        twice = sorted({name for name in names if names.count(name) > 1})
        return found + [f"{name}: two files have this name; give each its own" for name in twice]

    def _judged(self, file: str, variables: dict[str, Any], judged: Callable[[bytes], Optional[str]]) -> Iterator[str]:
        place = self.find_file_in_search_path(variables, "files", file, ignore_missing=True)
        if not place:
            yield f"{file}: there is no such file on the controller"
            return
        try:
            # Of a file in a vault, what is in it.
            with open(self._loader.get_real_file(place), "rb") as opened:
                content = opened.read(LARGEST_KEY_FILE)
        except OSError as error:
            yield f"{file}: cannot be read on the controller: {error.strerror}"
            return
        problem = judged(content)
        if problem:
            yield f"{file}: {problem}"


def _public_key(content: bytes) -> Optional[str]:
    found = keys_in(content)
    if found.secret:
        return "holds a secret key, which must not leave the controller; name the file that gpg --armor --export made"
    return None if found.public else "holds no OpenPGP public key; name the file that gpg --armor --export made"


def _passphrase(content: bytes) -> Optional[str]:
    return None if content.partition(b"\n")[0].strip() else "holds no passphrase in its first line"


_JUDGES = {"public_key": _public_key, "passphrase": _passphrase}
