"""The one error family of ardx; a command line turns it into a sentence and an exit code."""

from __future__ import annotations

import copyreg
import errno
import os
from typing import Any

EXIT_PASS = 0
EXIT_GATE_FAILED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_INCONCLUSIVE = 4


FULL = "free space there, or name a place with more"
FORBIDDEN = "make it readable and writable for you, or name a place that is"
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EROFS: FORBIDDEN,
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a file stands where the path has a folder: check the path",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another place, or remove what is there",
    errno.ENOTEMPTY: "name another place, or remove what is there",
    errno.ELOOP: "its links lead to one another: check the path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
    errno.ENOMEM: "free memory, or lower the batch size",
    errno.EIO: "see that the disk is whole and still there",
}
"""What people can do about a failed call of the operating system, by its errno."""


class ArdxError(Exception):
    """What the user can mend, in one sentence: what was expected, what came, the remedy."""

    exit_code: int = EXIT_USAGE

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with the sentence alone, and some take more: an error that
        # another process raised would then be told as that process's death.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class InputError(ArdxError):
    """A file or an option is wrong (exit 2)."""


class CapabilityError(ArdxError):
    """This environment or device cannot do what was asked (exit 3)."""

    exit_code = EXIT_ENVIRONMENT


class InconclusiveError(ArdxError):
    """The measurement cannot decide the question (exit 4)."""

    exit_code = EXIT_INCONCLUSIVE


LONGEST_QUOTE = 400
"""Characters of a foreign exception's text that a sentence quotes."""


def first_line(error: BaseException) -> str:
    """The first line of a foreign exception's text, fit to be quoted inside a sentence."""
    text = str(error).strip()
    if not text:
        return type(error).__name__
    # Some quote all of the file that they could not read.
    line = text.splitlines()[0].rstrip(".")
    return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE]}..."


def os_sentence(error: OSError, where: str = "the output") -> str:
    """What the operating system refused: the file, its reason, and what can be done about it.

    `where` stands in for a file that the error does not name.
    """
    named = error.filename
    place = os.fsdecode(named) if isinstance(named, str | bytes | os.PathLike) else where
    remedy = REMEDIES.get(error.errno or 0, "see that it can be read and written there")
    return f"{place}: {error.strerror or first_line(error)}; {remedy}"
