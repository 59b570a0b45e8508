"""Known robust checkpoints: where each is published, and what loads it. Nothing is downloaded.

Accuracies are L-inf at 8/255 unless stated, on the whole test set, from RobustBench 1.1.1 and its
model_info files; AutoAttack of DeepMind's is as their own README reports it, since RobustBench
shows a stronger attack's figure there. The licence is what RobustBench's LICENSE states for the
weights. A checkpoint is here only where an architecture of ours computes what its published code
computes. To add one: a line in _ZOO, and in the tables below it what is particular to its files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_bench.core.errors import InputError

CLASSES = {"cifar10": 10, "cifar100": 100}

ROBUSTBENCH = "https://github.com/RobustBench/robustbench"
TRADES = "https://github.com/yaodongyu/TRADES"
DEEPMIND = "https://github.com/google-deepmind/deepmind-research/tree/master/adversarial_robustness"
WANG = "https://github.com/wzekai99/DM-Improves-AT"
DEEPMIND_FILES = "https://storage.googleapis.com/dm-adversarial-robustness"
WANG_FILES = "https://huggingface.co/wzekai99/DM-Improves-AT/resolve/main/checkpoint"

Channels = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file of weights; `url` is None where its publisher states none."""

    name: str
    page: str
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class KnownTeacher:
    """A robust checkpoint, its published accuracies as fractions, and what its files leave out."""

    name: str
    dataset: str
    architecture: str
    licence: str | None
    clean_accuracy: float
    autoattack_accuracy: float
    epsilon: str
    files: tuple[PublishedFile, ...]
    mean: Channels
    """Of the normalisation in front of the network, for files that do not hold it."""
    std: Channels
    unused: tuple[str, ...] = ()
    """How names begin of what the file holds beside the classifier."""


