"""No lost work: commands that are killed, interrupted, out of disk or of power, and begun again."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.reliability.children import Ended, run, run_until, start, wait
from benchmarks.reliability.long_commands import Long, bytes_of, fresh, left_over
from benchmarks.reliability.outcome import Outcome, counted
from benchmarks.reliability.power import cut_after, renames_in

EXISTS = "exists already"
ANOTHER = "another process"
AT_ONCE_S = 2.0
SECONDS = "seconds"
SETTLED = ("checkpoint.safetensors",)
"""What a run that begins anew replaces before it is done, as its help says."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A command that nobody disturbed: what it left, and how long it took."""

    same: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a command is tried: the material, and a folder of its own."""

    material: Path
    folder: Path

    def anew(self) -> Path:
        """The folder, with the material alone in it."""
        return fresh(self.material, self.folder)

    def kept(self, command: Long) -> Path:
        """Where the outputs lie that the command had when nobody disturbed it."""
        return self.folder.with_name(f"reference-{command.name.replace(' ', '')}")

    def done(self, command: Long) -> Path:
        """The folder, with the material and these outputs."""
        folder = self.anew()
        _copy(self.kept(command), folder, command.out)
        return folder


def reference(command: Long, place: Place) -> Reference:
    """Run it alone, once for all that is tried of it.

    Raises:
        RuntimeError: it fails even so.
    """
    kept = place.kept(command)
    if kept.exists():
        seconds = float((kept / SECONDS).read_text(encoding="utf-8"))
        return Reference(same=_left(command, kept), seconds=seconds)
    folder = place.anew()
    ended = run(command.arguments, folder)
    if ended.code != 0:
        raise RuntimeError(f"{command.name} ended with {ended.code}: {ended.said}")
    partial = kept.with_name(f"{place.folder.name}.partial")
    partial.mkdir()
    _copy(folder, partial, command.out)
    (partial / SECONDS).write_text(f"{ended.seconds}", encoding="utf-8")
    with suppress(OSError):  # Another process was first.
        partial.rename(kept)
    return Reference(same=_left(command, folder), seconds=ended.seconds)


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        elif (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _left(command: Long, folder: Path) -> tuple[str, ...]:
    try:
        return tuple(command.same(folder / out) for out in command.out)
    except Exception as error:
        # Whatever makes an output unreadable is what is looked for.
        return (f"unreadable: {error}",)


def again(command: Long, folder: Path) -> Ended:
    """Run it once more, as its sentence says that it goes on."""
    begun = command.again and (folder / command.out[0] / "checkpoint.safetensors").exists()
    return run([*command.arguments, *(command.again if begun else ())], folder)


def _ends_well(command: Long, place: Place, known: Reference) -> str | None:
    """Begun again, does it end as if nothing had happened, and leave nothing else?"""
    ended = again(command, place.folder)
    if EXISTS in ended.said and left_over(place.folder, place.material, command):
        # It was done but for removing what it worked with; the next run is the one that may write.
        ended = run([*command.arguments, "--force"], place.folder)
    if ended.crashed or (ended.code != 0 and EXISTS not in ended.said):
        return f"begun again it ended with {ended.code}: {ended.said[-200:]}"
    if _left(command, place.folder) != known.same:
        return f"begun again it ended otherwise (exit {ended.code})"
    if extra := left_over(place.folder, place.material, command):
        return f"left {', '.join(extra)}"
    return None


def killed(command: Long, place: Place, times: int, seed: int) -> Outcome:
    """SIGKILL at random moments."""
    known, random = reference(command, place), Random(seed)

    def trial() -> str | None:
        moment = random.uniform(0, known.seconds)
        run_until(command.arguments, place.anew(), moment, [signal.SIGKILL])
        found = _ends_well(command, place, known)
        return found and f"killed after {moment:.2f} s: {found}"

    trials = (trial() for _ in range(times))
    return counted(
        "A killed command, begun again, ends as if nothing had happened",
        "SIGKILL at random moments",
        f"`{command.name}`",
        trials,
    )


def signalled(command: Long, place: Place, times: int, seed: int) -> Outcome:
    """SIGINT, SIGTERM and SIGHUP at random moments, and twice in a row."""
    known, random = reference(command, place), Random(seed)

    def trial(number: signal.Signals, twice: bool) -> str | None:
        moment = random.uniform(0, 0.9 * known.seconds)
        numbers = [number, number] if twice else [number]
        ended = run_until(command.arguments, place.anew(), moment, numbers)
        if ended.code not in (0, -number, 128 + number) or (ended.crashed and ended.code >= 0):
            return f"{number.name} after {moment:.2f} s: exit {ended.code}: {ended.said[-200:]}"
        if ended.code == 128 + number and not twice and "interrupted" not in ended.said:
            return f"{number.name} after {moment:.2f} s: ended without its sentence"
        if twice and ended.seconds > AT_ONCE_S:
            return f"{number.name} twice: took {ended.seconds:.1f} s to end"
        found = _ends_well(command, place, known)
        return found and f"{number.name} after {moment:.2f} s: {found}"

    plans = [
        (number, twice)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for twice in (False,) * times + (True,)
    ]
    trials = (trial(number, twice) for number, twice in plans)
    return counted(
        "A signal ends a command with its sentence, and the next run leaves no trace of it",
        "SIGINT, SIGTERM and SIGHUP, once and twice",
        f"`{command.name}`",
        trials,
    )


def _identity(path: Path) -> list[tuple[str, int, str]]:
    """Which files are there: name, inode and content, without those that a new run replaces."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [(str(f), f.stat().st_ino, bytes_of(f)) for f in files if f.name not in SETTLED]


