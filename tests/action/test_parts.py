# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The parts of the action's programs that a run against one server does not reach."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from github_runner import TOP
from jobs import ACTION

# As the action runs them: by name, from their own directory.
sys.path.insert(0, str(ACTION))
import backup
import calling
import common
import openpgp
import prepare
import report


def session_key(key: str, body: bytes = b"\x01" + b"x" * 64) -> bytes:
    """A packet as gpg writes it: old format, for one public key."""
    content = b"\x03" + bytes.fromhex(key) + body
    return b"\x85" + len(content).to_bytes(2, "big") + content


ALICE, BOB = "A" * 16, "B" * 16
DATA = b"\xd2\xe9" + b"y" * 512


def test_the_keys_of_a_message_are_read() -> None:
    assert openpgp.key_ids(io.BytesIO(session_key(ALICE) + session_key(BOB) + DATA)) == {ALICE, BOB}
    new_format = b"\xc1\x4a\x03" + bytes.fromhex(ALICE) + b"z" * 65
    assert openpgp.key_ids(io.BytesIO(new_format + DATA)) == {ALICE}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x1f\x8b\x08 a gzip archive in the clear",
        b"-----BEGIN PGP MESSAGE-----\n",
        DATA,
        b"\x8c\x0d\x04\x09\x03\x08" + b"s" * 9 + DATA,
        session_key(ALICE) + b"\x8c\x0d\x04\x09\x03\x08" + b"s" * 9 + DATA,
        session_key("0" * 16) + DATA,
        session_key(ALICE),
        session_key(ALICE) + b"\xcb\x05bplai",
        session_key(ALICE) * 65 + DATA,
    ],
    ids=["empty", "gzip", "armor", "no key", "passphrase", "and passphrase", "hidden", "cut", "literal", "many"],
)
def test_what_is_not_encrypted_to_named_keys_alone_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive.tar.gz.gpg").write_bytes(content)
    with pytest.raises(common.Refused, match="is not encrypted to public keys and is not uploaded"):
        backup.check(tmp_path, {ALICE})


