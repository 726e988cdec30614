#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The data tree of an application."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tree
short_description: Create and mend the data tree of an application
version_added: 0.1.0
description:
  - Creates the directories that a profile names, gives directories and files their owners and modes, and writes
    first-time documents where none are.
  - A mode that the profile states is the most that is allowed. What is stricter is left alone, and so is what exists
    where the profile states no mode. C(record.notes) names what other accounts can reach all the same.
  - Installs credential files. A file that exists with another content is only replaced where
    O(credentials[].replace) says so, and the old one is kept.
  - The whole tree is one execution of the module. A symlink in the tree is never followed.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.definition
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
options:
  credentials:
    description: Files with secrets, installed with the owner and mode of their component.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file, relative to O(root).
        type: str
        required: true
      content:
        description: Content of the file, encoded as Base64.
        type: str
        required: true
      replace:
        description: Replace a file that exists with another content. The old one is kept in the state directory.
        type: bool
        default: false
  take_over:
    description:
      - Give to its owner what belongs to another account, root excepted. It is refused otherwise, as a bot that runs as
        that account could not write it any more.
    type: bool
    default: false
seealso:
  - module: tradekeep.ops.application_info
"""

EXAMPLES = r"""
- name: Create the tree of a built-in profile
  tradekeep.ops.tree:
    profile: kalshi

- name: Create the tree of a bot of your own and install its key
  tradekeep.ops.tree:
    profile:
      extends: freqtrade
      name: swing
    root: /opt/swing/user_data
    owner: swing
    group: swing
    credentials:
      - path: config-private.json
        content: "{{ lookup('ansible.builtin.file', 'secrets/config-private.json', rstrip=false) | b64encode }}"
"""

RETURN = r"""
record:
  description: What differed from the profile and was mended.
  returned: always
  type: dict
exit_status:
  description: The exit status that the C(tradekeep) command gives for the same outcome. V(0) is success.
  returned: always
  type: int
  sample: 0
error:
  description: What went wrong, with C(message), C(path), C(hint) and C(exit_status).
  returned: failure, unless the operation ended and found problems
  type: dict
  sample:
    message: another run holds the lock
    path: /var/lib/tradekeep/kalshi/lock
    hint: wait for it to end
    exit_status: 3
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.arguments import definition_spec
from ..module_utils.core.operations.claims import refuse_claimed
from ..module_utils.core.operations.tree import tree
from ..module_utils.core.ports import Ports
from ..module_utils.definition import application_on_host
from ..module_utils.door import Answer, answer, serve
from ..module_utils.steps.layout import CREDENTIALS, credentials_of, planned_tree

SPEC = definition_spec(credentials=CREDENTIALS, take_over={"type": "bool", "default": False})


def run(module: Any, ports: Ports) -> Answer:
    """Compare the tree with its profile and, outside of check mode, mend it."""
    application = application_on_host(module.params)
    # Before anything is created in what is another application's.
    refuse_claimed(application)
    credentials = credentials_of(module.params["credentials"])
    take_over = module.params["take_over"]
    if module.check_mode:
        return answer(planned_tree(application, ports, credentials, take_over=take_over))
    return answer(tree(application, ports, fix=True, credentials=credentials, take_over=take_over))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
