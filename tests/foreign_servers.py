"""Small servers that take and refuse parts of messages as the real ones do; none of them runs a model.

Their shapes and words are those of vLLM's `MediaConnector`, SGLang's pydantic models, llama.cpp's
`oaicompat_chat_params_parse`, Ollama's `FromChatRequest` and `transformers serve`, as published in 2026.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from chat_server import Reply, said
from tideo.models.interface import Controls
from tideo.models.load import load_model
from tideo.types import Answer, Sample, Video
from tideo.video.samplers import sample_frames

IMAGE_TOKENS, FRAME_TOKENS = 64, 16


class Refused(Exception):
    """`status` and the body that is sent."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(str(body))
        self.status, self.body = status, body


@dataclass
class Foreign:
    """Answers "B" and counts tokens. `images` and `videos` (numbers of frames) are what it took of each request.

    `keeps`: how many images it takes, dropping the others without a word. `budget`: the most tokens for all images
    together, which are scaled down to it. `counts`: whether it reports usage.
    """

    take: Callable[[dict[str, Any], Foreign], None]
    keeps: int | None = None
    budget: int | None = None
    counts: bool = True
    images: list[list[Image.Image]] = field(default_factory=list)
    videos: list[list[np.ndarray]] = field(default_factory=list)

    def __call__(self, number: int, request: dict[str, Any]) -> Reply:
        self.images.append([])
        self.videos.append([])
        (message,) = request["messages"]
        text = 0
        try:
            for part in message["content"]:
                if part["type"] == "text":
                    text += len(part["text"]) // 4
                else:
                    self.take(part, self)
        except Refused as refusal:
            return refusal.status, refusal.body
        images = self.images[-1] = self.images[-1][: self.keeps]
        of_images = min(IMAGE_TOKENS * len(images), self.budget or 10**9)
        of_videos = FRAME_TOKENS * sum(map(len, self.videos[-1]))
        return said("B", usage=(20 + text + of_images + of_videos, 1) if self.counts else None)

    def image(self, url: str) -> None:
        head, _, body = url.partition(",")
        assert head == "data:image/png;base64"
        self.images[-1].append(Image.open(io.BytesIO(base64.b64decode(body, validate=True))))

    def video(self, content: bytes | str, *, num_frames: int = 32) -> None:
        self.videos[-1].append(sample_frames(content, num_frames).rgb_THWC)


def _of_data(url: str) -> bytes:
    return base64.b64decode(url.partition(";base64,")[2], validate=True)


def vllm(
    *, num_images: int = 999, num_videos: int = 1, media_path: Path | None = None, **how: Any
) -> Foreign:
    def refused(message: str) -> Refused:
        return Refused(400, {"object": "error", "message": message, "type": "BadRequestError", "code": 400})

    def take(part: dict[str, Any], server: Foreign) -> None:
        if part["type"] == "image_url":
            server.image(part["image_url"]["url"])
            if len(server.images[-1]) > num_images:
                raise refused(f"At most {num_images} image(s) may be provided in one prompt.")
        elif part["type"] == "video_url":
            if not num_videos:
                raise refused("At most 0 video(s) may be provided in one prompt.")
            url = part["video_url"]["url"]
            if url.startswith("data:video/"):
                server.video(_of_data(url))
            elif url.startswith("file:"):
                path = Path(unquote(urlsplit(url).path))
                if media_path is None:
                    raise refused("Cannot load local files without `--allowed-local-media-path`.")
                if media_path not in path.resolve().parents:
                    raise refused(f"The file path {path} must be a subpath of `--allowed-local-media-path`.")
                server.video(str(path))
            else:
                raise refused("The URL must be either a HTTP, data or file URL.")
        else:
            raise refused(f"Unknown part type: {part['type']}")

    return Foreign(take, **how)


def sglang(**how: Any) -> Foreign:
    def take(part: dict[str, Any], server: Foreign) -> None:
        if part["type"] == "image_url":
            server.image(part["image_url"]["url"])
        elif part["type"] == "video_url":
            server.video(_of_data(part["video_url"]["url"]))
        else:
            message = (
                f"Input tag '{part['type']}' found using 'type' does not match any of the expected tags: "
                "'text', 'image_url', 'video_url', 'audio_url'"
            )
            raise Refused(400, {"object": "error", "message": message, "type": "Bad Request", "code": 400})

    return Foreign(take, **how)


def llama_cpp(*, projector: bool = True, **how: Any) -> Foreign:
    def take(part: dict[str, Any], server: Foreign) -> None:
        def refused(code: int, message: str) -> Refused:
            kind = "invalid_request_error" if code == 400 else "server_error"
            return Refused(code, {"error": {"code": code, "message": message, "type": kind}})

        kinds = {"image_url": "image", "input_video": "video"}
        if part["type"] not in kinds:
            raise refused(400, "unsupported content[].type")
        if not projector:
            kind = kinds[part["type"]]
            hint = "hint: if this is unexpected, you may need to provide the mmproj"
            raise refused(500, f"{kind} input is not supported - {hint}")
        if part["type"] == "image_url":
            server.image(part["image_url"]["url"])
        else:
            server.video(base64.b64decode(part["input_video"]["data"], validate=True))

    return Foreign(take, **how)


def ollama(**how: Any) -> Foreign:
    def take(part: dict[str, Any], server: Foreign) -> None:
        if part["type"] != "image_url":
            body = {"message": "invalid message format", "type": "invalid_request_error", "param": None}
            raise Refused(400, {"error": body})
        server.image(part["image_url"]["url"])

    return Foreign(take, **how)


def openais(**how: Any) -> Foreign:
    def take(part: dict[str, Any], server: Foreign) -> None:
        if part["type"] != "image_url":
            message = (
                f"Invalid value: '{part['type']}'. Supported values are: 'text', 'image_url', 'input_audio', "
                "'refusal', 'audio', and 'file'."
            )
            body = {"message": message, "param": "messages[0].content[0].type", "code": "invalid_value"}
            raise Refused(400, {"error": body})
        server.image(part["image_url"]["url"])

    return Foreign(take, **how)


def transformers_serve(*, sees: bool = True, **how: Any) -> Foreign:
    """For a model of text alone it drops pictures; parts that it does not know it drops for every model."""

    def take(part: dict[str, Any], server: Foreign) -> None:
        if part["type"] == "image_url" and sees:
            server.image(part["image_url"]["url"])
        elif part["type"] == "video_url" and sees:
            if not part["video_url"]["url"].startswith("/"):
                raise Refused(500, b"Internal Server Error")
            server.video(part["video_url"]["url"])

    return Foreign(take, **how)


# --- questions to them ---


OPTIONS = ("tea", "a book", "the dishes")


def video_of(file: Path, **segment: float) -> Video:
    return Video(id="v", path=str(file), **segment)


def ask(url: str, file: Path, *args: str, controls: Controls | None = None, **segment: float) -> Answer:
    model = load_model(f"openai:m@{url}", args=["retries=0", *args])
    video, how = video_of(file, **segment), controls or Controls()
    sample = Sample(id="q", video=video, question="what is it", options=OPTIONS)
    (answer,) = model.answer(video, [sample], seen=model.look(video, controls=how), controls=how)
    return answer