def test_a_stranger_among_the_recipients_is_refused(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(session_key(ALICE) + session_key(BOB) + DATA)
    with pytest.raises(common.Refused, match=BOB):
        backup.check(tmp_path, {ALICE})
    backup.check(tmp_path, {ALICE, BOB})


def test_a_link_is_not_uploaded(tmp_path: Path) -> None:
    (tmp_path / "archive").symlink_to("/etc/passwd")
    with pytest.raises(common.Refused, match="expected a file"):
        backup.check(tmp_path, {ALICE})
    with pytest.raises(common.Refused, match="no host gave a backup"):
        backup.check(tmp_path / "nothing", {ALICE})


def answer_of(state: str, **more: object) -> dict:
    record = {"state": state, "old_commit": "a" * 40, "new_commit": "b" * 40, **more}
    return {"host": "h", "failed": state in ("undone", "refused", "rollback_failed"), "msg": "why", "record": record}


def test_the_worst_host_decides() -> None:
    found = report.outputs(
        {
            "a": answer_of("deployed", downtime_seconds=0.2, proof={"verdict": "preserved"}),
            "b": answer_of("undone", downtime_seconds=1.25, proof={"verdict": "damaged"}, old_commit="c" * 40),
        }
    )
    assert found == {
        "result": "undone",
        "old-commit": f"{'a' * 40} {'c' * 40}",
        "new-commit": "b" * 40,
        "downtime": "1.25",
        "preserved": "damaged",
    }


def test_a_host_without_an_answer_has_failed(tmp_path: Path) -> None:
    here = common.Places(tmp_path)
    here.private.mkdir()
    here.records.mkdir()
    (here.private / "hosts.json").write_text('["bot1", "bot2"]')
    (here.records / "bot1.json").write_text(json.dumps({**answer_of("deployed"), "host": "bot1"}))
    answers = report.read_answers(here)
    assert list(answers) == ["bot1", "bot2"]
    assert report.outputs(answers)["result"] == "failed"
    assert "no answer from this host" in report.summary("update", answers)


def test_a_host_that_was_spared_does_not_hide_why(tmp_path: Path) -> None:
    here = common.Places(tmp_path)
    here.private.mkdir()
    here.records.mkdir()
    (here.private / "hosts.json").write_text('["bot1", "bot2"]')
    (here.records / "bot1.json").write_text(json.dumps({**answer_of("undone"), "host": "bot1"}))
    answers = report.read_answers(here)
    assert report.outputs(answers)["result"] == "undone"
    assert "| bot2 | not attempted |" in report.summary("update", answers)


def test_nobody_reached_is_a_failure() -> None:
    assert report.outputs({})["result"] == "failed"


def test_an_answer_that_failed_is_never_a_success() -> None:
    assert report.state({"failed": True, "record": {"state": "deployed"}}) == "failed"
    assert report.state({"failed": False, "record": {"state": "something new"}}) == "failed"


def test_the_summary_is_text_whatever_the_names_are() -> None:
    evil = "</code></details><script>x</script> | `a` **b** [c](d) ![e](f) \n# g @octocat ~~h~~\x1b[2J\x9b\u202e\u2028"
    answers = {
        evil: {
            "failed": True,
            "msg": evil,
            "record": {
                "state": "refused",
                "commits": [{"commit": "a" * 40, "subject": evil}],
                "changes": {"paths": {"create": [evil]}},
                "collisions": [{"path": evil, "what": evil, "outcome": "refused"}],
                "notes": [evil],
                "missing": [evil],
                "proof": {"verdict": evil, "components": {evil: {evil: evil}}},
                "record": evil,
            },
        }
    }
    text = report.summary("plan", answers)
    assert "<script>" not in text
    assert text.count("</details>") == 1
    assert not any(sign in text for sign in ("](", "**b", "`", "~~", "@"))
    assert not any(line.startswith("# g") for line in text.splitlines())
    assert text.replace("\n", "").isprintable()
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert table[1].count("|") == 7


def test_a_summary_has_an_end() -> None:
    long = {"failed": False, "record": {"state": "planned", "notes": ["n" * 10_000] * 10_000}}
    text = report.summary("plan", {f"host{number}": long for number in range(100)})
    assert len(text.encode()) < 1024 * 1024
    assert "host99" in text


def test_a_value_cannot_set_another_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    common.output("one", "x\nEOF\ntwo<<EOF\ny\nEOF")
    lines = (tmp_path / "output").read_text().splitlines()
    delimiter = lines[0].removeprefix("one<<")
    assert lines[-1] == delimiter
    assert delimiter not in lines[1:-1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::forged", r"\x3a:error::forged"),
        ("  ::add-mask::x", r"  \x3a:add-mask::x"),
        ("a ##[error]forged", r"a \x23#[error]forged"),
        (
            "a\n::set-output name=result::deployed\r\x1b[2J\u202e",
            r"a\n::set-output name=result::deployed\r\x1b[2J\u202e",
        ),
        ("std::string, a::b, # [x], ##", "std::string, a::b, # [x], ##"),
    ],
)
def test_a_line_of_the_log_is_no_command(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    common.say(text)
    assert capsys.readouterr().out == shown + "\n"


def test_an_annotation_is_one_line_with_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    common.annotate("error", "inventory: 100 % wrong\n::error::forged\x1b[2J" + "x" * 400_000)
    said = capsys.readouterr().out
    assert said.startswith(r"::error title=tradekeep::inventory: 100 %25 wrong\n::error::forged\x1b[2J")
    assert said.count("\n") == 1
    assert len(said) < 2100


def test_the_runner_listens_again_after_an_unfinished_line(capsys: pytest.CaptureFixture[str]) -> None:
    with common.Untrusted():
        print("a host's last words, without an end", end="")
    lines = capsys.readouterr().out.splitlines()
    token = lines[0].removeprefix("::stop-commands::")
    assert lines[-1] == f"::{token}::"


def test_hosts_are_read_from_ansibles_listing() -> None:
    listing = """
playbook: tradekeep.ops.deploy

  play #1 (all): Deploy	TAGS: []
    pattern: ['all']
    hosts (2):
      bot1
      bot2.example.com

  play #2 (all): More	TAGS: []
    pattern: ['all']
    hosts (1):
      bot1
"""
    assert calling._names(listing) == ["bot1", "bot2.example.com"]
    assert calling._names("playbook: x\n\n  play #1 (all): D	TAGS: []\n    pattern: ['all']\n    hosts (0):\n") == []


def test_a_value_is_text_and_never_a_template(tmp_path: Path) -> None:
    here = common.Places(tmp_path)
    here.private.mkdir()
    executed = tmp_path / "executed"
    template = f"{{{{ lookup('ansible.builtin.pipe', 'touch {executed}') }}}}"
    given = {"template": template, "digits": "0123456", "float": "12e4567", "empty": "", "switch": False}
    variables = calling._written(here, given)
    msg = "{{ [template, digits, float, empty, switch] | to_json }}"
    debug = [{"hosts": "localhost", "gather_facts": False, "tasks": [{"debug": {"msg": msg}}]}]
    (tmp_path / "play.yml").write_text(json.dumps(debug))
    command = [sys.executable, "-m", "ansible.cli.playbook", "play.yml", "-i", "localhost,", "-c", "local"]
    done = subprocess.run(
        [*command, f"--extra-vars=@{variables}"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert "lookup(" in done.stdout
    assert not executed.exists()
    assert '\\"0123456\\", \\"12e4567\\", \\"\\", false]' in done.stdout


def test_ansible_is_configured_by_the_action_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = common.Places(tmp_path)
    here.private.mkdir()
    (here.private / "ansible").write_text("/venv/bin")
    for name in ("ANSIBLE_HOST_KEY_CHECKING", "ANSIBLE_CONFIG", "SSH_AUTH_SOCK", "PYTHONPATH", "INPUT_SSH_KEY"):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", "/vault")
    found = calling.environment(here)
    assert found["ANSIBLE_CONFIG"] == str(here.private / "ansible.cfg")
    assert found["ANSIBLE_VAULT_PASSWORD_FILE"] == "/vault"
    assert "/elsewhere" not in found.values()


def test_a_file_is_private_from_its_first_byte(tmp_path: Path) -> None:
    path = common.private_file(tmp_path / "key", "x")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        common.private_file(path, "y")


def test_what_forms_do_to_a_key_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPUT_SSH_KEY", "-----BEGIN-----\r\nx\r\n-----END-----")
    assert prepare._text("SSH_KEY") == "-----BEGIN-----\nx\n-----END-----\n"


@pytest.mark.parametrize("ref", ["main", "v1.2.3", "release/2.x", "a" * 40, "feature/x+y@2", "fix-#12"])
def test_a_ref_that_git_knows_is_taken(ref: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPUT_REF", ref)
    assert prepare.read_ref("update") == ref


def test_the_example_asks_the_pinned_action_for_what_it_has() -> None:
    """The commit is one of this repository, and its action has every input and output that the example names."""
    workflow = (TOP / ".github/workflows/deploy.yml").read_text(encoding="utf-8")
    (pinned,) = re.findall(r"uses: tradekeep/ops/\.github/actions/deploy@([0-9a-f]{40}) ", workflow)
    git = ["git", "-c", f"safe.directory={TOP}", "-C", str(TOP)]
    if subprocess.run([*git, "merge-base", "--is-ancestor", pinned, "HEAD"], capture_output=True).returncode:
        shallow = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True)
        if shallow.stdout.strip() != "false":
            pytest.skip("the history of the repository is not here")
        pytest.fail(f"{pinned} is no commit of this repository")
    show = [*git, "show", f"{pinned}:.github/actions/deploy/action.yml"]
    action = yaml.safe_load(subprocess.run(show, check=True, stdout=subprocess.PIPE).stdout)
    (call,) = (step for step in yaml.safe_load(workflow)["jobs"]["deploy"]["steps"] if step.get("id") == "deploy")
    assert set(call["with"]) <= set(action["inputs"])
    assert {name for name, one in action["inputs"].items() if one.get("required")} <= set(call["with"])
    assert set(re.findall(r"steps\.deploy\.outputs\.([\w-]+)", workflow)) <= set(action["outputs"])


def test_the_example_cancels_no_deploy_and_may_little() -> None:
    workflow = yaml.safe_load((TOP / ".github/workflows/deploy.yml").read_text(encoding="utf-8"))
    assert workflow["concurrency"] == {"group": "deploy-production", "cancel-in-progress": False}
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert (job["permissions"], job["environment"]) == ({"contents": "read"}, "production")
    uses = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) for name in uses), uses
