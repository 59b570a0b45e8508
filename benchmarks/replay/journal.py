"""The journal's share of a replay's time: python benchmarks/replay/journal.py MODEL SET

Replays the set on one thread for some seconds, with a journal in the current folder, and adds up
the time in the journal that is not the artefact's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

from edge_bench.backends import open_backend
from edge_bench.files.journal import Ask, Journal
from edge_bench.files.sets import open_set
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.replay import correct_mask

SECONDS = 20.0
BATCHES = (64, 8, 1)


class Account:
    """Answers through a journal, and keeps the times of both."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.asked_s = self.answered_s = 0.0
        self.answers = 0

    def answer(self, ask: Ask) -> bytes:
        def timed() -> bytes:
            begin = perf_counter()
            answer = ask()
            self.asked_s += perf_counter() - begin
            return answer

        begin = perf_counter()
        answer = self._journal.answer(timed)
        self.answered_s += perf_counter() - begin
        self.answers += 1
        return answer


def main(model: Path, folder: Path) -> None:
    opened = open_set(folder)
    with open_backend("ort", model, 1) as backend:
        for batch_size in BATCHES:
            options = BenchOptions(batch_size=batch_size)
            with Journal(Path("journal-benchmark.json")) as journal:
                journal.begin({"batch size": batch_size})
                account, begin = Account(journal), perf_counter()
                while perf_counter() - begin < SECONDS / len(BATCHES):
                    classes = opened.manifest.classes
                    correct_mask(
                        *(backend, opened.images, opened.labels, classes, options, ""),
                        account.answer,
                    )
                seconds = perf_counter() - begin
                journal.discard()
            cost = account.answered_s - account.asked_s
            print(
                f"batch {batch_size:2}: {seconds / account.answers * 1e6:.1f} us a batch, of which "
                f"the journal {cost / account.answers * 1e6:.1f} us ({100 * cost / seconds:.2f} %)"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
