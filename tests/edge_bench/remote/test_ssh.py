"""What goes to `ssh`, and what its refusals and the board's become."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.remote.ssh import Disconnected, Ssh

Call = Callable[..., Any]


@pytest.fixture
def ssh(board: Any, tmp_path: Path) -> Ssh:
    return Ssh(board.name, tmp_path / "ssh_config")


def test_a_command_asks_nothing_and_quotes_everything(ssh: Ssh) -> None:
    words = ["echo", "a b", "$(echo x)", "'; echo y; '", "~", "-n"]
    command = ssh.command(words)
    assert command[-3:-1] == ["--", "board"]
    assert "BatchMode=yes" in command
    assert not any("StrictHostKeyChecking" in word for word in command)
    # As a shell there reads it.
    there = ["/bin/sh", "-c", command[-1]]
    ended = subprocess.run(there, capture_output=True, text=True, check=True)
    assert ended.stdout == "a b $(echo x) '; echo y; ' ~ -n\n"
    assert shlex.split(command[-1]) == words


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch x", "-l", "", "pi@-oX", "a b", "pi@board;x", "$(x)", "pi@\n"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="expected a host as ssh takes it"):
        Ssh(host)


@pytest.mark.parametrize(
    "host", ["pi@board", "board", "ssh://pi@board:2222", "10.0.0.7", "u.v-w@a-b.example", "::1"]
)
def test_what_ssh_calls_a_host_is_taken(host: str) -> None:
    assert Ssh(host).host == host


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--ssh-config .*none: expected ssh's config file"):
        Ssh("board", tmp_path / "none")


def test_a_machine_without_ssh_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CapabilityError, match="needs ssh on PATH"):
        Ssh("board")


def test_words_stdin_and_exit_codes_arrive(ssh: Ssh, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 10_000)
    program = "import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d); sys.exit(7)"
    ended = ssh.call([sys.executable, "-c", program], sources=[source, source])
    assert (ended.code, ended.stdout) == (7, 2 * source.read_bytes())


def test_a_command_that_wants_no_more_input_tells_why(ssh: Ssh, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"0" * 10_000_000)
    ended = ssh.call([sys.executable, "-c", "import sys; sys.exit('full')"], sources=[source])
    assert (ended.code, ended.stderr.strip()) == (1, "full")


def test_another_host_key_is_refused(board: Any, ssh: Ssh, retrust: Callable[..., None]) -> None:
    retrust(board.folder, board.port, "other_key")
    with pytest.raises(Disconnected, match=r"^board: ssh: Host key verification failed; ") as error:
        ssh.call(["true"])
    assert error.value.final


def test_an_unknown_host_key_is_refused(board: Any, ssh: Ssh) -> None:
    (board.folder / "known_hosts").write_text("")
    with pytest.raises(Disconnected, match=r"Host key verification failed; .* compare the finger"):
        ssh.call(["true"])
    assert (board.folder / "known_hosts").read_text() == ""


def test_a_key_that_is_not_known_there_is_refused(board: Any, ssh: Ssh) -> None:
    shutil.copy(board.folder / "other_key", board.folder / "user_key")
    with pytest.raises(Disconnected, match=r"Permission denied \(publickey\); .*ssh-copy-id"):
        ssh.call(["true"])


def test_a_board_that_is_off_is_not_reached(board: Any, ssh: Ssh) -> None:
    board.sshd.kill()
    board.sshd.wait()
    with pytest.raises(Disconnected, match="Connection refused; check that it is on") as error:
        ssh.call(["true"])
    assert not error.value.final


def test_a_name_that_nobody_knows_is_not_reached(tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text("Host board\n  HostName no.such.host.invalid\n")
    with pytest.raises(Disconnected, match=r"^board: ssh: Could not resolve .*; check the name"):
        Ssh("board", config).call(["true"])


def test_an_answer_that_does_not_end_is_not_kept(ssh: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_bench.remote.ssh.MOST_ANSWER", 1 << 20)
    assert len(ssh.call(["head", "-c", "1000000", "/dev/zero"]).stdout) == 1_000_000
    with pytest.raises(CapabilityError, match="board: its answer is longer than 1 MiB"):
        ssh.call(["cat", "/dev/zero"])
