"""What works on this machine: versions, device, codecs, cache, extras, bundled models."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tideo import registry
from tideo.device import has_bfloat16
from tideo.runs import git_commit, versions

# The codecs that the videos of the benchmarks come in; the encoder writes the dollhouse.
DECODERS = ("h264", "hevc", "av1", "vp9")
ENCODERS = ("libx264",)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report. `ok` is False where Tideo cannot do its work, None where it only tells."""

    area: str
    name: str
    told: str
    ok: bool | None = None


def doctor() -> list[Check]:
    """Look at everything; never raises for what it finds missing."""
    return [*_versions(), _device(), *_codecs(), _cache(), *_extras(), *_models()]


def _versions() -> list[Check]:
    system = Check(area="system", name="platform", told=platform.platform())
    commit = Check(area="system", name="commit", told=git_commit() or "installed, not a checkout")
    return [system, commit, *(Check(area="version", name=n, told=v) for n, v in versions().items())]


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        told = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    elif torch.backends.mps.is_available():
        told = "mps"
    else:
        told = (
            f"cpu, {torch.get_num_threads()} threads, {'' if has_bfloat16() else 'no '}bfloat16 instructions"
        )
    return Check(area="device", name="torch", told=told, ok=True)


def _codecs() -> list[Check]:
    from av.codec import Codec
    from av.error import FFmpegError

    def check(name: str, mode: Literal["r", "w"]) -> Check:
        try:
            told, ok = f"{Codec(name, mode).name} {'decoder' if mode == 'r' else 'encoder'}", True
        except (FFmpegError, ValueError):  # UnknownCodecError is a ValueError
            told, ok = "missing: this build of PyAV has no such codec; install PyAV from its wheel", False
        return Check(area="codec", name=name, told=told, ok=ok)

    return [check(name, "r") for name in DECODERS] + [check(name, "w") for name in ENCODERS]


def _cache() -> Check:
    from huggingface_hub.constants import HF_HUB_CACHE

    # The folder is made on first use: what counts is whether its nearest existing parent takes a file.
    folder = Path(HF_HUB_CACHE)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        told = f"{folder} cannot be written ({error.strerror}): set HF_HOME to a folder that can"
        return Check(area="cache", name="hub", told=told, ok=False)
    return Check(area="cache", name="hub", told=str(folder), ok=True)


def _extras() -> list[Check]:
    by_extra: dict[str, list[str]] = {}
    for module, extra in registry.EXTRAS.items():
        by_extra.setdefault(extra, []).append(module)
    checks = []
    for extra, modules in sorted(by_extra.items()):
        absent = [module for module in modules if find_spec(module) is None]
        told = f"absent: pip install 'tideo[{extra}]'" if absent else "present"
        checks.append(Check(area="extra", name=extra, told=told))
    return checks


def _models() -> list[Check]:
    assets = Path(str(files("tideo") / "assets"))
    weights = sorted(assets.rglob("*.safetensors"))
    if not weights:
        told = f"absent from {assets}: install Tideo from its wheel or a full checkout"
        return [Check(area="model", name="bundled", told=told, ok=False)]
    return [
        Check(
            area="model",
            name=str(path.parent.relative_to(assets)),
            told=f"{path.stat().st_size / 1e6:.1f} MB",
            ok=True,
        )
        for path in weights
    ]
