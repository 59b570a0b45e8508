"""Training that starts from trained weights: as they are, or quantised as they will be deployed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
from torch import nn

from ard.data.datasets import matched
from ard.data.splits import Dataset, as_float, calibration_part, training_and_validation
from ard.learning.config import TrainConfig
from ard.models.checkpoints import Reading, Tell
from ard.models.downloads import is_name, published_file
from ard.models.predict import NotFiniteError, predict
from ard.models.pretrained import load_pretrained
from ard.models.sizes import check_fits
from ard.models.weight_files import load_model
from deploy.onnx_export.export import export_fp32
from deploy.qat.qdq_layout import arrays_of
from deploy.qat.qdq_network import QDQNetwork
from deploy.quantization.quantize import Quantiser
from edge_bench.core.classes import require_same
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.store import sha256_file

CALIBRATION_IMAGES = 512


@dataclass(frozen=True, kw_only=True)
class Start:
    """The network that training starts from, and the file it came from."""

    model: nn.Module
    sha256: str
    card: ModelCard | None = None


def load_start(path: Path, config: TrainConfig, dataset: Dataset) -> Start:
    """Load weights written by ardx, to go on from; quantised for `config.qat` where it is set.

    Raises:
        InputError: unreadable, of another architecture or dataset, or quantised already.
    """
    model, card = load_model(path)
    if card.architecture != config.architecture:
        raise InputError(
            f"--init {path}: holds a {card.architecture}, but the student is a "
            f"{config.architecture}; leave --student out, or give weights of that architecture"
        )
    matched(path, card, dataset)
    if card.classes != dataset.classes:
        # A part is enough to judge a model by, but it would forget the others.
        require_same(card.class_names, dataset.class_names, dataset.name, f"--init {path}")
    if isinstance(model, QDQNetwork):
        raise InputError(
            f"--init {path}: was trained as INT8 for {model.target} already; give the float "
            "weights that it started from"
        )
    if config.qat is not None:
        model = quantised(model, dataset, config.qat, config.seed)
    return Start(model=model.requires_grad_(True), sha256=sha256_file(path), card=card)


def load_pretrained_start(
    path: Path,
    config: TrainConfig,
    dataset: Dataset,
    reading: Reading,
    tell: Tell,
    *,
    download: bool = False,
) -> Start:
    """Load anyone's weights of the student's architecture; another head is made anew.

    Args:
        path: a file, or the name of weights that torchvision or timm publish.
        download: whether those may be fetched.

    Raises:
        InputError: unreadable, or of another architecture.
    """
    check_fits(config.architecture, dataset.image_shape)
    if is_name(path):
        path = published_file(str(path), config.architecture, download=download)
    model = load_pretrained(
        path,
        config.architecture,
        dataset.image_shape,
        dataset.classes,
        seed=config.seed,
        reading=reading,
        tell=tell,
    )
    return Start(model=model.requires_grad_(True), sha256=sha256_file(path))


def quantised(model: nn.Module, dataset: Dataset, target: str, seed: int) -> QDQNetwork:
    """The INT8 graph that plain quantisation makes of `model`, as a network that can be trained.

    Args:
        model: in eval mode, on the CPU.
        target: key of `deploy.quantization.targets.TARGETS`.
        seed: of the calibration images, as `export` draws them.
    """
    training, _ = training_and_validation(dataset)
    images = calibration_part(training, CALIBRATION_IMAGES, seed).images
    try:
        predict(model, as_float(images))
    except NotFiniteError as error:
        raise InputError(f"--init: has no INT8 ranges: {error}") from None
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        export_fp32(model, dataset.image_shape, fp32)
        maker = Quantiser(fp32, Path(folder), images.numpy(), target)
        maker.make(int8)
        floats = arrays_of(onnx.load(maker.prepared).graph)
        return QDQNetwork(onnx.load(int8), target, floats).eval()
