"""`ardx bench --host` of many boards at once: python -m benchmarks.scale.hosts COUNT TIMES

Each board is an sshd of its own on the loopback with a home of its own, so that all of them share
this machine's cores: seconds by the clock are work, and grow as the work does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.lines import ROOT
from tests.loopback import SSHD, loopback, make_keys

BUNDLE = ROOT / "tests/data/formats/0.1.0/model.ardx"
QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)


def measured(count: int, times: int) -> dict[str, list[float]]:
    """Seconds by the clock of each time that all boards were benchmarked."""
    if SSHD is None:
        raise SystemExit("no sshd here: apt-get install openssh-server")
    found = []
    with TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        keys, config = folder / "keys", folder / "ssh_config"
        keys.mkdir()
        make_keys(keys)
        names = [f"board{number}" for number in range(count)]
        for name in names:
            stack.enter_context(loopback(keys, folder / name, config))
        command = [sys.executable, "-m", "edge_bench", "bench", str(BUNDLE), *QUICK]
        command += ["--ssh-config", str(config), "--remote-python", sys.executable]
        command += [word for name in names for word in ("--host", name)]
        for number in range(times):
            begin = time.perf_counter()
            out = ["--out", str(folder / f"report{number}.json"), "--json"]
            done = subprocess.run([*command, *out], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"ended with {done.returncode}: {done.stderr[-500:]}")
            found.append(round(time.perf_counter() - begin, 3))
    return {"clock_s": found}


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]), int(sys.argv[2]))))
