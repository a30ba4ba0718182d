"""What a device offers."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Device:
    """Resources of an FPGA; `lutram` are the LUTs that can serve as memory (64 bits each).

    Raises ValueError for a negative count.
    """

    name: str
    lut: int
    lutram: int
    flip_flops: int
    bram36: int
    dsp: int

    def __post_init__(self) -> None:
        for kind in ("lut", "lutram", "flip_flops", "bram36", "dsp"):
            count = getattr(self, kind)
            if count < 0:
                raise ValueError(f"device {self.name!r} cannot have {count} {kind}; give 0 or more")


# Xilinx data sheets DS180 (Artix-7) and DS890 (Kintex UltraScale)
DEVICES = {
    device.name: device
    for device in (
        Device("xc7a35t", 20_800, 9_600, 41_600, 50, 90),
        Device("xc7a100t", 63_400, 19_000, 126_800, 135, 240),
        Device("xcku060", 331_680, 146_880, 663_360, 1_080, 2_760),
    )
}


def device(name: str) -> Device:
    """Return a known device; ValueError, naming the nearest, for an unknown name."""
    try:
        return DEVICES[name.lower()]
    except KeyError:
        near = get_close_matches(name.lower(), DEVICES, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"unknown device {name!r}; known devices: {', '.join(sorted(DEVICES))} (nearest: "
            f"{near}), or describe your own with dnc_hw.Device"
        ) from None
