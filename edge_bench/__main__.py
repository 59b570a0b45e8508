"""`python -m edge_bench`: the device's commands without the training side."""

from edge_bench.terminal.interrupts import quiet_start


def main(name: str | None = None) -> None:
    """Run the command line, from before its imports on, which take a while."""
    quiet_start()
    from edge_bench.cli import app

    app(prog_name=name)


if __name__ == "__main__":
    main("python -m edge_bench")
