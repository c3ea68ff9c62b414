"""What goes to the device and what comes from it, without either waiting for the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whisper_server.engine.interface import DeviceLost


@dataclass(frozen=True)
class HostCopy:
    """Values that a GPU copies to the host while it goes on with what it was told to do after that."""

    values: Tensor
    copied: torch.cuda.Event | None

    @staticmethod
    def of(values: Tensor) -> "HostCopy":
        """Begin to copy. What is computed next may lie in the same place."""
        if values.device.type == "cpu":
            return HostCopy(values.clone(), None)
        copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        copy.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return HostCopy(copy, event)

    def arrived(self) -> Tensor:
        """Wait for this copy alone, not for the steps that were begun since.

        Raises DeviceLost: what a GPU was told to do fails after that, and is first heard of here.
        """
        if self.copied:
            try:
                self.copied.synchronize()
            except torch.AcceleratorError as problem:
                raise DeviceLost(str(problem).splitlines()[0]) from problem
        return self.values


def upload(values: Sequence[Any] | Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers from the host, on the device when it comes to them: from pageable memory the host would wait for that."""
    here = torch.as_tensor(values, dtype=dtype)
    if device.type == "cpu":
        return here
    return here.pin_memory().to(device, non_blocking=True)
