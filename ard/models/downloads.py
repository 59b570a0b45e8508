"""Weights that torchvision and timm publish, by name: from a cache, or fetched where asked for."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision import models as torchvision_models

from ard.models.architectures import ARCHITECTURES
from ard.models.imported import is_imported
from ard.models.timm_networks import hub_id, is_timm
from edge_bench.core.errors import CapabilityError, InputError, first_line

SUFFIXES = (".safetensors", ".pt", ".pth")


def is_name(path: Path) -> bool:
    """Whether what was given for a file of weights is the name of published ones."""
    return path.suffix not in SUFFIXES and path.name == str(path) and not path.exists()


def published_file(name: str, architecture: str, *, download: bool) -> Path:
    """The file of published weights, such as `IMAGENET1K_V1` of torchvision's resnet34.

    Args:
        name: torchvision's of the weights, or timm's tag (`lamb_in1k`, or `default`).
        download: whether the net may be asked for what is in no cache.

    Raises:
        InputError: no such weights, or none in the cache without `download`.
        CapabilityError: the download failed.
    """
    if is_timm(architecture):
        return _timms(name, architecture, download)
    if is_imported(architecture) or architecture.partition(":")[0] in ARCHITECTURES:
        raise InputError(
            f"--pretrained {name}: no such file, and nobody publishes weights of {architecture} by "
            "name; give a file"
        )
    known = torchvision_models.get_model_weights(architecture)
    names = ("DEFAULT", *known.__members__)
    if name not in names:
        raise InputError(
            f"--pretrained {name}: no such file, and torchvision's weights of {architecture} are "
            f"{', '.join(dict.fromkeys(names))}"
        )
    url = known[name].url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / str(url).rpartition("/")[2]
    if not path.exists():
        _require_download(name, path, download)
        folder.mkdir(parents=True, exist_ok=True)
        # torch's own: it writes whole files only, and compares them with the digest in their name.
        try:
            torch.hub.load_state_dict_from_url(url, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise _failed(name, url, error) from None
    return path


def _timms(tag: str, architecture: str, download: bool) -> Path:
    repository = hub_id(architecture, tag)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, "model.safetensors", local_files_only=not download))
    except LocalEntryNotFoundError as error:
        _require_download(tag, Path(repository), download)
        raise _failed(tag, repository, error) from None
    except OSError as error:
        raise _failed(tag, repository, error) from None


def _require_download(name: str, place: Path, download: bool) -> None:
    if not download:
        raise InputError(
            f"--pretrained {name}: {place} is not in the cache, and nothing is downloaded unasked; "
            "add --download, or give a file"
        )


def _failed(name: str, place: str, error: Exception) -> CapabilityError:
    return CapabilityError(
        f"--pretrained {name}: {place} could not be downloaded ({first_line(error)}); try again, "
        "or give a file"
    )
