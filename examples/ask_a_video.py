"""Render one episode that no model has seen and ask about it.

python examples/ask_a_video.py
"""

import random
from pathlib import Path

from tideo.dollhouse.distractors import Balance
from tideo.dollhouse.questions import ask
from tideo.dollhouse.render import render_video
from tideo.dollhouse.script import sample_episode
from tideo.evaluate.ask import ask as answer
from tideo.models.load import load_model

video = Path("episode.mp4")
episode = sample_episode("test", 34)  # of 15 seconds
render_video(episode, video)
model = load_model("dollhouse-topa")
for question in ask(episode, random.Random(0), Balance()):
    result = answer(str(video), question=question.question, options=question.options, model=model)
    sign = "right" if result["choice"] == question.answer else "wrong"
    print(f"{question.kind:12} {question.question}  →  {result['answer']}  ({sign})")
