"""The PrefixLM from prompt text to saved files, on tiny models built here; and the prompts it reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from tideo.models.prompts import (
    FORMS,
    IGNORE,
    STYLES,
    answer_prompt,
    choose_prompt,
    encode,
    style,
    summary_prompt,
)
from tideo.models.topa.checkpoint import PrefixLMConfig, find_llm, load_llm, read_config
from tideo.models.topa.llama_adapter import attention_layers
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.questions import question_loglikelihoods
from tideo.train.topa.init_projection import ridge_projection
from tideo.train.topa.tasks import collate_examples
from tideo.types import Features, Frames, UserError

ADAPTERS = ("llama-adapter", "lora", "none")
PADS = ("zeros", "spread", "time")
OPTIONS = ("a cat", "the dog", "two red birds")
PROMPT = choose_prompt("what is it", OPTIONS, style=STYLES["plain"])


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token per byte, except that a space and a letter behind it are one, as in most vocabularies."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", letter) for letter in "abcdefghijklmnopqrstuvwxyz("]
    pieces = ["<pad>", "<s>", "</s>", *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


@pytest.fixture(scope="module")
def llm_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama that has read the prompt with each answer a few dozen times, so that a video can choose."""
    directory = tmp_path_factory.mktemp("models") / "llm"
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        vocab_size=288,
        max_position_embeddings=256,
        initializer_range=0.15,
    )
    llm, tokenizer = LlamaForCausalLM(config), byte_tokenizer()
    tokens = encode(tokenizer, PROMPT, continuations=OPTIONS)
    examples = [
        {"ids": [*tokens.before, *tokens.after, *answer], "answer": len(answer)}
        for answer in tokens.continuations
    ]
    optimizer = torch.optim.AdamW(llm.parameters(), lr=1e-2)
    for step in range(90):
        example = examples[step % len(examples)]
        ids = torch.tensor([example["ids"]])
        labels = ids.clone()
        labels[:, : -example["answer"]] = IGNORE
        llm(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    llm.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def build(llm_dir: Path, **changes: Any) -> PrefixLM:
    torch.manual_seed(1)
    fields = {
        "llm": str(llm_dir),
        "encoder": "tiny-clip",
        "feature_dim": 16,
        "max_frames": 6,
        "adapter_len": 4,
    }
    config = PrefixLMConfig(**{**fields, **changes})
    llm, tokenizer = load_llm(config.llm)
    return PrefixLM(config, llm=llm, tokenizer=tokenizer).eval()


def disturbed(model: PrefixLM) -> PrefixLM:
    """Away from the start values, where an adapter does nothing."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def video(num_frames: int, *, seed: int = 0) -> torch.Tensor:
    values = torch.randn(num_frames, 16, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=-1)


def features_of(num: int, *, pts_s: Sequence[float], bounds_s: tuple[float, float]) -> Features:
    frames = Frames(
        rgb_THWC=np.zeros((num, 2, 2, 3), np.uint8), pts_s_T=np.array(pts_s), video_id="v", bounds_s=bounds_s
    )
    return Features(
        values_TD=video(num).numpy(),
        pts_s_T=frames.pts_s_T,
        modality="image",
        encoder="tiny-clip",
        places_T=frames.places_T,
    )


@pytest.mark.parametrize("pad_frames", PADS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_training_and_scoring_see_the_same_sequence(llm_dir: Path, adapter: str, pad_frames: str) -> None:
    """The loss of an example is the mean negative log-likelihood that scoring gives, however padded."""
    model = disturbed(build(llm_dir, adapter=adapter, pad_frames=pad_frames))
    examples = [
        model.encode_example(video(num), prompt=PROMPT, answer=answer)
        for num, answer in zip((2, 6, 3), OPTIONS, strict=True)
    ]
    scores = [
        model.loglikelihoods(video(num), prompt=PROMPT, options=[o])
        for num, o in zip((2, 6, 3), OPTIONS, strict=True)
    ]
    with torch.no_grad():
        for example, score in zip(examples, scores, strict=True):
            expected = -score.sums[0] / score.counts[0]
            assert model(**collate_examples([example])).loss.item() == pytest.approx(expected, abs=1e-4)
        batch = model(**collate_examples(examples)).loss.item()
    total, count = sum(s.sums[0] for s in scores), sum(s.counts[0] for s in scores)
    assert batch == pytest.approx(-total / count, abs=1e-4)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_scoring_methods_and_shared_video_agree(llm_dir: Path, adapter: str) -> None:
    model = disturbed(build(llm_dir, adapter=adapter))
    expected = model.loglikelihoods(video(4), prompt=PROMPT, options=OPTIONS, method="full")
    other = answer_prompt("where", style=STYLES["plain"])
    (shared,) = question_loglikelihoods(
        model, [(video(4), [(PROMPT, OPTIONS), (other, OPTIONS), (PROMPT, OPTIONS)])]
    )
    for got in (
        shared[0],
        shared[2],
        *(
            model.loglikelihoods(video(4), prompt=PROMPT, options=OPTIONS, method=m)
            for m in ("packed", "cached", "expanded")
        ),
    ):
        assert got.sums == pytest.approx(expected.sums, abs=1e-4)
        assert got.counts == expected.counts
    assert shared[1].sums == pytest.approx(
        model.loglikelihoods(video(4), prompt=other, options=OPTIONS).sums, abs=1e-4
    )
    assert shared[1].sums != pytest.approx(expected.sums, abs=1e-2)


def test_questions_without_a_common_start_are_scored_one_by_one(llm_dir: Path) -> None:
    model = disturbed(build(llm_dir))
    questions = [
        ("One <video> two ", ["x", "y"]),
        ("Three <video> four ", ["x", "y"]),
        ("One <video>", ["x", "y"]),
    ]
    (got,) = question_loglikelihoods(model, [(video(4), questions)])
    assert got == [model.loglikelihoods(video(4), prompt=p, options=o) for p, o in questions]


def test_no_questions_have_no_scores(llm_dir: Path) -> None:
    model = build(llm_dir)
    assert question_loglikelihoods(model, []) == []
    assert question_loglikelihoods(model, [(video(4), []), (None, [])]) == [[], []]


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_questions_about_several_videos_score_as_alone(llm_dir: Path, adapter: str, at_once: int) -> None:
    """Videos of unlike lengths and none, prompts of unlike lengths before the video and after it."""
    model = disturbed(build(llm_dir, adapter=adapter))
    other = answer_prompt("where does he go after all of that", style=STYLES["plain"])
    asked = [
        (video(4), [(PROMPT, OPTIONS), (other, OPTIONS[:1])]),
        (None, [(other, OPTIONS)]),
        (video(2), [(f"A longer start. {PROMPT}", OPTIONS)]),
        (video(3), [("One <video> two ", ["x"]), ("Three <video> four ", ["y"])]),  # these share no start
        (video(1), []),
    ]
    together = question_loglikelihoods(model, asked, at_once=at_once)
    for (features, questions), scores in zip(asked, together, strict=True):
        for (prompt, options), got in zip(questions, scores, strict=True):
            expected = model.loglikelihoods(features, prompt=prompt, options=options, method="full")
            assert got.counts == expected.counts
            assert got.sums == pytest.approx(expected.sums, abs=1e-4)


def test_the_adapter_reads_quantised_projections(llm_dir: Path) -> None:
    """Weights in 4 bits are bytes, whose dtype says nothing of what goes in."""

    class Quantised(torch.nn.Module):
        def __init__(self, linear: torch.nn.Linear) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
            self.whole = linear.weight.detach().clone()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.is_floating_point()
            return torch.nn.functional.linear(x, self.whole)

    model = disturbed(build(llm_dir, adapter="llama-adapter"))
    expected = model.loglikelihoods(video(4), prompt=PROMPT, options=OPTIONS)
    for attention in attention_layers(model.llm):
        attention.k_proj, attention.v_proj = Quantised(attention.k_proj), Quantised(attention.v_proj)
    assert model.loglikelihoods(video(4), prompt=PROMPT, options=OPTIONS) == expected
    batch = collate_examples([model.encode_example(video(4), prompt=PROMPT, answer="a cat")])
    model.train()(**batch).loss.backward()
    assert model.adapter is not None
    assert model.adapter.query_LAD.grad is not None


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_bfloat16_and_gradient_checkpointing(llm_dir: Path, adapter: str) -> None:
    """As on a GPU: a bfloat16 LLM, float32 trained parts; checkpointing changes no gradient."""
    gradients = []
    for checkpointing in (False, True):
        model = disturbed(build(llm_dir, adapter=adapter, dtype="bfloat16")).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(
            **collate_examples([model.encode_example(video(4), prompt=PROMPT, answer="a cat")])
        ).loss.backward()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert all(p.dtype == torch.float32 and p.grad is not None for p in trained.values())
        gradients.append({name: p.grad for name, p in trained.items()})
    assert gradients[0]["visual_proj.weight"].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0])
    expected = model.eval().loglikelihoods(video(4), prompt=PROMPT, options=OPTIONS, method="full")
    got = model.loglikelihoods(video(4), prompt=PROMPT, options=OPTIONS)
    assert got.sums == pytest.approx(expected.sums, rel=0.02)  # bfloat16 has three digits


def test_the_video_matters_and_so_does_its_order(llm_dir: Path) -> None:
    model = disturbed(build(llm_dir, gate_bias=0.0))
    scores = [
        model.loglikelihoods(features, prompt=PROMPT, options=OPTIONS).sums
        for features in (video(6), video(6, seed=1), video(6).flip(0), None)
    ]
    assert all(
        max(abs(a - b) for a, b in zip(left, right, strict=True)) > 1e-3
        for i, left in enumerate(scores)
        for right in scores[:i]
    )
    zeros = model.loglikelihoods(torch.zeros(6, 16), prompt=PROMPT, options=OPTIONS)
    assert zeros.sums == scores[3]


def test_features_arrays_and_tensors_score_alike(llm_dir: Path) -> None:
    model = build(llm_dir)
    features = Features(values_TD=video(3).numpy(), pts_s_T=None, modality="text", encoder="tiny-clip")
    expected = model.loglikelihoods(video(3), prompt=PROMPT, options=OPTIONS)
    assert model.loglikelihoods(features, prompt=PROMPT, options=OPTIONS) == expected
    assert model.loglikelihoods(features.values_TD, prompt=PROMPT, options=OPTIONS) == expected


@pytest.mark.parametrize(
    ("pad_frames", "num_frames", "slots"),
    [("spread", 6, [0, 1, 2, 3, 4, 5]), ("spread", 1, [3]), ("spread", 2, [1, 4]), ("spread", 3, [1, 3, 5])],
)
def test_spread_frames_take_the_middle_of_equal_parts(
    llm_dir: Path, pad_frames: str, num_frames: int, slots: list[int]
) -> None:
    model = build(llm_dir, pad_frames=pad_frames)
    vectors, num_slots = model.video_vectors(video(num_frames)[None], torch.tensor([num_frames]))
    expected = model.visual_proj(video(num_frames)) + model.temporal_emb.weight[slots]
    torch.testing.assert_close(vectors[0], expected)
    assert num_slots.tolist() == [num_frames]


def test_a_frame_takes_the_slot_of_its_time(llm_dir: Path) -> None:
    by_time = build(llm_dir, adapter="none", pad_frames="time", init_std=1.0)
    by_number = build(llm_dir, adapter="none", pad_frames="spread")
    by_number.load_state_dict(by_time.state_dict())
    table = by_time.temporal_emb.weight
    places = torch.tensor([[0.0, 1 / 12, 4 / 12, 1.0]])  # slot i is at (i + 1/2) / 6
    vectors, num_slots = by_time.video_vectors(video(4)[None], torch.tensor([4]), places)
    expected = torch.stack([table[0], table[0], (table[1] + table[2]) / 2, table[5]])
    torch.testing.assert_close(vectors[0], by_time.visual_proj(video(4)) + expected)
    assert num_slots.tolist() == [4]
    even, early = (
        features_of(6, pts_s=[4 + step_s * (i + 0.5) for i in range(6)], bounds_s=(4.0, 16.0))
        for step_s in (2.0, 0.5)
    )
    scores = [
        model.loglikelihoods(features, prompt=PROMPT, options=OPTIONS).sums
        for model in (by_time, by_number)
        for features in (even, early)
    ]
    assert scores[0] == pytest.approx(scores[2], abs=1e-4)
    assert scores[1] != pytest.approx(scores[0], abs=1e-3)
    assert scores[3] == scores[2]


def test_a_model_by_time_is_saved_as_one(llm_dir: Path, tmp_path: Path) -> None:
    model = disturbed(build(llm_dir, pad_frames="time"))
    model.save_pretrained(tmp_path)
    again = PrefixLM.from_pretrained(tmp_path)
    assert again.prefix_config.pad_frames == "time"
    late = features_of(2, pts_s=[8.0, 9.0], bounds_s=(0.0, 10.0))
    one, other = (m.loglikelihoods(late, prompt=PROMPT, options=OPTIONS).sums for m in (model, again))
    assert one == pytest.approx(other, abs=1e-5)


def test_zeros_fill_all_slots_as_topa_does(llm_dir: Path) -> None:
    model = build(llm_dir, pad_frames="zeros")
    vectors, num_slots = model.video_vectors(video(2)[None], torch.tensor([2]))
    padded = torch.cat([video(2), torch.zeros(4, 16)])
    torch.testing.assert_close(vectors[0], model.visual_proj(padded) + model.temporal_emb.weight)
    assert num_slots.tolist() == [6]
    assert len(model.encode_example(video(2), prompt="a<video>b", answer="c")["input_ids"]) == 2 + 6 + 1 + 2


def test_collate_pads_to_the_longest_of_the_batch() -> None:
    examples = [
        {
            "input_ids": [1, 0, 7],
            "labels": [IGNORE, IGNORE, 7],
            "video_start": 1,
            "video_TD": video(1),
            "places_T": [0.5],
        },
        {
            "input_ids": [1, 0, 0, 8, 9],
            "labels": [IGNORE] * 3 + [8, 9],
            "video_start": 1,
            "video_TD": video(2),
            "places_T": [0.1, 0.2],
        },
    ]
    batch = collate_examples(examples)
    assert batch["input_ids_BL"].tolist() == [[1, 0, 7, 0, 0], [1, 0, 0, 8, 9]]
    assert batch["labels_BL"].tolist() == [[-100, -100, 7, -100, -100], [-100, -100, -100, 8, 9]]
    assert batch["num_frames_B"].tolist() == [1, 2]
    torch.testing.assert_close(batch["places_BT"], torch.tensor([[0.5, 0.0], [0.1, 0.2]]))
    assert batch["video_BTD"].shape == (2, 2, 16)
    assert batch["video_BTD"][0, 1].abs().sum() == 0


@pytest.mark.parametrize(
    "adapter", [a if a == "lora" else pytest.param(a, marks=pytest.mark.slow) for a in ADAPTERS]
)
def test_training_learns_saves_and_restores(llm_dir: Path, tmp_path: Path, adapter: str) -> None:
    """With transformers' Trainer: two videos get two answers, the LLM stays, the files bring it all back."""
    model = build(llm_dir, adapter=adapter, init_std=0.2, gate_bias=0.0)
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    answers = {"the dog": video(3, seed=3), "a cat": video(5, seed=4)}
    examples = [model.encode_example(v, prompt=PROMPT, answer=a) for a, v in answers.items()]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        max_steps=150,
        per_device_train_batch_size=2,
        learning_rate=2e-2,
        use_cpu=True,
        remove_unused_columns=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
    )
    Trainer(model=model, args=arguments, train_dataset=examples * 8, data_collator=collate_examples).train()
    model.eval()
    for name, parameter in model.named_parameters():
        if name in frozen:
            torch.testing.assert_close(parameter.detach(), frozen[name], atol=0, rtol=0)
    for answer, values in answers.items():
        scores = model.loglikelihoods(values, prompt=PROMPT, options=OPTIONS)
        assert OPTIONS[int(np.argmax(scores.sums))] == answer
        assert model.generate(values, prompt=PROMPT, max_new_tokens=12) == answer

    saved = tmp_path / "moved" / "prefix"
    model.save_pretrained(saved)
    restored = PrefixLM.from_pretrained(saved)
    for values in answers.values():
        before = model.loglikelihoods(values, prompt=PROMPT, options=OPTIONS)
        assert restored.loglikelihoods(values, prompt=PROMPT, options=OPTIONS) == before  # to the last bit
    assert not any(parameter.requires_grad for parameter in restored.llm.parameters()) or adapter == "lora"
    size = sum(path.stat().st_size for path in saved.rglob("*.safetensors"))
    trained = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
    assert trained < size < trained + 5000  # the trained tensors and their names, not the LLM


