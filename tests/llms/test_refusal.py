"""What a server says of a part of a message that it does not take, and what is advised."""

from __future__ import annotations

import json

import pytest

from tideo.llms.refusal import hopeless, read_refusal


def advice(message: str, *parts: str, status: int = 400) -> str | None:
    refusal = read_refusal(status, json.dumps({"error": {"message": message}}).encode())
    assert refusal is not None
    return hopeless(refusal, sent={"model", "messages", "user", "text", *parts})


@pytest.mark.parametrize(
    "message",
    [
        "At most 0 video(s) may be provided in one prompt.",
        "The model only supports at most 0 video items, but you passed 1 video items in the same prompt.",
        "unsupported content[].type", "invalid message format", "Video input is not supported by this model",
        "this model does not support video", "The model doesn't support multimodal input",
        "Invalid value: 'video_url'. Supported values are: 'text', 'image_url'", "videos are unsupported",
        "messages[0]: unknown variant `video_url`, expected `text` or `image_url`",
        "Input tag 'video_url' found using 'type' does not match any of the expected tags: 'text'",
        "body.messages.0.content.0.video_url: Input should be 'text'",
    ],
)  # fmt: skip
def test_a_server_without_videos(message: str) -> None:
    assert "set send=frames" in str(advice(message, "video_url"))
    assert advice(message, "image_url") is None, "it is about a video that was not sent"


@pytest.mark.parametrize(
    "message",
    [
        "Failed to decode the video at index 0", "the video is too long", "does not support video codec vp9",
        "Unsupported pixel format in video stream", "image 3 is too large", "the video_url took too long to load",
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_file_ends_no_run(message: str) -> None:
    assert advice(message, "video_url", "image_url") is None


def test_local_files_and_numbers_of_images() -> None:
    for message in (
        "Cannot load local files without `--allowed-local-media-path`.",
        "this server opens no files; its owner allows a folder of them by --media-dir",
    ):
        assert "set video_as=data" in str(advice(message, "video_url"))
    few = "At most 4 image(s) may be provided in one prompt."
    assert "--limit-mm-per-prompt" in str(advice(few, "image_url"))
    assert advice(few) is None
    assert "takes no images" in str(advice("At most 0 image(s) may be provided", "image_url"))
