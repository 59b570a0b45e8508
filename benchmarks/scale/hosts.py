"""`ardx bench --host` of many boards at once: python -m benchmarks.scale.hosts COUNT TIMES

Each board is an sshd of its own on the loopback with a home of its own, so that all of them share
this machine's cores: seconds by the clock are work, and grow as the work does.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.lines import ROOT

BUNDLE = ROOT / "tests/data/formats/0.1.0/model.ardx"
QUICK = (
    "--runs",
    "3",
    "--seconds",
    "0",
    "--warmup",
    "0",
    "--settle-seconds",
    "0",
    "--threads",
    "1",
)
LISTENS_S = 30.0
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SERVER = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
SetEnv HOME={folder}/{name}
"""
CLIENT = """
Host {name}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


@contextmanager
def board(folder: Path, name: str) -> Iterator[None]:
    """An sshd called `name` in the ssh_config of the folder."""
    (folder / name).mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = " ".join((folder / "host_key.pub").read_text(encoding="utf-8").split()[:2])
    config = folder / f"{name}.sshd"
    config.write_text(SERVER.format(port=port, folder=folder, name=name), encoding="utf-8")
    client = CLIENT.format(name=name, port=port, folder=folder, user=getpass.getuser())
    for file, text in (("known_hosts", f"[127.0.0.1]:{port} {key}\n"), ("ssh_config", client)):
        with (folder / file).open("a", encoding="utf-8") as opened:
            opened.write(text)
    if SSHD is None:
        raise SystemExit("no sshd here: apt-get install openssh-server")
    log = folder / f"{name}.log"
    with (
        log.open("wb") as file_,
        subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=file_) as process,
    ):
        try:
            end = time.monotonic() + LISTENS_S
            while "Server listening" not in log.read_text(encoding="utf-8"):
                if time.monotonic() > end:
                    raise SystemExit(f"{name}: its sshd does not listen")
                time.sleep(0.01)
            yield
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()


def measured(count: int, times: int) -> dict[str, list[float]]:
    """Seconds by the clock of each time that all boards were benchmarked."""
    found = []
    with TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        for name in ("user_key", "host_key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True)
        names = [f"board{number}" for number in range(count)]
        for name in names:
            stack.enter_context(board(folder, name))
        command = [sys.executable, "-m", "edge_bench", "bench", str(BUNDLE), *QUICK]
        command += ["--ssh-config", str(folder / "ssh_config"), "--remote-python", sys.executable]
        command += [word for name in names for word in ("--host", name)]
        for time_ in range(times):
            begin = time.perf_counter()
            out = ["--out", str(folder / f"report{time_}.json"), "--json"]
            done = subprocess.run([*command, *out], capture_output=True, text=True, check=False)
            told = json.loads(done.stdout)
            hosts = told.get("hosts", {names[0]: told | {"exit_code": done.returncode}})
            wrong = {name: host["exit_code"] for name, host in hosts.items() if host["exit_code"]}
            if wrong or len(hosts) != count:
                raise SystemExit(f"boards failed: {wrong or len(hosts)}: {done.stderr[-500:]}")
            found.append(round(time.perf_counter() - begin, 3))
    return {"clock_s": found}


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]), int(sys.argv[2]))))