def test_a_model_moves_with_its_llm_or_finds_another(llm_dir: Path, tmp_path: Path) -> None:
    home = tmp_path / "first"
    shutil.copytree(llm_dir, home / "llm")
    model = disturbed(build(home / "llm", adapter="lora"))
    model.save_pretrained(home / "prefix")
    expected = model.loglikelihoods(video(4), prompt=PROMPT, options=OPTIONS)
    assert json.loads((home / "prefix" / "config.json").read_text())["llm"] == "../llm"
    written = "".join(path.read_text() for path in home.joinpath("prefix").rglob("*.json"))
    assert str(tmp_path) not in written
    moved = tmp_path / "second"
    home.rename(moved)
    restored = PrefixLM.from_pretrained(moved / "prefix")
    assert restored.loglikelihoods(video(4), prompt=PROMPT, options=OPTIONS) == expected
    restored.save_pretrained(
        tmp_path / "elsewhere" / "deep"
    )  # from another place, the LLM is found from there
    again = PrefixLM.from_pretrained(tmp_path / "elsewhere" / "deep")
    assert again.loglikelihoods(video(4), prompt=PROMPT, options=OPTIONS) == expected
    shutil.rmtree(moved / "llm")
    with pytest.raises(UserError, match=r"the language model '\.\./llm' is not a directory"):
        PrefixLM.from_pretrained(moved / "prefix")
    override = PrefixLM.from_pretrained(moved / "prefix", llm=str(llm_dir))
    assert override.loglikelihoods(video(4), prompt=PROMPT, options=OPTIONS) == expected


