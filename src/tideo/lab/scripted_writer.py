"""A writer of Tideos without a language model: a script of the dollhouse behind OpenAI's protocol.

    python -m tideo.lab.scripted_writer --port 8765
    tideo textvid generate --llm openai:scripted@http://127.0.0.1:8765/v1 --pack dollhouse --num 100 --out runs/tideos

It replaces a large model, so the whole way from conditions to a trained model runs on one machine, with known truth.
It reads the prompts of the pack `dollhouse`: the condition names activities (with "only", the video has no others), and
the request's seed determines the episode of the training split. If a pack's `system` contains ONE_WAY, every video uses
the same words for the same thing. The writer remembers its videos, because later prompts ask for questions about them.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from tideo.dollhouse import world
from tideo.dollhouse.captions import episode_tideo
from tideo.dollhouse.distractors import Balance
from tideo.dollhouse.questions import ask
from tideo.dollhouse.script import Episode, sample_episode
from tideo.textvid.writer import WrittenFrame, WrittenVideo, as_text
from tideo.types import Question, Tideo

_CONDITION = re.compile(r"^Think of a video about: (.+)$", re.MULTILINE)
_NUM = re.compile(r"^Ask (\d+) questions", re.MULTILINE)
_LISTED = re.compile(r"^\d+\. (.+) Right answer: (.+)$", re.MULTILINE)
_FRAME = re.compile(r"^\d+\. .+$", re.MULTILINE)
ONE_WAY = "always in the same words"  # in a pack's `system`
_TRIES = 400  # episodes that are tried for a condition


class ScriptedWriter:
    """Prompt → reply. Questions are balanced over all replies, as they are in an exported split."""

    def __init__(self) -> None:
        self._questions: dict[str, tuple[Question, ...]] = {}
        self._balance = Balance()
        self._lock = threading.Lock()

    def reply(self, prompt: str, *, seed: int, system: str = "") -> str:
        """The JSON that the prompt asks for. Raises ValueError for a prompt that is not of the pack."""
        if condition := _CONDITION.search(prompt):
            return self._video(condition[1], seed=seed, one_way=ONE_WAY in system)
        video = "\n".join(_FRAME.findall(prompt.partition("\n\n")[2].partition("\n\n")[0]))
        if video not in self._questions:
            raise ValueError("this video was not written here")
        questions = self._questions[video]
        if wanted := _NUM.search(prompt):
            chosen = random.Random(seed).sample(questions, min(int(wanted[1]), len(questions)))
            listed = [{"question": q.question, "answer": _right(q), "kind": q.kind} for q in chosen]
            return json.dumps({"questions": listed})
        by_text = {(q.question, _right(q)): q for q in questions}
        pairs = _LISTED.findall(prompt.partition("\n\n")[2])
        known = [by_text[pair] for pair in pairs if pair in by_text]
        wrong = [[option for i, option in enumerate(q.options) if i != q.answer] for q in known]
        return json.dumps({"wrong": wrong})

    def _video(self, condition: str, *, seed: int, one_way: bool) -> str:
        rng = random.Random(seed)
        episode = _episode(condition, seed=seed)
        with self._lock:
            questions = tuple(ask(episode, rng, self._balance))
        video = written(episode_tideo(episode, _FirstChoice(seed) if one_way else rng, questions))
        with self._lock:
            self._questions[as_text(video)] = questions
        return video.model_dump_json(exclude_none=True)


class _FirstChoice(random.Random):
    """Always chooses the first of several ways to say a thing."""

    def choice(self, seq: Any) -> Any:
        return seq[0]

    def randrange(self, *_: Any) -> int:
        return 0


def written(tideo: Tideo) -> WrittenVideo:
    """A Tideo as a language model would write it."""
    frames = [
        WrittenFrame(main=f.main, foreground=f.foreground, background=f.background) for f in tideo.frames
    ]
    return WrittenVideo(frames=frames, summary=tideo.summary)


def _episode(condition: str, *, seed: int) -> Episode:
    """The first training episode from `seed` on with an activity of the condition; any episode if it names none."""
    named = {a.id for a in world.ACTIVITIES.values() if any(phrase in condition for phrase in a.phrases)}
    only = condition.startswith("only ")
    for index in count(seed):
        episode = sample_episode("train", index)
        played = {segment.activity for segment in episode.segments}
        fits = played <= named if only else played & named
        if not named or fits or index - seed >= _TRIES:
            return episode
    raise AssertionError


def _right(question: Question) -> str:
    assert question.answer is not None
    return question.options[question.answer]


# --- OpenAI's protocol -----------------------------------------------------------------------------


def completion(text: str, *, messages: Sequence[Mapping[str, Any]], model: str) -> dict[str, Any]:
    """A chat completion. Its usage counts four characters as one token."""
    num_prompt, num_reply = sum(len(str(m["content"])) for m in messages) // 4, len(text) // 4
    return {
        "id": "scripted",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_reply,
            "total_tokens": num_prompt + num_reply,
        },
    }


def serve(port: int = 0) -> ThreadingHTTPServer:
    """A server on loopback that is not running yet; its address is in `server_address`."""
    writer = ScriptedWriter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                request = json.loads(body)
                system, prompt = (message["content"] for message in request["messages"][:2])
                text = writer.reply(prompt, seed=int(request.get("seed") or 0), system=system)
                status, reply = 200, completion(text, messages=request["messages"], model=request["model"])
            except (ValueError, KeyError, IndexError, TypeError) as error:
                status, reply = 400, {"error": {"message": f"not a prompt of this writer: {error}"}}
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8765)
    server = serve(parser.parse_args().port)
    print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
