#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A restore, as one transaction."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore
short_description: Restore a backup
version_added: 0.1.0
description:
  - Verifies and unpacks a backup beside the data, stops the services, exchanges old and new by rename, starts
    the services again, sees that they stay up and asks the health checks of C(deploy.health). On any failure everything
    is put back.
  - What is replaced is kept as a safety backup named C(before_restore). Restoring what is already there
    changes nothing and stops no service.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
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
  backup:
    description: A name, a path on the host, or V(latest).
    type: str
    default: latest
  components:
    description: Restore these components alone.
    type: list
    elements: str
    default: []
  paths:
    description: Restore what matches these globs alone, relative to the root of the application.
    type: list
    elements: str
    default: []
  to:
    description: Restore into this directory. The live data and the services are left alone.
    type: path
  any_profile:
    description: Restore a backup of another profile, which is refused otherwise.
    type: bool
    default: false
  include_unmanaged:
    description:
      - Restore also what no component of the profile has, such as code in an archive of another program, or what the
        profile excludes by now. It is left alone and named otherwise. O(to) gets it in any case.
    type: bool
    default: false
    version_added: 0.1.0
  strip:
    description:
      - The leading directories of an archive of another program to leave out, V(.) for none. By default those without
        which the profile has most of the files. Where several fit equally well it is refused and each is named.
    type: str
    version_added: 0.1.0
  into:
    description:
      - The directory below the root that an archive of another program was made in, V(data) for one whose files lie at
        its top. What the archive has is put there.
    type: str
    version_added: 0.1.0
  accept_damage:
    description:
      - Restore a damaged database too, as the backup has it. It is refused otherwise, in check mode too.
      - What a backup has found good when it captured it needs no such word.
    type: bool
    default: false
    version_added: 0.1.0
  key_file:
    description:
      - File on the host with the secret key of a backup to a public one. The host's own key needs none.
      - It is imported into a gpg home that is removed again.
    type: path
  passphrase_file:
    description: File on the host with the passphrase, where it is not the configured one.
    type: path
  force:
    description:
      - Go on although a process that no service of the profile owns has data of the application open for writing.
        It loses what it writes into files that are replaced.
      - Without it such a process, named with its number and the file, ends the operation with nothing changed.
      - With it, what was restored is also kept where a health check of C(deploy.health) fails, which is then a finding.
    type: bool
    default: false
seealso:
  - module: tradekeep.ops.backup_info
  - module: tradekeep.ops.recover
  - module: tradekeep.ops.verify
"""

EXAMPLES = r"""
- name: Restore the newest backup
  tradekeep.ops.restore:
    app: kalshi
  async: 7200
  poll: 5

- name: Look at the preferences of an older one
  tradekeep.ops.restore:
    app: kalshi
    backup: user_data_20260101_020000.tar.gz
    components:
      - preferences
    to: /root/look
"""

RETURN = r"""
record:
  description:
    - What was restored, the safety backup of what was there before, the services that were C(stopped), and what the
      C(health) checks found.
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

from ..module_utils.arguments import configured_spec
from ..module_utils.core.operations.restore import restore
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(
    backup={"type": "str", "default": "latest"},
    components={"type": "list", "elements": "str", "default": []},
    paths={"type": "list", "elements": "str", "default": []},
    to={"type": "path"},
    any_profile={"type": "bool", "default": False},
    include_unmanaged={"type": "bool", "default": False},
    strip={"type": "str"},
    into={"type": "str"},
    accept_damage={"type": "bool", "default": False},
    # Names of files, not secrets.
    key_file={"type": "path", "no_log": False},
    passphrase_file={"type": "path", "no_log": False},
    force={"type": "bool", "default": False},
)


def run(module: Any, ports: Ports) -> Answer:
    """Restore one backup."""
    params = module.params
    return answer(
        restore(
            configured_application(params),
            ports,
            reference=params["backup"],
            components=tuple(params["components"]),
            paths=tuple(params["paths"]),
            to=params["to"],
            key_file=params["key_file"],
            passphrase_file=params["passphrase_file"],
            force=params["force"],
            dry_run=module.check_mode,
            any_profile=params["any_profile"],
            accept_damage=params["accept_damage"],
            include_unmanaged=params["include_unmanaged"],
            strip=params["strip"],
            into=params["into"],
        )
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