def test_lora_is_read_by_peft_itself(llm_dir: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    model = disturbed(build(llm_dir, adapter="lora"))
    model.save_pretrained(tmp_path)
    plain = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(llm_dir), tmp_path / "lora").eval()
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, model.llm(ids).logits, atol=0, rtol=0)


def test_lora_on_all_linear_layers(llm_dir: Path) -> None:
    model = build(llm_dir, adapter="lora", lora_targets=("all-linear",))
    targets = {name.split(".")[-4] for name, _ in model.named_parameters() if "lora_A" in name}
    assert targets == {f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")}


def test_files_that_do_not_fit(llm_dir: Path, tmp_path: Path) -> None:
    model = build(llm_dir)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())

    def configured(**changes: Any) -> None:
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))

    configured(feature_dim=20)
    with pytest.raises(UserError, match=r"visual_proj.weight is \[32, 16\], expected \[32, 20\]"):
        PrefixLM.from_pretrained(tmp_path)
    configured(adapter="none")
    with pytest.raises(UserError, match=r"adapter.gate1_LH is \[2, 4\], expected nothing"):
        PrefixLM.from_pretrained(tmp_path)
    configured(adapter="lora")
    with pytest.raises(UserError, match=r"adapter.gate1_LH is \[2, 4\], expected nothing"):
        PrefixLM.from_pretrained(tmp_path)
    configured(llm="nobody")
    with pytest.raises(UserError, match="the language model 'nobody' is not a directory"):
        PrefixLM.from_pretrained(tmp_path)
    configured(llm="nobody/nothing")
    with pytest.raises(UserError, match=r"the language model 'nobody/nothing' cannot be loaded: [^\n]+$"):
        PrefixLM.from_pretrained(tmp_path)
    configured(speed=3)
    with pytest.raises(UserError, match=r"does not fit this version of tideo: .*PrefixLMConfig has no speed"):
        PrefixLM.from_pretrained(tmp_path)
    configured(model_type="llama")
    with pytest.raises(
        UserError, match="describes another kind of model: expected model_type 'tideo-prefix-lm'"
    ):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        read_config(tmp_path)
    configured()
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        PrefixLM.from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match=r"model.safetensors is missing: the model's directory is incomplete"):
        PrefixLM.from_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"holds no config.json: give a directory that `tideo prealign` wrote"
    ):
        PrefixLM.from_pretrained(tmp_path / "nowhere")


