"""Scoring options after a shared prompt: what computing the prompt once is worth.

    OMP_NUM_THREADS=1 python speed/scoring.py [--repeats 5] [--out scoring.md]

Random Llama models in float32 on one core. Every method scores the same options; their log-likelihoods must
agree with the fair baseline's within 1e-4, or the run fails. The methods take turns within each repeat; the
CPU time (user and system) is the least of the repeats. Two tables: five options after one prompt, and ten
questions of five options about one video.

    published   every option a full padded sequence, logits at every position
    fair        the same, logits only where an option's token is predicted: the baseline of all ratios
    expanded    the prompt once, its key-value cache repeated for a batch of options
    packed      the prompt and all options in one forward under a tree mask
    cached      the prompt into a cache, then all options in one forward under a tree mask
    alone       (ten questions) every question by itself, by the method the library chooses
    shared      (ten questions) the video once into a cache, then each question packed on it

`bound` is the ratio of the tokens that pass the layers, `fair` to the best: a ratio above it owes the rest to
attention, which `fair` also repeats, and to noise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tideo.models.likelihood import OptionScores, option_loglikelihoods
from tideo.models.shared_prefix import question_loglikelihoods

Options = Sequence[Sequence[int]]
Method = Callable[[LlamaForCausalLM, torch.Tensor, Options], OptionScores]

VOCABULARY = 8192
MODELS = {"256 wide, 4 layers": (256, 4), "512 wide, 8 layers": (512, 8)}
CASES = {"letters": 3, "texts": 8}  # tokens of an option: "(", "A", ")" or a short sentence
PROMPTS = (150, 676)  # TOPA's sequence length; a 24 x 24 grid of patches and a question
VIDEO, QUESTION, QUESTIONS = 600, 40, 10
TOLERANCE = 1e-4


def build(hidden: int, layers: int) -> LlamaForCausalLM:
    """A random model whose logits spread as a trained one's do, so that agreement means something."""
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        intermediate_size=8 * hidden // 3 // 32 * 32,
        vocab_size=VOCABULARY,
        initializer_range=hidden**-0.5,
    )
    return LlamaForCausalLM(config).eval()


@torch.inference_mode()
def published(model: LlamaForCausalLM, prefix: torch.Tensor, options: Options) -> OptionScores:
    """Full sequences with all logits, then the log-probabilities where an option stands."""
    width = max(map(len, options))
    rows = [[*prefix.tolist(), *ids, *[0] * (width - len(ids))] for ids in options]
    logprobs = model(input_ids=torch.tensor(rows), use_cache=False).logits.float().log_softmax(-1)
    first = len(prefix) - 1
    sums = [
        sum(logprobs[i, first + j, token].item() for j, token in enumerate(ids))
        for i, ids in enumerate(options)
    ]
    return OptionScores(tuple(sums), tuple(map(len, options)))


def by(method: str | None) -> Method:
    """A scoring method of the library, by name."""
    return lambda model, prefix, options: option_loglikelihoods(
        model, prefix=prefix, options_ids=options, method=method
    )


def each(
    method: Method, model: LlamaForCausalLM, questions: Sequence[tuple[torch.Tensor, Options]]
) -> list[OptionScores]:
    return [method(model, prefix, options) for prefix, options in questions]


def measure(
    runs: Mapping[str, Callable[[], list[OptionScores]]], *, repeats: int
) -> tuple[dict[str, float], float]:
    """Least CPU seconds of each run, and the largest difference of a summed log-likelihood from `fair`."""
    seconds, sums = dict.fromkeys(runs, float("inf")), {}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            scores = run()
            seconds[name] = min(seconds[name], time.process_time() - start)
            sums[name] = torch.tensor([score.sums for score in scores])
    worst = max((values - sums["fair"]).abs().max().item() for values in sums.values())
    if worst > TOLERANCE:
        raise SystemExit(f"log-likelihoods differ by {worst:.1e}, more than {TOLERANCE}")
    return seconds, worst


def header(title: str, names: Sequence[str]) -> list[str]:
    cells = [title, "fair, ms", *names, "bound", "largest difference"]
    return [f"| {' | '.join(cells)} |", "|---" * len(cells) + "|"]


def row(title: str, seconds: Mapping[str, float], names: Sequence[str], bound: float, worst: float) -> str:
    fair = seconds["fair"]
    ratios = [f"{fair / seconds[name]:.2f}x" for name in names]
    cells = [title, f"{fair * 1e3:.0f}", *ratios, f"{bound:.2f}x", f"{worst:.0e}"]
    return f"| {' | '.join(cells)} |"


def five_options(model: LlamaForCausalLM, title: str, *, repeats: int) -> list[str]:
    methods = {"published": published, "fair": by("full")}
    methods |= {name: by(name) for name in FIVE if name != "published"}
    lines = []
    for num_prefix in PROMPTS:
        for case, num_tokens in CASES.items():
            prefix, options = ids(num_prefix), [ids(num_tokens).tolist() for _ in range(5)]
            runs = {
                name: partial(each, method, model, [(prefix, options)]) for name, method in methods.items()
            }
            seconds, worst = measure(runs, repeats=repeats)
            bound = 5 * (num_prefix + num_tokens - 1) / (num_prefix + 5 * (num_tokens - 1))
            lines.append(row(f"{num_prefix} tokens, {case}; {title}", seconds, FIVE, bound, worst))
    return lines


def ten_questions(model: LlamaForCausalLM, title: str, *, repeats: int) -> str:
    video, num_tokens = ids(VIDEO), CASES["letters"]
    questions = [(ids(QUESTION), [ids(num_tokens).tolist() for _ in range(5)]) for _ in range(QUESTIONS)]
    whole = [(torch.cat([video, question]), options) for question, options in questions]
    methods = {"published": published, "fair": by("full"), "alone": by(None)}
    runs = {name: partial(each, method, model, whole) for name, method in methods.items()}
    runs["shared"] = partial(question_loglikelihoods, model, prefix=video, questions=questions)
    seconds, worst = measure(runs, repeats=repeats)
    behind = num_tokens - 1
    bound = QUESTIONS * 5 * (VIDEO + QUESTION + behind) / (VIDEO + QUESTIONS * (QUESTION + 5 * behind))
    return row(title, seconds, TEN, bound, worst)


def ids(num: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, (num,))


FIVE = ("published", "expanded", "packed", "cached")
TEN = ("published", "alone", "shared")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = {title: build(*shape) for title, shape in MODELS.items()}
    lines = header("five options", FIVE)
    for title, model in models.items():
        lines += five_options(model, title, repeats=args.repeats)
    lines += ["", *header(f"ten questions on {VIDEO} tokens", TEN)]
    for title, model in models.items():
        lines.append(ten_questions(model, title, repeats=max(1, args.repeats // 2)))
    text = "\n".join(lines)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
