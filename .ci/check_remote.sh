#!/usr/bin/env bash
# Over a loopback sshd into a Python that has nothing: real wheels, offline, then the kept environment.
#   check_remote.sh BIN DEMO
set -euo pipefail
bin=$1 demo=$2
PATH=$PATH:/usr/sbin
if ! command -v sshd >/dev/null; then
  echo "skipped: no sshd here (apt-get install openssh-server)"
  exit 0
fi
out=$(mktemp -d)
trap 'kill "$sshd" 2>/dev/null || true; rm -rf "$out"' EXIT
sshd=

mkdir "$out/home"
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N '' -f "$out/user_key"
ssh-keygen -q -t ed25519 -N '' -f "$out/host_key"
port=$("$bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > "$out/sshd_config" <<CONFIG
ListenAddress 127.0.0.1:$port
HostKey $out/host_key
AuthorizedKeysFile $out/user_key.pub
PasswordAuthentication no
UsePAM no
StrictModes no
PidFile none
SetEnv HOME=$out/home
CONFIG
cat > "$out/ssh_config" <<CONFIG
Host board
  HostName 127.0.0.1
  Port $port
  User $(id -un)
  IdentityFile $out/user_key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile $out/known_hosts
  StrictHostKeyChecking yes
CONFIG
echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$out/host_key.pub")" > "$out/known_hosts"
"$(command -v sshd)" -D -e -f "$out/sshd_config" 2>"$out/sshd.log" &
sshd=$!
for _ in $(seq 100); do grep -q 'Server listening' "$out/sshd.log" && break; sleep 0.1; done

python3 -m venv --without-pip "$out/bare"
"$bin/pip" download --quiet --only-binary=:all: --dest "$out/wheels" onnxruntime numpy typer psutil
there() {
  "$bin/ardx" bench "$demo/student-int8.onnx" --sets "$demo/sets/student" --seconds 0.5 \
    --host board --ssh-config "$out/ssh_config" --remote-python "$out/bare/bin/python" "$@"
}
there --wheels "$out/wheels" --out "$out/report.json"
"$bin/ardx" gate "$out/report.json" --min-robust-accuracy 0.5
# Once more, without the wheels: the environment stayed, and nothing is installed.
there --out "$out/again.json" 2>"$out/again.log" || { cat "$out/again.log"; exit 1; }
if grep -q installs "$out/again.log"; then
  echo "the environment was made twice" >&2
  exit 1
fi
left=$(cd "$out/home/.cache/ardx/remote" && ls -d -- * | sed 's/venv-.*/venv/' | sort | tr '\n' ' ')
[ "$left" = "lock running.json venv " ] || { echo "left on the board: $left" >&2; exit 1; }
echo "over ssh: as here, offline, and nothing but the environment stays"
