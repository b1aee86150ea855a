"""Several processes of one run, as `accelerate launch` or `torchrun` starts them; usually there is one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

PATIENCE = timedelta(days=30)  # how long a process waits for the others; NCCL's own limit is ten minutes


@dataclass(frozen=True)
class Processes:
    """This is process `rank` of `size`; the first one reads and writes what all share."""

    rank: int
    size: int

    @classmethod
    def launched(cls) -> Processes:
        """As the launcher sets them in the environment."""
        return cls(rank=int(os.environ.get("RANK", "0")), size=int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Return when all processes have called this."""
        if self.size > 1:
            import torch
            from accelerate import PartialState  # type: ignore[import-untyped]

            # On the CPU Accelerate sees one process, and would not wait, unless it is told.
            on_cpu = os.environ.get("ACCELERATE_USE_CPU") == "true" or not torch.accelerator.is_available()
            state = PartialState(cpu=on_cpu, timeout=PATIENCE)
            assert state.num_processes == self.size, f"{state.num_processes} of {self.size} processes"
            state.wait_for_everyone()

    def leave(self) -> None:
        """Close what connects the processes, the last that each does: threads that still listen may abort an exit."""
        if self.size > 1:
            import torch.distributed

            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
