#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The protective lines of a repository's .gitignore."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gitignore
short_description: Keep data out of a repository
version_added: 0.1.0
description:
  - Has the lines in the C(.gitignore) of a working copy that the data of an application needs, so that nobody commits
    what a running bot writes. They are the paths of the components, what the profile has deploys preserve, the
    sidecars of databases, and C(.env).
  - The lines are in one marked block. Everything else in the file stays as it is. A line is missing when git itself
    would not ignore what it stands for, however the repository's own rules are written. What else the person who runs
    this ignores does not count.
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
  path:
    description: Top of the working copy.
    type: path
    required: true
  state:
    description: Whether the block is there.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: tradekeep.ops.tracked_data
  - module: tradekeep.ops.deploy
"""

EXAMPLES = r"""
- name: Keep the data of the bot out of its repository
  tradekeep.ops.gitignore:
    profile: paper_bot
    path: /home/me/paper_bot
  delegate_to: localhost

- name: Say which lines are missing
  tradekeep.ops.gitignore:
    profile: paper_bot
    path: /home/me/paper_bot
  delegate_to: localhost
  check_mode: true
  diff: true
"""

RETURN = r"""
record:
  description: The lines.
  returned: always
  type: dict
  contains:
    path:
      description: Path of the file.
      returned: success
      type: str
    lines:
      description: All lines that the data needs, there or not.
      returned: success
      type: list
      elements: str
    missing:
      description: Those that were missing.
      returned: success
      type: list
      elements: str
    block:
      description: What the block has now, or would have.
      returned: success
      type: list
      elements: str
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
    message: there is no .git
    path: /home/me/bot
    hint: name the top of a git working copy
    exit_status: 3
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.arguments import definition_spec
from ..module_utils.core.operations.deploy.working_copy import gitignore
from ..module_utils.core.ports import Ports
from ..module_utils.definition import application_of_code
from ..module_utils.door import Answer, answer, serve

SPEC = definition_spec(
    path={"type": "path", "required": True},
    state={"type": "str", "choices": ["present", "absent"], "default": "present"},
)


def run(module: Any, ports: Ports) -> Answer:
    """Write or remove the block."""
    return answer(
        gitignore(
            application_of_code(module.params),
            ports,
            path=module.params["path"],
            present=module.params["state"] == "present",
            dry_run=module.check_mode,
        )
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