def test_input_that_does_not_fit(llm_dir: Path) -> None:
    model = build(llm_dir)

    def score(features: Any, prompt: str = PROMPT, options: Sequence[str] = OPTIONS) -> None:
        model.loglikelihoods(features, prompt=prompt, options=options)

    with pytest.raises(
        UserError, match="the features have 8 dimensions, but this model was trained on 16 of"
    ):
        score(torch.zeros(3, 8))
    with pytest.raises(UserError, match="7 frames given, but this model takes 1 to 6: sample as many"):
        score(torch.zeros(7, 16))
    with pytest.raises(UserError, match="0 frames given, but this model takes 1 to 6"):
        score(torch.zeros(0, 16))
    foreign = Features(values_TD=video(3).numpy(), pts_s_T=None, modality="text", encoder="siglip")
    with pytest.raises(
        UserError, match="come from encoder 'siglip', but this model was trained on 'tiny-clip'"
    ):
        score(foreign)
    with pytest.raises(UserError, match="the prompt has 0 <video> markers; expected exactly one"):
        score(video(3), prompt="no marker")
    with pytest.raises(UserError, match="the prompt has 2 <video> markers"):
        score(video(3), prompt=answer_prompt("<video>?", style=STYLES["plain"]))
    with pytest.raises(UserError, match="option 2 of 2 is empty: give it some text"):
        score(video(3), options=["a", " "])
    with pytest.raises(UserError, match="tokens exceed the model's context of 256"):
        score(video(3), options=["long " * 100])
    with pytest.raises(UserError, match="tokens exceed the model's context of 256"):
        model(**collate_examples([model.encode_example(video(3), prompt=PROMPT, answer="long " * 100)]))


