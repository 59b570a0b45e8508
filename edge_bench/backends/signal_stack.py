"""The stack on which Linux runs a thread's signal handlers, kept as it was.

OpenVINO's CPU plug-in puts one of its own in place of it, which it takes out of memory when it is
done, but leaves in force: the next signal, Ctrl-C for one, then ends the process by a segmentation
fault, since Python asks for its handlers to run there.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

DISABLED = 2
"""SS_DISABLE of signal.h: handlers run on the thread's own stack."""


class _Stack(ctypes.Structure):
    """`stack_t` of signal.h."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("pointer", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    ]


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give the calling thread its alternate signal stack back, whoever replaces it within."""
    if not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None)
    before = _Stack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        if libc.sigaltstack(ctypes.byref(before), None) != 0:
            # Too small for what the processor now keeps in a signal's frame.
            libc.sigaltstack(ctypes.byref(_Stack(flags=DISABLED)), None)
