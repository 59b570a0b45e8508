"""The clean images that a set is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ard.commands import flags as o

if TYPE_CHECKING:
    from ard.commands.attacking.flags import AttackFlags
    from ard.commands.attacking.job import Job
    from ard.data.sources import Source, SplitSource
    from ard.data.splits import Dataset
    from ard.processes.world import World


def load(flags: AttackFlags, world: World, name: str) -> Dataset:
    """The dataset of a name, as the options read it; one process of each machine first."""
    from ard.data.datasets import load_dataset

    return world.first_here(
        lambda: load_dataset(
            name,
            flags.data_dir,
            download=flags.download,
            image_size=flags.image_size,
            resize=flags.resize,
        )
    )


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
    """The test images of --dataset (or those that are loaded for it), or of the model's own."""
    from ard.data.datasets import dataset_of, matched
    from ard.data.sources import SplitSource
    from ard.data.splits import take_limit

    flags, victim, data = job.flags, job.victim, job.foreign.data
    if data is not None:
        data = matched(victim.path, victim.card, data)
    else:
        data = job.world.first_here(
            lambda: dataset_of(
                victim.path,
                victim.card,
                flags.dataset,
                flags.data_dir,
                download=flags.download,
                image_size=flags.image_size,
                resize=flags.resize,
            )
        )
    o.tell_skipped(data.skipped)
    return SplitSource(
        take_limit(data.test, flags.limit), data.name, data.classes, data.class_names
    )