def test_configs_that_do_not_fit(llm_dir: Path) -> None:
    with pytest.raises(
        UserError, match="adapter 'dora' is unknown; expected one of llama-adapter, lora, none"
    ):
        build(llm_dir, adapter="dora")
    with pytest.raises(UserError, match="pad_frames 'repeat' is unknown; expected one of zeros, spread"):
        build(llm_dir, pad_frames="repeat")
    with pytest.raises(
        UserError, match="LoRA targets c_attn do not fit LlamaForCausalLM: name its linear layers"
    ):
        build(llm_dir, adapter="lora", lora_targets=("c_attn",))
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=288))
    config = PrefixLMConfig(llm="gpt2/gpt2", encoder="tiny-clip", feature_dim=16)
    with pytest.raises(UserError, match="needs layers with plain k_proj and v_proj, not GPT2LMHeadModel"):
        PrefixLM(config, llm=gpt2, tokenizer=byte_tokenizer())
    with pytest.raises(UserError, match=r"the language model './x/y' is not a directory, nor is"):
        find_llm("./x/y", beside=llm_dir)
    with pytest.raises(UserError, match="the language model '' is not a directory"):
        find_llm("", beside=llm_dir)
    assert find_llm("meta-llama/Llama-2-7b-hf", beside=llm_dir) == "meta-llama/Llama-2-7b-hf"


