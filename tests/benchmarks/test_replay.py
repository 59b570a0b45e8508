"""Replay in constant memory, by the benchmark that says so on a million images."""

from __future__ import annotations

from benchmarks.replay.memory import SHAPE, measure


def test_a_hundred_times_the_images_take_their_masks_more_memory() -> None:
    few, many = 2_000, 200_000
    channels, height, width = SHAPE
    peaks = [measure(samples)["ended"][0] for samples in (few, many)]
    grown = peaks[1] - peaks[0]
    # Six bytes an image of what the artefact said, and the same as text in the report.
    assert grown < 50 * many
    assert 50 * many < 0.3 * channels * height * width * many, "an array in memory would show"
