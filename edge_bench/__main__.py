"""`python -m edge_bench`: the device's commands without the training side."""

from edge_bench.cli import app

if __name__ == "__main__":
    app(prog_name="python -m edge_bench")