# Per dataset and architecture: name, clean and AutoAttack accuracy in percent, id at Google Drive.
_ZOO: dict[tuple[str, str], dict[str, tuple[float, float, str]]] = {
    ("cifar10", "wrn_28_10"): {
        "Carmon2019Unlabeled": (89.69, 59.53, "15tUx-gkZMYx7BfEOw1GY5OKC-jECIsPQ"),
        "Wang2020Improving": (87.5, 56.29, "1T939mU4kXYt5bbvM55aT4fLBvRhyzjiQ"),
        "Wu2020Adversarial_extra": (88.25, 60.04, "1-WJWpAZLlmc4gJ8XXNf7IETjnSZzaCNp"),
        "Hendrycks2019Using": (87.11, 54.92, "1-DcJsYw2dNEOyF9epks2QS7r9nqBDEsw"),
    },
    ("cifar10", "wrn_34_10"): {
        "Zhang2019Theoretically": (84.92, 53.08, "1hPz9QQwyM7QSuWu-ANG_uXR-29xtL8t_"),
        "Wu2020Adversarial": (85.36, 56.17, "13LBcgNvhFppCFG22i1xATrahFPfMgXGf"),
        "Cui2020Learnable_34_10": (88.22, 52.86, "16s9pi_1QgMbFLISVvaVUiNfCzah6g2YV"),
        "Sehwag2021Proxy": (86.68, 60.27, "1QFA5fPMj2Qw4aYNG33PkFqiv_RTDWvzm"),
        "Addepalli2021Towards_WRN34": (85.32, 58.04, "1-3vgjTNfSq7LSMKuayEQ-jLflAP196dB"),
        "Chen2021LTD_WRN34_10": (85.21, 56.94, "1-0RoQKYvHLNh7hZ71wJjSit1XtrJQo9D"),
        "Jia2022LAS-AT_34_10": (84.98, 56.26, "1-3l7xKhIPyes3O4QSz0HU6L-hfOoS0xD"),
        "Addepalli2022Efficient_WRN_34_10": (88.71, 57.81, "1--dVDtZhAk4D2zMtTDwIGnImuCGxTcBA"),
        "Cui2023Decoupled_WRN-34-10": (85.31, 57.09, "1-ArD-TugRXUbH3VtM9qnzvby6NvdXNUN"),
        "Chen2024Data_WRN_34_10": (86.54, 57.3, "1-AzyMQaoUuwxec6O_Yri5OVtVqnNgR4R"),
    },
    ("cifar10", "wrn_34_20"): {
        "Rice2020Overfitting": (85.34, 53.42, "1vC_Twazji7lBjeMQvAD9uEQxi9Nx2oG-"),
        "Cui2020Learnable_34_20": (88.7, 53.57, "1y7BUxPhQjNlb4w4BUlDyYJIS4w4fsGiS"),
        "Chen2021LTD_WRN34_20": (86.03, 57.71, "1-5JmY9rapuGwCUc2nPvy7Rb_sn_dHhFm"),
        "Chen2024Data_WRN_34_20": (86.1, 58.09, "1-IbKAGtp79tAEm59N0i8QMvMZ3nxSD2-"),
    },
    ("cifar10", "wrn_70_16"): {
        "Jia2022LAS-AT_70_16": (85.66, 57.61, "1-4p-Gr0hjl8wq6qvvTza4x4a5Rmu-Bfr"),
    },
    ("cifar10", "resnet18"): {
        "Sehwag2021Proxy_R18": (84.59, 55.54, "1-ZgoSlD_AMhtXdnUElilxVXnzK2DcHuu"),
        "Addepalli2021Towards_RN18": (80.24, 51.06, "1-1DxecXz5U_xZ54DVdE-GVm71Tiox-Ri"),
        "Addepalli2022Efficient_RN18": (85.71, 52.48, "1m5vhdzIUUKhDbsZdOG9z76Eyp6f4xe_f"),
    },
    ("cifar10", "resnet50_cifar"): {
        "Engstrom2019Robustness": (87.03, 49.25, "1etqmQsksNIWBvBQ4r8ZFk_3FJlLWr8Rr"),
    },
    ("cifar10", "preact_resnet18_raw"): {
        "Wong2020Fast": (83.34, 43.21, "1Re--_lf3jCEw9bnQqGkjw3J7v2tSZKrv"),
    },
    ("cifar10", "preact_resnet18_swish"): {
        "Rebuffi2021Fixing_R18_ddpm": (83.53, 56.66, "1--dxE66AsgBSUsuK2sXCTrsYUV9B5f95"),
        "Rade2021Helper_R18_ddpm": (86.86, 57.09, "1f2yJUo-jxCQNk589frzriv6wPyrQEZdX"),
        "Rade2021Helper_R18_extra": (89.02, 57.67, "1hdXk1rPJql2Oa84Kky64fMTQzng5UcTL"),
        "Gowal2021Improving_R18_ddpm_100m": (87.35, 58.63, "1-0EuCJashqSXEkkd1DOzFA4tH8KL2kim"),
    },
    ("cifar10", "wrn_28_10_swish"): {
        "Gowal2020Uncovering_28_10_extra": (89.48, 62.8, "1MBAWGxiZxKt-GfqEqtLcXcd3tAxPhvV2"),
        "Rebuffi2021Fixing_28_10_cutmix_ddpm": (87.33, 60.75, "1-0EChXbc6pOvx26O17av263bCeqIAz6s"),
        "Rade2021Helper_ddpm": (88.16, 60.97, "1AOF6LxnwgS5fCz_lVLYqs_wnUYuv6O7z"),
        "Gowal2021Improving_28_10_ddpm_100m": (87.5, 63.44, "12L8YE6VBgUDKyW6GMSNefSYj2gg4LEKx"),
        "Pang2022Robustness_WRN28_10": (88.61, 61.04, "16ChNkterCp17BXv-xxqpfedb4u2_CjjS"),
        "Wang2023Better_WRN-28-10": (92.44, 67.31, "1-6MYKJdECDVGaWjj6GgqvaT95BGKhUvI"),
        "Cui2023Decoupled_WRN-28-10": (92.16, 67.73, "1-AaTrYt23WJFR22hXgBd-i6kjpsz6Hf2"),
    },
    ("cifar10", "wrn_34_10_swish"): {
        "Rade2021Helper_extra": (91.47, 62.83, "1GhAp-0C3ONRy9BxIe0J9vKc082vHvR7t"),
    },
    ("cifar10", "wrn_34_20_swish"): {
        "Gowal2020Uncovering_34_20": (85.64, 56.86, "1YWvZO1u9_yNLFNC3JYd_TVkvrRSMER1O"),
    },
    ("cifar10", "wrn_70_16_swish"): {
        "Gowal2020Uncovering_70_16": (85.29, 57.2, "1DVwKclibqzniE2Ss5_g6BY77ChG8QKzl"),
        "Gowal2020Uncovering_70_16_extra": (91.1, 65.88, "1GxryYj_Or-VCDca0wgiFLz4ssXSZXQoJ"),
        "Rebuffi2021Fixing_70_16_cutmix_ddpm": (88.54, 64.25, "1-8CWRT-OFWyrz4T4s0I2mbFjPg8K_MUi"),
        "Rebuffi2021Fixing_70_16_cutmix_extra": (92.23, 66.58, "1qKDTp6IJ1BUXZaRtbYuo_t0tuDl_4mLg"),
        "Gowal2021Improving_70_16_ddpm_100m": (88.74, 66.11, "10qBoDG_NomJBrRFeTsSwEcJF1GA-sjC4"),
        "Pang2022Robustness_WRN70_16": (89.01, 63.35, "1uQZYUuUiL9BzaQUeXLhjr_RhoyFRrHe3"),
        "Wang2023Better_WRN-70-16": (93.25, 70.69, "1-RF7ZSS-PAh6bfQcuqx4lh9bc9BUGnap"),
    },
    ("cifar10", "wrn_82_8_swish"): {
        "Bartoldson2024Adversarial_WRN-82-8": (93.11, 71.59, "1--jl8qJh624SFqFffvg1IkYR-fZGA2Sr"),
    },
    ("cifar10", "wrn_94_16_swish"): {
        "Bartoldson2024Adversarial_WRN-94-16": (93.68, 73.71, "1g6o9H1b6vjoBi1USdCBt64C8B8LPiioX"),
    },
    ("cifar100", "wrn_34_10"): {
        "Wu2020Adversarial": (60.38, 28.86, "1yWGvHmrgjtd9vOpV5zVDqZmeGhCgVYq7"),
        "Cui2020Learnable_34_10_LBGAT6": (60.64, 29.33, "1TfIgvW3BAkL8jL9J7AAWFSLW3SSzJ2AE"),
        "Addepalli2021Towards_WRN34": (65.73, 30.35, "1-9GAld_105-jWBLXL73btmfOCwAqvz7Y"),
        "Chen2021LTD_WRN34_10": (64.07, 30.59, "1-I4NZyULdEWH46b4EaCTxuuRo4eFXsg_"),
        "Jia2022LAS-AT_34_10": (64.89, 30.77, "1-338K2PUf5FTwk4cbUUeTNz247GrXaMG"),
        "Addepalli2022Efficient_WRN_34_10": (68.75, 31.85, "1-3c-iniqNfiwGoGPHC3nSostnG6J9fDt"),
        "Cui2023Decoupled_WRN-34-10_autoaug": (65.93, 32.52, "18hjcLa1V3JTNUOshafLvw1ncxL2gu50M"),
        "Chen2024Data_WRN_34_10": (64.32, 31.13, "1-N5a0Z9o-8-oIrF4_EaVFVOOPI5-D-H2"),
    },
    ("cifar100", "wrn_34_20"): {
        "Cui2020Learnable_34_20_LBGAT6": (62.55, 30.2, "1rN76st8q_32j6Uo8DI5XhcC2cwVhXBwK"),
        "Jia2022LAS-AT_34_20": (67.31, 31.91, "1WhRq01Yl1v8O3skkrGUBuySlptidc5a6"),
    },
    ("cifar100", "resnet18"): {
        "Addepalli2022Efficient_RN18": (65.45, 27.67, "1-2hnxC7lZOQDqQbum4yPbtRtTND86I5N"),
    },
    ("cifar100", "preact_resnet18_bn"): {
        "Rice2020Overfitting": (53.83, 18.95, "1XXNZn3fZBOkD1aqNL1cvcD8zZDccyAZ6"),
        "Addepalli2021Towards_PARN18": (62.02, 27.14, "1-FwVya1sDvdFXr0_ZBoXEJW9ukGC7hPK"),
    },
    ("cifar100", "preact_resnet18_swish"): {
        "Rebuffi2021Fixing_R18_ddpm": (56.87, 28.5, "1-Qcph_EXw1SCYhDIl8cwqTQQy0sJKO8N"),
        "Rade2021Helper_R18_ddpm": (61.5, 28.88, "1-qUvfOjq6x4I8mZynfGtzzCH_nvqS_VQ"),
    },
    ("cifar100", "wrn_28_10_swish"): {
        "Rebuffi2021Fixing_28_10_cutmix_ddpm": (62.41, 32.06, "1-P7cs82Tj6UVx7Coin3tVurVKYwXWA9p"),
        "Pang2022Robustness_WRN28_10": (63.66, 31.08, "1VDDM_j5M4b6sZpt1Nnhkr8FER3kjE33M"),
        "Wang2023Better_WRN-28-10": (72.58, 38.83, "1-jOu3wKWyw0XnBCXDGR32xn8Bw9GTJgh"),
        "Cui2023Decoupled_WRN-28-10": (73.85, 39.18, "15BwWdWbNfoarTEWWugicOVkTjh3nXH36"),
    },
    ("cifar100", "wrn_70_16_swish"): {
        "Gowal2020Uncovering": (60.86, 30.03, "16I86x2Vv_HCRKROC86G4dQKgO3Po5mT3"),
        "Gowal2020Uncovering_extra": (69.15, 36.88, "1LQBdwO2b391mg7VKcP6I0HIOpC6O83gn"),
        "Rebuffi2021Fixing_70_16_cutmix_ddpm": (63.56, 34.64, "1-GkVLo9QaRjCJl-by67xda1ySVhYxsLV"),
        "Pang2022Robustness_WRN70_16": (65.56, 33.05, "1F3kn8KIdBVls8QuTWc3BbB83htkQeVQD"),
        "Wang2023Better_WRN-70-16": (75.22, 42.67, "1-yYcT73GP13c0y9HrgtpyB3NAfkGKgjY"),
    },
}

