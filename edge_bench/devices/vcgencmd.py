"""The Raspberry Pi's firmware, asked through `vcgencmd`.

Each question starts a program, which takes milliseconds of a core, so they are few: not three a
second for power, which sysfs does not have, and one in two seconds for what sysfs usually has.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from math import isfinite

from edge_bench.core.series import (
    FLAGS,
    POWER,
    TEMPERATURE,
)
from edge_bench.devices.sensors import Channel

POWER_S, STATE_S = 0.35, 2.0
TIMEOUT_S = 1.0
PATIENCE = 3
"""Questions in a row without an answer, after which no more are asked."""

THROTTLED = "get_throttled"
ADC_LINE = re.compile(
    r"^\s*(\S+)_([AV])\s+(?:current|volt)\(\d+\)=(\d+(?:\.\d+)?)[AV]\s*$", re.MULTILINE
)

Parse = Callable[[str], dict[str, int]]


class Vcgencmd:
    """`vcgencmd` of the search path; silent where it is missing, fails or hangs."""

    def __init__(self) -> None:
        self._program = shutil.which("vcgencmd")
        self._failures = 0

    def ask(self, question: str) -> str | None:
        """The answer; None where there is none, and for ever after a question that hung."""
        if self._program is None or self._failures >= PATIENCE:
            return None
        try:
            ended = subprocess.run(  # noqa: S603 - a fixed program without a shell
                [self._program, question],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self._failures = PATIENCE
            return None
        except OSError:
            self._failures += 1
            return None
        answer = ended.stdout.decode(errors="replace")
        # Old firmware ends with 0 and says error=1 error_msg="Command not registered".
        if ended.returncode != 0 or "error=" in answer:
            self._failures += 1
            return None
        self._failures = 0
        return answer


class VcgencmdSource:
    """One question, asked again and again; its channels are those of the first answer."""

    def __init__(self, question: str, quantity: str, parse: Parse, period_s: float) -> None:
        self._vcgencmd, self._question, self._parse = Vcgencmd(), question, parse
        self.period_s = period_s
        self.channels = tuple(Channel(quantity=quantity, name=name) for name in self._answer())

    def read(self) -> list[int | None]:
        """A value per channel; None for those that this answer lacks."""
        answer = self._answer()
        return [answer.get(channel.name) for channel in self.channels]

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self) -> dict[str, int]:
        return self._parse(self._vcgencmd.ask(self._question) or "")


def power_source() -> VcgencmdSource:
    """The rails of the Pi 5's power chip; without channels on other boards."""
    return VcgencmdSource("pmic_read_adc", POWER, rails_uw, POWER_S)


def throttle_source() -> VcgencmdSource:
    """The bits of `get_throttled`."""
    return VcgencmdSource(THROTTLED, FLAGS, _throttled, STATE_S)


def temperature_source() -> VcgencmdSource:
    """The temperature of the SoC."""
    return VcgencmdSource("measure_temp", TEMPERATURE, _temperature, STATE_S)


def rails_uw(answer: str) -> dict[str, int]:
    """Microwatts by rail, of those that have both a current and a voltage.

    EXT5V, the board's input, has a voltage alone: what the board draws is not among them.
    """
    found: dict[str, dict[str, float]] = {}
    for rail, kind, number in ADC_LINE.findall(answer):
        found.setdefault(rail, {})[kind] = float(number)
    watts = {rail: v["A"] * v["V"] for rail, v in found.items() if len(v) == 2}
    return {rail: round(1e6 * power) for rail, power in watts.items() if isfinite(power)}


def throttle_bits() -> int | None:
    """The bits of `get_throttled` now; None where nobody answers."""
    return _throttled(Vcgencmd().ask(THROTTLED) or "").get(THROTTLED)


def _throttled(answer: str) -> dict[str, int]:
    match = re.fullmatch(r"throttled=0x([0-9a-fA-F]{1,8})\s*", answer)
    return {THROTTLED: int(match[1], 16)} if match else {}


def _temperature(answer: str) -> dict[str, int]:
    match = re.fullmatch(r"temp=(\d{1,3}(?:\.\d+)?)'C\s*", answer)
    return {"soc": round(1000 * float(match[1]))} if match else {}


FLAG_NAMES = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of the Raspberry Pi's get_throttled; 16 bits above, whether it has occurred."""


OCCURRED = 16


def flag_names(bits: int) -> tuple[str, ...]:
    """The bits of get_throttled in words."""
    now = [f"{name} now" for bit, name in enumerate(FLAG_NAMES) if bits >> bit & 1]
    past = [
        f"{name} since boot"
        for bit, name in enumerate(FLAG_NAMES)
        if bits >> (bit + OCCURRED) & 1 and not bits >> bit & 1
    ]
    return (*now, *past)