def full_disk(command: Long, place: Place, times: int, seed: int) -> Outcome:
    """No file may grow beyond a size, as where a disk fills; what was there before must stay."""
    known = reference(command, place)
    kept = [place.kept(command) / out for out in command.out]
    largest = max(
        p.stat().st_size
        for path in kept
        for p in ([path] if path.is_file() else path.rglob("*"))
        if p.is_file()
    )
    random = Random(seed)
    force = ("--force",) if command.forces else ()

    def trial(limit: int) -> str | None:
        folder = place.done(command)
        before = [_identity(folder / out) for out in command.out]
        ended = run([*command.arguments, *force], folder, prepare=lambda: _limit(limit))
        if ended.code == 0:
            return None  # Nothing of it was as large.
        if ended.crashed or ended.code != 3 or "too large" not in ended.said:
            return f"at {limit} bytes: exit {ended.code}: {ended.said[-200:]}"
        if [_identity(folder / out) for out in command.out] != before:
            return f"at {limit} bytes: what was there before was changed"
        for out in command.out:
            _remove(folder / out)
        found = _ends_well(command, place, known)
        return found and f"at {limit} bytes: {found}"

    limits = [0, *(random.randrange(largest) for _ in range(times - 1))]
    return counted(
        "A full disk ends a command with a sentence, and what was there before stays",
        "files that may not grow beyond a size",
        f"`{command.name}`",
        map(trial, limits),
    )


def _limit(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # What the command says goes to a file, too, which must not be what fails.
    reader, writer = os.pipe()
    said = os.dup(1)
    if os.fork() == 0:
        os.close(writer)
        while block := os.read(reader, 1 << 16):
            os.write(said, block)
        os._exit(0)
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def power_cut(command: Long, place: Place, times: int, seed: int) -> Outcome:
    """The power goes right after a rename: whatever was not synced by then is lost."""
    known = reference(command, place)
    renames = renames_in(command.arguments, place.anew())
    chosen = Random(seed).sample(range(renames), min(times, renames))

    def trial(index: int) -> str | None:
        cut_after(index, command.arguments, place.anew())
        found = _ends_well(command, place, known)
        return found and f"after rename {index + 1} of {renames}: {found}"

    return counted(
        "A power cut at a rename loses nothing that was told to be written",
        "unsynced content dropped after a rename",
        f"`{command.name}`",
        map(trial, sorted(chosen)),
    )


def together(command: Long, place: Place, times: int, seed: int) -> Outcome:
    """Two of them with one --out, the first held still where it works; also with --force."""
    known, random = reference(command, place), Random(seed)

    def trial(force: tuple[str, ...]) -> str | None:
        folder = place.done(command) if force else place.anew()
        arguments = [*command.arguments, *force]
        first = start(arguments, folder)
        _stop_within(first, folder, random.uniform(0, 0.5 * known.seconds))
        second = run(arguments, folder, limit_s=30)
        with suppress(ProcessLookupError):
            os.kill(first, signal.SIGCONT)
        ended = wait(first, folder)
        both = f"exits {ended.code} and {second.code}: {second.said[-200:]}"
        replaces = not command.forces  # As it says: then each of both may be the later.
        if ended.crashed or second.crashed:
            return both
        if (ended.code, second.code) != (0, 0):
            loser = second if ended.code == 0 else ended
            if ANOTHER not in loser.said and EXISTS not in loser.said:
                return both
        elif not replaces:
            return both
        if _left(command, folder) != known.same:
            return f"another result; {both}"
        extra = left_over(folder, place.material, command)
        return f"left {', '.join(extra)}" if extra else None

    forces = [(), ("--force",)] if command.forces else [()]
    trials = (trial(force) for force in forces for _ in range(times))
    return counted(
        "Of two commands with one --out one wins, and the other says so",
        "two at once, the first held still where it writes; also with --force where there is one",
        f"`{command.name}`",
        trials,
    )


def _stop_within(pid: int, folder: Path, after_s: float) -> None:
    """Hold a process still, not before it has taken the lock of its output."""
    end = time.monotonic() + 20
    while time.monotonic() < end and not any(_locks(folder)):
        time.sleep(0.001)
    time.sleep(after_s if after_s < 0.2 else 0.2)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)


def _locks(folder: Path) -> Iterator[Path]:
    for entry in [*folder.glob(".*"), *folder.glob("out/.*")]:
        if entry.name.endswith(("lock", "partial", "journal")) or "unfinished" in entry.name:
            yield entry


INTERRUPTIONS: dict[str, Callable[[Long, Place, int, int], Outcome]] = {
    "killed": killed,
    "signalled": signalled,
    "full disk": full_disk,
    "power cut": power_cut,
    "together": together,
}
