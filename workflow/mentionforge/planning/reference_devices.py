"""Reference devices for estimates of cost: figures of their data sheets, and the share of them that is assumed to be reached.

In: a name, as `--device` takes it. Out: a `Device`, which turns operations into seconds. Knows no device of this machine but whether it has a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from mentionforge.errors import UserError


@dataclass(frozen=True)
class Device:
    """A device: the figures of its data sheet, and what is assumed about it.

    Attributes:
        name: What `--device` calls it.
        flops: Dense 16-bit operations per second at most (a CPU: 32-bit).
        bandwidth: Bytes per second of its memory at most.
        memory: Bytes of memory; None: as much as is needed.
        float32: 32-bit operations as a share of `flops`.
        use: Share of `flops` that training and reading reach.
        moved: Share of `bandwidth` that is reached.
        step_s: Seconds that starting the kernels of one layer takes, forward; a training step takes three times that.
        gpu: Whether it is a GPU.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float | None = None
    float32: float = 1 / 16
    use: float = 0.3
    moved: float = 0.6
    step_s: float = 0.8e-3
    gpu: bool = True

    @property
    def assumed(self) -> str:
        """The assumed figures in one line, as reports print them."""
        speed = f"{self.flops / 1e12:,.3g} TFLOP/s x {self.use:.0%}, {self.bandwidth / 1e9:,.0f} GB/s x {self.moved:.0%}"
        return f"{self.name}: {speed}, {self.step_s * 1e3:.1f} ms to start a layer (three times that in training)"

    def seconds(self, flops: float, share: float = 1.0) -> float:
        """Seconds that a number of operations takes; `share`: the speed as a share of the 16-bit speed."""
        return flops / (self.flops * share * self.use)


DEVICES = {
    device.name: device
    for device in (
        Device("A100-80GB", 312e12, 2.04e12, 80e9),
        Device("A100-40GB", 312e12, 1.56e12, 40e9),
        Device("H100-80GB", 989e12, 3.35e12, 80e9),
        Device("L40S-48GB", 362e12, 0.86e12, 48e9, float32=1 / 4),
        Device("RTX4090-24GB", 165e12, 1.01e12, 24e9, float32=1 / 2),
        Device("V100-32GB", 125e12, 0.90e12, 32e9, float32=1 / 8),
        # Two AVX2 cores at 2.5 GHz: 2 x 2 x 8 multiply-adds a cycle.
        Device("2-cores", 160e9, 20e9, float32=1.0, use=0.4, moved=1.0, step_s=1.5e-3, gpu=False),
    )
}
USUAL, SMALL = "A100-80GB", "2-cores"

LARGE = 1e9
"""Number of weights from which a model needs a GPU in practice."""


def device(name: str) -> Device:
    """The reference device of this name.

    Raises:
        UserError: There is no reference device of this name.
    """
    known = DEVICES.get(name)
    if known is None:
        raise UserError("unknown device", f"--device {name}", "no figures of it", f"name one of {', '.join(DEVICES)}")
    return known
