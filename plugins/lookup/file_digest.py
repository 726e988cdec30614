# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a file on the controller is known by on a host, whatever it holds."""

from __future__ import annotations

DOCUMENTATION = r"""
name: file_digest
short_description: Digest of a file on the controller
version_added: 0.1.0
author:
  - tradekeep.ops contributors (@tradekeep)
description:
  - Returns the SHA-256 digest of each file, as the module M(ansible.builtin.copy) finds and installs it. Of a file in a
    vault it is that of what is in it.
options:
  _terms:
    description: Files on the controller.
    type: list
    elements: path
    required: true
"""

EXAMPLES = r"""
- name: Show the digest of a key
  ansible.builtin.debug:
    msg: "{{ lookup('tradekeep.ops.file_digest', 'keys/operator.asc') }}"
"""

RETURN = r"""
_raw:
  description: The digests, in hexadecimal.
  type: list
  elements: str
"""

import hashlib
from typing import Any, Optional

from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[str], variables: Optional[dict[str, Any]] = None, **_options: Any) -> list[str]:
        """One digest for each file."""
        return [self._digest(str(term), variables or {}) for term in terms]

    def _digest(self, file: str, variables: dict[str, Any]) -> str:
        place = self.find_file_in_search_path(variables, "files", file)
        with open(self._loader.get_real_file(place), "rb") as opened:
            return hashlib.sha256(opened.read()).hexdigest()
