"""Any image-text model that vLLM runs in this process, shown a video as the local one is (models/grid/vlm.py)."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tideo.bundled import model_source
from tideo.encoders.known_frames import KnownFrames
from tideo.llms.vllm_library import does_not_start, library
from tideo.models.batching import Batching, BatchSize
from tideo.models.grid.families import family_of, suited
from tideo.models.grid.loading import check_shown, load_processor
from tideo.models.grid.settings import GridSettings
from tideo.models.grid.template import Kind
from tideo.models.grid.vllm_chat import VLLMChat
from tideo.models.grid.vlm import GridVLM, content_of
from tideo.pretrained import FAULTS, OWN_CODE, reason
from tideo.store.files import key_of
from tideo.types import UserError

log = logging.getLogger(__name__)
TOGETHER = 64  # questions that `batch=auto` hands over together; vLLM has batches of its own
# Qwen3-VL's videos get other likelihoods where vLLM normalises the pixels (0.32: by up to 0.3, in float32).
_EXACT = {"mm_device_do_normalize": False}
_NAMED_ANEW = ("clip_vision_model", "siglip_vision_model")  # towers, by transformers 5
# Options that say how much memory and how many devices are used, and not what is computed.
_OF_MACHINE = (
    "data_parallel_size", "distributed_executor_backend", "enable_chunked_prefill", "enable_prefix_caching",
    "enforce_eager", "gpu_memory_utilization", "max_model_len", "max_num_batched_tokens", "max_num_seqs",
    "mm_processor_cache_gb", "pipeline_parallel_size", "tensor_parallel_size",
)  # fmt: skip


class GridVLLM(GridVLM):
    """`engine` is a `vllm.LLM` of this process, `processor` the model's own."""

    def __init__(self, engine: Any, **given: Any) -> None:
        """`given`: as for `GridVLM`."""
        self._limits = limits(given["settings"])
        super().__init__(engine, **given)

    def _chat(self, settings: GridSettings, kind: Kind) -> VLLMChat:  # type: ignore[override]
        needed = limits(settings)
        if any(needed[what] > self._limits[what] for what in needed):
            raise UserError(
                f"{self.name}: vLLM was started for {_in_words(self._limits)}, and these settings show "
                f"{_in_words(needed)}: load the model with them"
            )
        return VLLMChat(self.model, processor=self.processor, name=self.name, kind=kind)

    def _threads(self) -> Any:
        return nullcontext()  # vLLM has threads of its own

    def batch_size(self) -> BatchSize:
        return BatchSize(TOGETHER if self.batching.batch == "auto" else self.batching.batch)

    @classmethod
    def start(
        cls,
        source: str,
        *,
        name: str,
        settings: GridSettings,
        chosen: Collection[str],
        options: Mapping[str, Any],
        batching: Batching,
        known: KnownFrames | None = None,
    ) -> GridVLLM:
        """From a folder or a Hugging Face id; `options` are those of vLLM's engine, `chosen` as for `GridVLM.load`. It
        compares no frames with `known`.

        Raises UserError where vLLM cannot run it, or the model does not take the settings.
        """
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        if processes > 1:
            raise UserError(
                f"{name}: each of {processes} processes would start vLLM on the same GPU: start one process and set "
                "tensor_parallel_size"
            )
        failure = f"the image-text model {source!r} cannot be loaded"
        source = model_source(source, failure=failure)
        vllm = library()
        from transformers import AutoConfig

        try:
            processor = load_processor(source)
            config = AutoConfig.from_pretrained(source, **OWN_CODE)
        except UserError:
            raise
        except FAULTS as error:
            raise UserError(f"{failure}: {reason(error, source)}") from error
        settings = suited(settings, config=config, processor=processor, chosen=chosen)
        check_shown(processor, settings, config=config, name=name)
        if not family_of(config).several_alike and limits(settings)["image"] > 1:
            raise UserError(
                f"{name}: vLLM cuts each of several images into tiles, and this model was trained on one tile of each: "
                "set look=grid or look=video, or name it without vllm:"
            )
        check_names(Path(source), config=config, name=name)
        saved = config.dtype or config.get_text_config().dtype or "auto"  # vLLM's auto is half precision
        given = {"dtype": str(saved).removeprefix("torch."), **_EXACT, **options}
        if all(given.get(f"{kind}_parallel_size", 1) == 1 for kind in ("tensor", "pipeline", "data")):
            given.setdefault("distributed_executor_backend", "uni")
        try:
            shown = {"limit_mm_per_prompt": limits(settings)}
            _check_look(vllm.EngineArgs(model=source, **shown, **given), settings, name=name)
            with _in_this_process():
                engine = vllm.LLM(model=source, **shown, **given)
            _share_images(engine, processor)
        except UserError:
            raise
        except Exception as error:  # of any kind, and from any of its parts
            raise does_not_start(name, error) from error
        if known is not None:
            log.warning(
                "%s: vLLM gives no features of frames, so none is compared with those of its training", name
            )
        vlm = cls(engine, processor=processor, settings=settings, name=name, key="")
        of_answers = sorted((key, str(value)) for key, value in given.items() if key not in _OF_MACHINE)
        vlm.key = key_of(["vllm", content_of(source, config), of_answers, vlm.chat.template.thought])
        vlm.batching = batching
        return vlm


