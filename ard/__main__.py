"""`python -m ard`: the same commands as `ardx`."""

from edge_bench.terminal.interrupts import quiet_start


def main(name: str | None = None) -> None:
    """Run the command line, from before its imports on, which take a while."""
    quiet_start()
    from ard.cli import app
    from ard.commands.started import note_start
    from ard.processes.leaving import leave

    note_start()
    try:
        app(prog_name=name)
    except SystemExit as ended:
        leave(ended)


if __name__ == "__main__":
    main("python -m ard")
