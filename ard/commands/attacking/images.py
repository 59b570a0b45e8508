"""The clean images that a set is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ard.commands import flags as o
from ard.commands.datasets import dataset_for

if TYPE_CHECKING:
    from ard.commands.attacking.job import Job
    from ard.data.sources import Source, SplitSource


def clean_images(job: Job) -> Source:
    """The user's own images, or the test images of a dataset."""
    from ard.crafting.picture_attack import require_sizes
    from ard.data.sources import open_images

    flags = job.flags
    own = flags.images or flags.pictures
    if own is None:
        return test_images(job)
    if flags.pictures is not None:
        require_sizes(job.victim.card, flags.pictures)
    o.refuse_beside(f"--images {own} is attacked instead", {"--dataset": flags.dataset})
    clean = open_images(
        own,
        job.victim.card,
        image_size=flags.image_size,
        resize=flags.resize,
        limit=flags.limit,
    )
    o.tell_skipped(clean.skipped)
    return clean


def test_images(job: Job) -> SplitSource:
    """The test images of --dataset, or of the model's own."""
    from ard.data.sources import SplitSource
    from ard.data.splits import take_limit

    flags, victim = job.flags, job.victim
    data = dataset_for(flags, victim.path, victim.card, job.foreign, job.world)
    return SplitSource(
        take_limit(data.test, flags.limit), data.name, data.classes, data.class_names
    )
