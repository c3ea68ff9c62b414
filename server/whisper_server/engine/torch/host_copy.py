"""What the device has computed, on its way to the host."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HostCopy:
    """Values that a GPU copies to the host while it goes on with what it was told to do after that."""

    values: Tensor
    copied: torch.cuda.Event | None

    @staticmethod
    def of(values: Tensor) -> "HostCopy":
        """Begin to copy; on a CPU there is nothing to copy."""
        if values.device.type == "cpu":
            return HostCopy(values, None)
        copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        copy.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return HostCopy(copy, event)

    def arrived(self) -> Tensor:
        """Wait for this copy alone, not for the steps that were begun since."""
        if self.copied:
            self.copied.synchronize()
        return self.values