def limits(settings: GridSettings) -> dict[str, int]:
    """How many images and videos the settings put into one prompt; vLLM keeps memory for so many."""
    if settings.look == "video":
        return {"image": 0, "video": 1}
    return {"image": settings.panels if settings.shows_grids else settings.frames, "video": 0}


def check_names(folder: Path, *, config: Any, name: str) -> None:
    """Raises UserError for a folder with names of weights that vLLM (0.32) does not read.

    transformers 5 writes them into a folder of a model that it has made; of one that it has read, it keeps the names.
    They are those of a tower of CLIP or SigLIP; InternVL's is published without `vision_model`.
    """
    from safetensors import safe_open

    if getattr(config, "vision_config", None) is None or config.vision_config.model_type not in _NAMED_ANEW:
        return

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = file.keys()
        if found := next((of for of in names if of.startswith("vision_tower.embeddings.")), None):
            published = found.replace("vision_tower.", "vision_tower.vision_model.")
            raise UserError(
                f"{name}: {path.name} has {found}, and vLLM reads {published} alone: name it without vllm:, or start "
                "from a published checkpoint, of which a finetuning keeps the names"
            )


def _check_look(args: Any, settings: GridSettings, *, name: str) -> None:
    """Raises UserError if vLLM's class of the model does not take what it is to be shown."""
    from vllm.multimodal import MULTIMODAL_REGISTRY

    config = args.create_model_config()
    if not config.is_multimodal_model:
        raise UserError(f"{name}: vLLM has it as a model of text alone: name an image-text model")
    supported = MULTIMODAL_REGISTRY.get_processing_info(config).supported_mm_limits
    for kind, number in limits(settings).items():
        most = supported.get(kind, 0)
        if most is not None and number > most:
            other = "look=frames, panels or grid" if kind == "video" else "fewer frames, or look=grid"
            raise UserError(
                f"{name}: vLLM's class of it takes {most} {kind}s a prompt, not {number}: set {other}"
            )


def _share_images(engine: Any, processor: Any) -> None:
    """Have vLLM make pixels as the local path does: it would take torchvision's, which resizes otherwise."""
    info = engine.llm_engine.renderer.get_mm_processor().info
    info.get_hf_processor().image_processor = processor.image_processor
    if info.get_hf_processor().image_processor is not processor.image_processor:
        raise RuntimeError("it keeps no processor, so its pixels are not those of the model without vllm:")


def _in_words(of: Mapping[str, int]) -> str:
    return " and ".join(f"{number} {kind}s" for kind, number in of.items())


@contextmanager
def _in_this_process() -> Iterator[None]:
    """An engine in a process of its own leaves the reason why it does not start in that one's log."""
    name = "VLLM_ENABLE_V1_MULTIPROCESSING"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
