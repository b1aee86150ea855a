"""The GPUs that this machine's drivers show, and why torch uses none of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROC = Path("/proc/driver/nvidia")  # of the NVIDIA driver on Linux
KFD = Path("/sys/class/kfd/kfd/topology/nodes")  # of the AMD driver; a CPU is a node without SIMD units
# What hides devices from a process, by maker.
HIDING = {
    "NVIDIA": ("CUDA_VISIBLE_DEVICES",),
    "AMD": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
}
LEAVE_OUT = "set device=cpu or leave it out"


def seen_by_drivers() -> dict[str, int]:
    """Maker → how many of its GPUs the drivers of this machine show, whatever torch can use of them."""
    nvidia = len(list((PROC / "gpus").glob("*"))) if PROC.is_dir() else _listed_by_nvidia_smi()
    amd = sum("\nsimd_count 0\n" not in path.read_text() for path in KFD.glob("*/properties"))
    return {maker: num for maker, num in (("NVIDIA", nvidia), ("AMD", amd)) if num}


def _listed_by_nvidia_smi() -> int:
    """Also where the driver is no module of this kernel, as in WSL."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return 0
    try:
        done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0  # it is there without a driver that answers
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


def hidden() -> str | None:
    """The environment variable that hides all GPUs of a kind that this machine has; None if none does."""
    for maker in seen_by_drivers():
        for name in HIDING[maker]:
            if os.environ.get(name, "0").strip() in ("", "-1", "NoDevFiles"):
                return f"{name}={os.environ[name]!r}"
    return None


def why_idle() -> str | None:
    """One line if this machine has a GPU and torch finds none: why, and what to do. None if all is well."""
    import torch

    seen = seen_by_drivers()
    if torch.accelerator.is_available() or not seen:
        return None
    here = " and ".join(f"{num} {maker} GPU{'s' if num > 1 else ''}" for maker, num in seen.items())
    them = "them" if sum(seen.values()) > 1 else "it"
    if variable := hidden():
        return f"{here}, hidden by {variable}: unset it to use {them}"
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"{here}, but torch {torch.__version__} is a build for the CPU alone: install the one that "
            "pytorch.org/get-started names for your driver"
        )
    return f"{here}, but torch {torch.__version__} cannot use {them}: {_fault()}"


def absent(device: str) -> str:
    """Why torch has no such device as `device=` names, and what to do, in one line."""
    import torch

    kind = device.partition(":")[0]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if kind == "mps" and sys.platform != "darwin":
        return f"mps is the GPU of a Mac, and this is none; {LEAVE_OUT}"
    if accelerator is not None:
        return f"torch finds {accelerator.type} here; set device={accelerator.type} or leave it out"
    if kind != "cuda":
        return f"torch {torch.__version__} finds no accelerator here; {LEAVE_OUT}"
    if (reason := why_idle()) is not None:
        return reason
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is a build for the CPU alone, and no GPU's driver is found; {LEAVE_OUT}"
    return f"no GPU's driver is found ({_fault()}); {LEAVE_OUT}"


def _fault() -> str:
    """What CUDA says of itself, for example that the driver is too old, in its first sentence."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        text = " ".join(str(error).split())
        advice = "; update the driver, or install a torch for an older CUDA" if "too old" in text else ""
        return text.partition(". ")[0].rstrip(".") + advice
    return "it lists no device"
