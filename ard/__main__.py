"""`python -m ard`: the same commands as `ardx`."""

from ard.cli import app

if __name__ == "__main__":
    app(prog_name="python -m ard")
