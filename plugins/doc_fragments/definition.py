# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an application is: its profile and its places on the host."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that are given an application's definition."""

    DOCUMENTATION = r"""
options:
  profile:
    description:
      - What the application keeps.
      - The name of a built-in profile (V(kalshi), V(paper_bot), V(crypto_bot), V(trade_agent), V(v6) or
        V(freqtrade)), or a mapping. A mapping may name a built-in in C(extends) and is merged over it.
    type: raw
    required: true
  app:
    description: Name of the application. The profile's name by default.
    type: str
  root:
    description: Directory of the data. The profile's own by default.
    type: path
  owner:
    description: Account that the data belongs to. The profile's own by default.
    type: str
  group:
    description: Group that the data belongs to. The profile's own by default.
    type: str
  backup_dir:
    description: Directory that backups are written to.
    type: path
    default: /opt/backups
  config_dir:
    description: Directory of the configurations that the C(tradekeep) command reads.
    type: path
    default: /etc/tradekeep
  state_dir:
    description: Directory of locks, journals and records.
    type: path
    default: /var/lib/tradekeep
  bin_dir:
    description: Directory of the C(tradekeep) command.
    type: path
    default: /usr/local/bin
  system:
    description:
      - Whether what belongs to the system may be touched.
      - With V(false) no owner is changed and no unit is installed, so that an ordinary user can do everything else.
      - With V(true) and without root, the data is that of the account that runs the module, and the units are those of
        its own systemd.
    type: bool
    default: true
  gpg_recipients:
    description:
      - Public keys that backups are encrypted to, as key files on the host or as fingerprints.
      - Not together with O(passphrase_file).
    type: list
    elements: str
    default: []
  passphrase_file:
    description: File on the host with the passphrase that backups are encrypted with.
    type: path
  host_key:
    description:
      - Whether backups to public keys are also encrypted to a key that the host makes for itself, and that never leaves
        it, so that a restore at night and a drill by timer need nobody.
      - With V(false) the host cannot read its own backups. A key that it made before is removed.
    type: bool
    default: true
"""