def test_ridge_recovers_a_linear_map_and_starts_the_projection(llm_dir: Path) -> None:
    torch.manual_seed(2)
    features, weight = torch.randn(200, 16), torch.randn(32, 16)
    pairs = [(block, block @ weight.T) for block in features.split(64)]
    torch.testing.assert_close(ridge_projection(pairs, l2=1e-9), weight, atol=1e-4, rtol=1e-4)
    shrunk = ridge_projection(pairs, l2=1.0)
    assert 0.3 < (shrunk.norm() / weight.norm()).item() < 0.7  # features of unit variance: about 1 / (1 + l2)
    model = build(llm_dir)
    model.init_visual_proj_(weight)
    torch.testing.assert_close(model.visual_proj(features), features @ weight.T)


def test_the_texts_of_topa() -> None:
    topa = STYLES["topa"]
    assert choose_prompt("who is John ", ["a cat", "a dog"], style=topa) == (
        "Instruction: Choose the correct answer based on the video and question.\nVideo:<video>\n"
        "Question: Who is john?\nChoices: \n(A) a cat\n(B) a dog\nAnswer: The correct choice is "
    )
    assert choose_prompt("who?", ["a"], style=STYLES["topa_star"]).endswith("Answer: The answer is ")
    assert answer_prompt("who?", style=topa) == (
        "Instruction: Predict the answer based on the video and question.\n"
        "Video:<video>\nQuestion: Who?\nAnswer: "
    )
    assert summary_prompt(style=topa) == (
        "Instruction: Generate a summary for the video.\nVideo:<video>\n\nDescription: "
    )