_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
_CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
_CIFAR100_EXACT = (
    (0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
    (0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
)
_NONE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_NORMALISATION: dict[str, tuple[Channels, Channels]] = {
    "cifar10/Engstrom2019Robustness": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar10/Hendrycks2019Using": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar10/Rice2020Overfitting": _CIFAR10,
    "cifar10/Wong2020Fast": _CIFAR10,
    "cifar100/Rice2020Overfitting": _CIFAR100_EXACT,
    "cifar100/Wu2020Adversarial": _CIFAR100_EXACT,
}
# The robustness library saves its attacker, which holds the same classifier, beside it.
_UNUSED = {"cifar10/Engstrom2019Robustness": ("attacker.", "normalizer.")}
_EVALUATED_AT_0_031 = {
    "cifar10/Cui2020Learnable_34_10",
    "cifar10/Cui2020Learnable_34_20",
    "cifar10/Zhang2019Theoretically",
    "cifar100/Cui2020Learnable_34_10_LBGAT6",
    "cifar100/Cui2020Learnable_34_20_LBGAT6",
}
_APACHE = ("Gowal", "Rebuffi", "Hendrycks2019Using")
# What the authors themselves publish, under names of their own.
_DEEPMIND_NAMES = {
    "cifar10/Gowal2020Uncovering_70_16_extra": "cifar10_linf_wrn70-16_with.pt",
    "cifar10/Gowal2020Uncovering_28_10_extra": "cifar10_linf_wrn28-10_with.pt",
    "cifar10/Gowal2020Uncovering_70_16": "cifar10_linf_wrn70-16_without.pt",
    "cifar10/Gowal2020Uncovering_34_20": "cifar10_linf_wrn34-20_without.pt",
    "cifar10/Rebuffi2021Fixing_70_16_cutmix_ddpm": "cifar10_linf_wrn70-16_cutmix_ddpm_v2.pt",
    "cifar10/Rebuffi2021Fixing_28_10_cutmix_ddpm": "cifar10_linf_wrn28-10_cutmix_ddpm_v2.pt",
    "cifar10/Rebuffi2021Fixing_R18_ddpm": "cifar10_linf_resnet18_ddpm.pt",
    "cifar10/Gowal2021Improving_70_16_ddpm_100m": "cifar10_linf_wrn70-16_cutmix_ddpm_100m.pt",
    "cifar10/Gowal2021Improving_28_10_ddpm_100m": "cifar10_linf_wrn28-10_ddpm_100m.pt",
    "cifar10/Gowal2021Improving_R18_ddpm_100m": "cifar10_linf_resnet18_ddpm_100m.pt",
    "cifar100/Gowal2020Uncovering_extra": "cifar100_linf_wrn70-16_with.pt",
    "cifar100/Gowal2020Uncovering": "cifar100_linf_wrn70-16_without.pt",
    "cifar100/Rebuffi2021Fixing_70_16_cutmix_ddpm": "cifar100_linf_wrn70-16_cutmix_ddpm.pt",
    "cifar100/Rebuffi2021Fixing_28_10_cutmix_ddpm": "cifar100_linf_wrn28-10_cutmix_ddpm.pt",
    "cifar100/Rebuffi2021Fixing_R18_ddpm": "cifar100_linf_resnet18_ddpm.pt",
}
_WANG_NAMES = {
    "cifar10/Wang2023Better_WRN-28-10": "cifar10_linf_wrn28-10.pt",
    "cifar10/Wang2023Better_WRN-70-16": "cifar10_linf_wrn70-16.pt",
    "cifar100/Wang2023Better_WRN-28-10": "cifar100_linf_wrn28-10.pt",
    "cifar100/Wang2023Better_WRN-70-16": "cifar100_linf_wrn70-16.pt",
}
_BY_AUTHORS: dict[str, PublishedFile] = {
    "cifar10/Zhang2019Theoretically": PublishedFile(name="model_cifar_wrn.pt", page=TRADES),
    **{
        key: PublishedFile(name=file, page=page, url=f"{folder}/{file}")
        for page, folder, names in (
            (DEEPMIND, DEEPMIND_FILES, _DEEPMIND_NAMES),
            (WANG, WANG_FILES, _WANG_NAMES),
        )
        for key, file in names.items()
    },
}


def _listed(
    dataset: str, architecture: str, name: str, clean: float, robust: float, drive: str
) -> KnownTeacher:
    key = f"{dataset}/{name}"
    usual = {"cifar10": _CIFAR10, "cifar100": _CIFAR100}[dataset]
    mean, std = _NORMALISATION.get(key, usual if architecture.endswith("_swish") else _NONE)
    file = PublishedFile(
        name=f"{name}.pt", page=ROBUSTBENCH, url=f"https://drive.google.com/file/d/{drive}/view"
    )
    return KnownTeacher(
        name=name,
        dataset=dataset,
        architecture=architecture,
        licence="Apache-2.0" if name.startswith(_APACHE) else "MIT",
        clean_accuracy=round(clean / 100, 4),
        autoattack_accuracy=round(robust / 100, 4),
        epsilon="0.031" if key in _EVALUATED_AT_0_031 else "8/255",
        files=(file, _BY_AUTHORS[key]) if key in _BY_AUTHORS else (file,),
        mean=mean,
        std=std,
        unused=_UNUSED.get(key, ()),
    )


TEACHERS: dict[str, KnownTeacher] = {
    f"{dataset}/{name}": _listed(dataset, architecture, name, *figures)
    for (dataset, architecture), rows in _ZOO.items()
    for name, figures in rows.items()
}
"""By `dataset/name`: RobustBench gives the same name to checkpoints of two datasets."""


def teachers_of(dataset: str | None) -> list[KnownTeacher]:
    """The known teachers of a dataset, or all.

    Raises:
        InputError: no teacher of that dataset is known.
    """
    if dataset is not None and dataset not in CLASSES:
        raise InputError(
            f"--dataset {dataset}: no teacher of it is known, expected {' or '.join(CLASSES)}; "
            "leave it out to see all"
        )
    return [teacher for teacher in TEACHERS.values() if dataset in (None, teacher.dataset)]


def teacher_named(name: str, dataset: str | None = None) -> KnownTeacher:
    """The known teacher of a name (`Wong2020Fast` or `cifar10/Wong2020Fast`).

    Raises:
        InputError: unknown, of another dataset, or of two datasets and `dataset` is None.
    """
    if not is_known(name):
        raise InputError(
            f"{name}: no such teacher is known; `ardx teachers` lists the names there are"
        )
    return _one(name, (t for key, t in TEACHERS.items() if name in (key, t.name)), dataset)


def is_known(name: str) -> bool:
    """Whether a teacher has this name."""
    return any(name in (key, teacher.name) for key, teacher in TEACHERS.items())


def teacher_of_file(path: Path, dataset: str | None = None) -> KnownTeacher | None:
    """The known teacher that is published as a file of this name; None where there is none.

    Raises:
        InputError: only of another dataset, or of two datasets and `dataset` is None.
    """
    found = [t for t in TEACHERS.values() if path.name in {file.name for file in t.files}]
    return _one(str(path), found, dataset) if found else None


def teacher_for(path: Path, name: str | None, dataset: str) -> KnownTeacher | None:
    """The known teacher that a file is, by the name that the user gives or by the file's own.

    None where neither is known: `name` may be an architecture, and the file one of ours.

    Raises:
        InputError: a teacher of another dataset.
    """
    if name is None:
        return teacher_of_file(path, dataset)
    return teacher_named(name, dataset) if is_known(name) else None


def _one(what: str, found: Iterable[KnownTeacher], dataset: str | None) -> KnownTeacher:
    found = list(found)
    datasets = " and ".join(teacher.dataset for teacher in found)
    fitting = [teacher for teacher in found if dataset in (None, teacher.dataset)]
    if not fitting:
        raise InputError(
            f"{what}: a teacher of {datasets}, expected one of {dataset}; "
            f"`ardx teachers --dataset {dataset}` lists what there is"
            if dataset in CLASSES
            else f"{what}: a teacher of {datasets}, expected one of {dataset}; give another"
        )
    if len(fitting) > 1:
        raise InputError(f"{what}: a name used for {datasets}; say which with --dataset")
    return fitting[0]
