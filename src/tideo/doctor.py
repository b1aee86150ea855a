"""What works on this machine: versions, device, codecs, cache, extras, bundled models."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from tideo import registry
from tideo.bundled import ASSETS
from tideo.device import has_bfloat16
from tideo.gpus import hidden, why_idle
from tideo.loading import Loading
from tideo.models.load import shipped
from tideo.models.parts import parts
from tideo.runs import git_commit, versions
from tideo.types import UserError

# The videos of the benchmarks come in these codecs; the encoder is for videos that tideo renders.
DECODERS = ("h264", "hevc", "av1", "vp9")
ENCODERS = ("libx264",)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report. `ok` is False if Tideo cannot work like this, None if the line is only information."""

    area: str
    name: str
    detail: str
    ok: bool | None = None


def doctor(models: Sequence[str] = (), *, args: Sequence[str] = ()) -> list[Check]:
    """Run all checks. Something that is missing is a failed check, never an exception.

    `models`: what these would use with the settings `args`, key=value pairs, besides the ones known by name.
    """
    return [
        *_versions(), _entry_points(), *_devices(), *_codecs(), _cache(), *_extras(), *_models(),
        *(_uses(name) for name in shipped()), *(_uses(name, args=args) for name in models),
    ]  # fmt: skip


def _versions() -> list[Check]:
    system = Check(area="system", name="platform", detail=platform.platform())
    commit = Check(area="system", name="commit", detail=git_commit() or "installed, not a checkout")
    return [system, commit, *(Check(area="version", name=n, detail=v) for n, v in versions().items())]


def _entry_points() -> Check:
    """The names that come in through entry points, ours among them, are known to an installed package only."""
    groups = [f"tideo.{kind}" for kind in ("models", "tideos", "conversations", "frames")]
    missing = [group for group in groups if not entry_points(group=group)]
    detail = f"no {', '.join(missing)}: install tideo again (pip install -e . in a checkout)"
    return Check(area="system", name="entry points", detail=detail if missing else "found", ok=not missing)


def _devices() -> list[Check]:
    """Each GPU that torch finds, or the CPU; and a GPU that would lie idle, which is a failure unless it is hidden."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        detail = (
            f"cpu, {torch.get_num_threads()} threads, {'' if has_bfloat16() else 'no '}bfloat16 instructions"
        )
        found = [Check(area="device", name="torch", detail=detail, ok=True)]
    else:
        devices = [torch.device(accelerator.type, i) for i in range(torch.accelerator.device_count())]
        found = [Check(area="device", name=str(d), detail=_described(d), ok=True) for d in devices]
        if len({check.detail for check in found}) > 1:
            detail = (
                "the GPUs differ: each of several processes gets as much work, so the smallest one limits all"
            )
            found.append(Check(area="device", name="mixed", detail=detail))
    if (reason := why_idle()) is not None:
        found.append(Check(area="device", name="idle GPU", detail=reason, ok=None if hidden() else False))
    try:
        Loading().torch_device()
    except UserError as error:  # more processes than devices
        found.append(Check(area="device", name="processes", detail=str(error), ok=False))
    return found


def _described(device: Any) -> str:
    """Name, memory and number format of a GPU, as far as torch tells them."""
    import torch

    module = torch.get_device_module(device)
    name = module.get_device_name(device) if hasattr(module, "get_device_name") else device.type
    memory = f", {module.mem_get_info(device)[1] / 1e9:.0f} GB" if hasattr(module, "mem_get_info") else ""
    return f"{name}{memory}, {'' if has_bfloat16(device) else 'no '}bfloat16"


def _codecs() -> list[Check]:
    from av.codec import Codec
    from av.error import FFmpegError

    def check(name: str, mode: Literal["r", "w"]) -> Check:
        try:
            detail, ok = f"{Codec(name, mode).name} {'decoder' if mode == 'r' else 'encoder'}", True
        except (FFmpegError, ValueError):  # UnknownCodecError is a ValueError
            detail, ok = "missing: this build of PyAV has no such codec; install PyAV from its wheel", False
        return Check(area="codec", name=name, detail=detail, ok=ok)

    return [check(name, "r") for name in DECODERS] + [check(name, "w") for name in ENCODERS]


def _cache() -> Check:
    from huggingface_hub.constants import HF_HUB_CACHE

    # The folder is created on first use, so a file in its nearest existing parent is the test.
    folder = Path(HF_HUB_CACHE)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        detail = f"{folder} cannot be written ({error.strerror}): set HF_HOME to a folder that can be"
        return Check(area="cache", name="hub", detail=detail, ok=False)
    return Check(area="cache", name="hub", detail=str(folder), ok=True)


def _extras() -> list[Check]:
    by_extra: dict[str, list[str]] = {}
    for module, extra in registry.EXTRAS.items():
        by_extra.setdefault(extra, []).append(module)
    checks = []
    for extra, modules in sorted(by_extra.items()):
        absent = [module for module in modules if find_spec(module) is None]
        detail = f"absent: pip install 'tideo[{extra}]'" if absent else "present"
        checks.append(Check(area="extra", name=extra, detail=detail))
    return checks


def _models() -> list[Check]:
    weights = sorted(ASSETS.rglob("*.safetensors"))
    if not weights:
        detail = f"absent from {ASSETS}: install Tideo from its wheel or a full checkout"
        return [Check(area="model", name="bundled", detail=detail, ok=False)]
    return [
        Check(
            area="model",
            name=str(path.parent.relative_to(ASSETS)),
            detail=f"{path.stat().st_size / 1e6:.1f} MB",
            ok=True,
        )
        for path in weights
    ]


def _uses(name: str, *, args: Sequence[str] = ()) -> Check:
    """What a model would use here; a setting that this machine does not take is a failure."""
    try:
        return Check(area="uses", name=name, detail="; ".join(parts(name, args=args)), ok=True)
    except UserError as error:
        return Check(area="uses", name=name, detail=str(error), ok=False)