def test_forms_give_prompts_and_continuations() -> None:
    plain, options = STYLES["plain"], ["a cat", "a {dog}"]
    listed = "Video:<video>\nQuestion: who?\nOptions: (A) a cat (B) a {dog}\nAnswer: "
    assert FORMS["letter"]("who?", options, plain) == (listed, ["(A)", "(B)"])
    ended = ["a cat.", "a {dog}."]
    assert FORMS["listed_text"]("who?", options, plain) == (listed, ended)
    assert FORMS["text"]("who?", options, plain) == ("Video:<video>\nQuestion: who?\nAnswer: ", ended)
    assert FORMS["text"]("who?", options, STYLES["topa"])[1] == ["a cat\n", "a {dog}\n"]
    with pytest.raises(UserError, match="27 options cannot be lettered A to Z"):
        FORMS["letter"]("who?", ["x"] * 27, plain)
    with pytest.raises(
        UserError, match="prompt style 'tupa' is unknown; expected one of topa, topa_star, plain"
    ):
        style("tupa")


def test_tokens_part_where_prompt_and_continuation_do() -> None:
    """A space goes with the word behind it, so the continuation starts with it; the end token closes it."""
    tokenizer = byte_tokenizer()
    tokens = encode(tokenizer, "V:<video>\nis ", continuations=["(A)", "(B)"])
    pieces = [
        tokenizer.convert_ids_to_tokens(ids) for ids in (tokens.before, tokens.after, *tokens.continuations)
    ]
    assert pieces == [
        ["<s>", "V", ":"],
        ["Ċ", "i", "s"],
        ["Ġ(", "A", ")", "</s>"],
        ["Ġ(", "B", ")", "</s>"],
    ]
    assert encode(tokenizer, "V:<video>\nis ").after == tokens.after  # generation starts there too
    assert encode(tokenizer, "<video>x", continuations=["y"], end_of_text=False).continuations == [
        tokenizer.convert_tokens_to_ids(["y"])
    ]


def test_a_leading_line_break_is_its_own_token_with_sentencepiece_like_spaces() -> None:
    """Llama-2's tokenizer puts a space before every text; TOPA puts the line break before that space."""
    vocabulary = {p: i for i, p in enumerate(["<unk>", "▁", "\n", "Q", "x", "▁Q"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "Q")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    tokens = encode(wrapped, "Q<video>\nQx", continuations=["x"])
    assert wrapped.convert_ids_to_tokens(tokens.before) == ["▁Q"]  # no begin token: this one adds none
    assert wrapped.convert_ids_to_tokens(tokens.after) == ["\n", "▁Q", "x"]
    assert wrapped.convert_ids_to_tokens(tokens.continuations[0]) == ["x"]
