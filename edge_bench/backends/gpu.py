"""The NVIDIA GPU of this machine, asked through the driver that is there wherever one works.

The driver's own library keeps its functions from release to release, on Jetsons too, where the
CUDA runtime differs between JetPacks and Python packages for it are missing.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from edge_bench.core.errors import CapabilityError, first_line

DRIVER = "libcuda.so.1"
# CU_DEVICE_ATTRIBUTE_... of cuda.h
MULTIPROCESSOR_COUNT, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 75, 76
NAME_LENGTH = 256


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What an engine is bound to.

    Every Orin has the name `Orin` and capability 8.7; only the count of multiprocessors tells a
    Nano from an AGX.
    """

    name: str
    compute_capability: str
    multiprocessors: int


def sm_of(compute_capability: str) -> str:
    """`sm86` of `8.6`."""
    return "sm" + compute_capability.replace(".", "")


def probe_gpu(driver: str = DRIVER, backend: str = "trt") -> Gpu:
    """The first GPU that CUDA shows; `backend` needs it.

    Raises:
        CapabilityError: no driver, or no GPU that it can use.
    """
    try:
        cuda = ctypes.CDLL(driver)
    except OSError as error:
        raise CapabilityError(
            f"--backend {backend} needs an NVIDIA GPU and its driver ({first_line(error)}); run "
            "on a machine that has one, or take --backend ort"
        ) from None
    device = ctypes.c_int()
    _check(cuda.cuInit(0), "cuInit", backend)
    _check(cuda.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet", backend)
    name = ctypes.create_string_buffer(NAME_LENGTH)
    _check(cuda.cuDeviceGetName(name, NAME_LENGTH, device), "cuDeviceGetName", backend)

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        status = cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device)
        _check(status, "cuDeviceGetAttribute", backend)
        return value.value

    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{attribute(CAPABILITY_MAJOR)}.{attribute(CAPABILITY_MINOR)}",
        multiprocessors=attribute(MULTIPROCESSOR_COUNT),
    )


def _check(status: int, call: str, backend: str) -> None:
    if status != 0:
        raise CapabilityError(
            f"--backend {backend} needs an NVIDIA GPU, but the driver answers {call} with error "
            f"{status}; see whether nvidia-smi (on a Jetson: tegrastats) shows one"
        )
