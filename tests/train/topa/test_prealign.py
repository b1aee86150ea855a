import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tideo.dollhouse.export import ask_split, tideo_of
from tideo.encoders.encode import encode_tideos
from tideo.models.topa.checkpoint import load_llm
from tideo.models.topa.model import ZeroShot
from tideo.textvid.schema import dump, from_tideo, load, to_tideo
from tideo.tiny.lm import LMConfig, Stage
from tideo.train.topa.config import PrealignConfig, PrealignTraining
from tideo.train.topa.prealign import prealign, read_tideos
from tideo.train.topa.tasks import Examples, TaskWeights, shuffled
from tideo.train.topa.trainer import PrealignTrainer
from tideo.types import Features, Question, UserError
from tiny import save_clip, save_llm

STEPS = PrealignTraining(steps=4, batch=2, lr=1e-2, bf16=False, save_steps=2, log_steps=1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    save_clip(folder / "clip")
    save_llm(folder / "llm", max_tokens=2048)
    dump([from_tideo(tideo_of(a, seed=0)) for a in ask_split("train", num=6)], folder / "textvid.json")
    return folder


def config(parts: Path, **changes: object) -> PrealignConfig:
    plain = PrealignConfig(
        llm=str(parts / "llm"),
        encoder=str(parts / "clip"),
        tideos=str(parts / "textvid.json"),
        prompt_style="plain",
        adapter="lora",
        lora_rank=2,
        form="text",
        train=STEPS,
    )
    return replace(plain, **changes)


@pytest.mark.parametrize("adapter", ["lora", "llama-adapter"])
def test_the_model_directory_loads_and_the_llm_stays_frozen(
    parts: Path, tmp_path: Path, adapter: str
) -> None:
    before = load_file(parts / "llm" / "model.safetensors")
    out = prealign(config(parts, adapter=adapter, from_llm=True), out=tmp_path / "out")
    model = ZeroShot.load(out)
    assert model.settings.form == "text"
    assert len(model.memory) > 6
    after = load_file(parts / "llm" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((out / "run.json").read_text())["recipe"]["lora_rank"] == 2
    assert not (out / "steps").exists()


def test_a_run_cut_short_goes_on_to_the_same_weights(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = config(parts, uneven=0.5, pad_frames="time")
    whole = load_file(prealign(recipe, out=tmp_path / "whole") / "model.safetensors")

    class Killed(Exception):
        pass

    def kill_after_checkpoint(self: object, *args: object, **kwargs: object) -> None:
        save(self, *args, **kwargs)
        raise Killed

    save = PrealignTrainer._save_checkpoint
    monkeypatch.setattr(PrealignTrainer, "_save_checkpoint", kill_after_checkpoint)
    with pytest.raises(Killed):
        prealign(recipe, out=tmp_path / "cut")
    with pytest.raises(UserError, match="give --resume to go on"):
        prealign(recipe, out=tmp_path / "cut")
    monkeypatch.setattr(PrealignTrainer, "_save_checkpoint", save)
    resumed = load_file(prealign(recipe, out=tmp_path / "cut", resume=True) / "model.safetensors")
    for name in whole:
        torch.testing.assert_close(resumed[name], whole[name])
    written = (tmp_path / "cut" / "model.safetensors").stat().st_mtime_ns
    prealign(recipe, out=tmp_path / "cut", resume=True)
    assert (tmp_path / "cut" / "model.safetensors").stat().st_mtime_ns == written  # done: left as it is
    assert ZeroShot.load(tmp_path / "cut").lm.prefix_config.pad_frames == "time"


def test_a_training_goes_on_from_a_model(parts: Path, tmp_path: Path) -> None:
    first = prealign(config(parts, train=replace(STEPS, steps=1, lr=1.0)), out=tmp_path / "first")
    still = replace(STEPS, steps=1, lr=1e-9)
    more = prealign(
        config(parts, start=str(first), pad_frames="time", uneven=1.0, train=still), out=tmp_path / "more"
    )
    before, after = (load_file(out / "model.safetensors") for out in (first, more))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-6, rtol=0)
    lora = [load_file(out / "lora" / "adapter_model.safetensors") for out in (first, more)]
    assert all(torch.allclose(lora[0][name], lora[1][name], atol=1e-6) for name in lora[0])
    with pytest.raises(UserError, match="gone is no folder that"):
        config(parts, start="gone").check_inputs()


def examples_of(parts: Path, *, num: int = 40, **changes: Any) -> list[dict[str, Any]]:
    """What a PrefixLM is asked to encode; the features of frame i of a Tideo are [i]."""
    tideos = read_tideos(config(parts))
    features = [
        Features(
            values_TD=np.arange(len(t.frames), dtype=np.float32)[:, None],
            pts_s_T=None,
            modality="text",
            encoder="e",
        )
        for t in tideos
    ]
    model: Any = SimpleNamespace(
        prefix_config=SimpleNamespace(prompt_style="plain"),
        encode_example=lambda values_TD, **said: said | {"frames": values_TD[:, 0].tolist()},
    )
    examples = Examples(tideos, features, model, batch=num, steps=1, weights=TaskWeights(), **changes)
    return [examples[i] for i in range(num)]


def test_uneven_examples_show_a_tideos_frames_at_their_times(parts: Path) -> None:
    plain, half, every = (examples_of(parts, uneven=share) for share in (0.0, 0.5, 1.0))
    assert all(e["places_T"] is None and e["frames"] == [float(i) for i in range(10)] for e in plain)
    assert 8 < sum(e["places_T"] is not None for e in half) < 32
    for one, uneven in zip(plain, every, strict=True):
        assert (one["prompt"], one["answer"]) == (uneven["prompt"], uneven["answer"])
        assert uneven["frames"] == [float(min(int(10 * place), 9)) for place in uneven["places_T"]]
    assert any(len(set(e["frames"])) < 6 for e in every)  # frames that come again
    assert every == examples_of(parts, uneven=1.0)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_uneven_examples_is_a_share(parts: Path, share: float) -> None:
    with pytest.raises(UserError, match="expected a share of the examples, from 0 to 1"):
        config(parts, uneven=share)


@pytest.mark.slow
def test_features_that_were_encoded_before_train_alike(parts: Path, tmp_path: Path) -> None:
    tideos = [to_tideo(record) for record in load(parts / "textvid.json")]
    encode_tideos(tideos, encoder=str(parts / "clip"), out=tmp_path / "features")
    weights = [
        load_file(
            prealign(config(parts, features=features), out=tmp_path / name / "out") / "model.safetensors"
        )
        for name, features in (("a", None), ("b", str(tmp_path / "features")))
    ]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=2e-3, rtol=0)


@pytest.mark.slow
def test_texts_moved_onto_the_memory_train_too(parts: Path, tmp_path: Path) -> None:
    plain = prealign(config(parts, memory="frames"), out=tmp_path / "plain")
    moved = prealign(config(parts, memory="frames", projected=1.0), out=tmp_path / "moved")
    a, b = (load_file(out / "model.safetensors")["visual_proj.weight"] for out in (plain, moved))
    assert not torch.allclose(a, b)


def test_frames_as_memory_and_fewer_tideos(parts: Path) -> None:
    tideos = read_tideos(config(parts, num_tideos=3))
    assert len(tideos) == 3
    assert len(read_tideos(config(parts, tideos="dollhouse", num_tideos=3))) >= 3


@pytest.mark.slow
def test_the_language_model_is_frozen_in_the_recipes_dtype(parts: Path, tmp_path: Path) -> None:
    train = replace(STEPS, steps=1, gradient_checkpointing=True)
    out = prealign(config(parts, adapter="llama-adapter", dtype="bf16", train=train), out=tmp_path)
    assert {t.dtype for t in load_file(out / "model.safetensors").values()} == {torch.float32}
    lm = ZeroShot.load(out).lm  # and so it is loaded
    assert {p.dtype for p in lm.llm.parameters()} == {torch.bfloat16}


def test_options_move_but_not_where_one_speaks_of_others() -> None:
    question = Question(question="what?", options=("a", "b", "c", "d", "e"), answer=1)
    moved = [shuffled(question, random.Random(i)) for i in range(20)]
    assert {q.options[q.answer] for q in moved if q.answer is not None} == {"b"}
    assert len({q.options for q in moved}) > 5
    both = replace(question, options=("a", "b", "both a and b", "d", "e"))
    assert shuffled(both, random.Random(1)) == both
    hand = replace(question, options=("a hand", "b", "c", "d", "e"))
    assert any(shuffled(hand, random.Random(i)) != hand for i in range(5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tideos": "nowhere.json"}, "nowhere.json"),
        ({"llm": "nowhere/llm"}, "nowhere/llm"),
    ],
)
def test_wrong_input_is_one_line(parts: Path, tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prealign(config(parts, **changes), out=tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_and_lengths_are_checked() -> None:
    with pytest.raises(UserError, match="not all 0"):
        TaskWeights(choose=0, answer=0, summarise=0)
    with pytest.raises(UserError, match=r"either train\.steps or train\.epochs"):
        PrealignTraining(steps=1, epochs=1)


def test_a_recipe_of_another_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="LMConfig"):
        prealign(LMConfig(stages=(Stage(steps=1),)), out=tmp_path)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_step_learns_the_same_in_one_batch_or_in_several(parts: Path, tmp_path: Path) -> None:
    """Answers differ in length, so a mean of the batches' means would weigh their tokens differently."""
    trained = [
        load_file(
            prealign(
                config(parts, train=replace(STEPS, steps=2, batch=batch, accumulate=4 // batch, lr=1e-3)),
                out=tmp_path / str(batch),
            )
            / "model.safetensors"
        )
        for batch in (4, 1)
    ]
    for name, weights in trained[0].items():
        torch.testing.assert_close(trained[1][name], weights, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_a_run_that_learns_no_numbers_stops_at_once(parts: Path, tmp_path: Path) -> None:
    steps = replace(STEPS, steps=6, lr=1e30, save_steps=3, log_steps=100)
    with pytest.raises(
        UserError, match=r"step 2: the loss is nan at the batch of Tideo .*the step was not taken"
    ):
        prealign(config(parts, train=steps), out=tmp_path / "out")
    assert not list((tmp_path / "out" / "steps").glob("checkpoint-*"))
    assert not (tmp_path / "out" / "model.safetensors").exists()
    last = replace(STEPS, steps=1, lr=1e30, weight_decay=3e8)
    with pytest.raises(UserError, match=r"step 1: temporal_emb.* holds values that are no numbers"):
        prealign(config(parts, train=last), out=tmp_path / "last")


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_batch_of_a_loss_that_is_no_number_is_named(accumulate: int, parts: Path, tmp_path: Path) -> None:
    """A Tideo with a letter for which the language model has no numbers; the checkpoint before it stays whole."""
    llm, tokenizer = load_llm(str(parts / "llm"))
    (letter,) = tokenizer("@", add_special_tokens=False)["input_ids"]
    llm.get_input_embeddings().weight.data[letter] = torch.nan
    llm.save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    records = load(parts / "textvid.json")
    order = Examples(
        [to_tideo(r) for r in records], [], SimpleNamespace(prefix_config=SimpleNamespace(prompt_style="plain")),
        batch=2, steps=4, weights=TaskWeights(),
    )  # fmt: skip
    bad = order.name_of(5).removeprefix("Tideo ")  # of the third batch of two
    damaged = [
        r.model_copy(update={"global_video_caption": "@"}) if str(r.idx) == bad else r for r in records
    ]
    dump(damaged, tmp_path / "textvid.json")
    steps = replace(STEPS, batch=2 // accumulate, accumulate=accumulate)
    changes = {"llm": str(tmp_path / "llm"), "tideos": str(tmp_path / "textvid.json"), "train": steps}
    tasks = TaskWeights(choose=0, answer=0, summarise=1)
    others = {order.name_of(i) for i in range(4, 6)} if accumulate == 1 else {f"Tideo {bad}"}
    with pytest.raises(UserError, match="step 3: the loss is nan") as caught:
        prealign(config(parts, tasks=tasks, **changes), out=tmp_path / "out")
    named = str(caught.value).partition("the batch of ")[2].partition(", so the step")[0]
    assert set(named.split(", ")) == others
    (checkpoint,) = (tmp_path / "out" / "steps").glob("checkpoint-*")
    assert checkpoint.name == "checkpoint-2"
    assert all(torch.isfinite(t).all() for t in load_file(checkpoint / "model.safetensors").values())


@pytest.mark.slow
def test_another_number_of_processes_is_told(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Killed(Exception):
        pass

    def kill_after_checkpoint(self: object, *args: object, **kwargs: object) -> None:
        save(self, *args, **kwargs)
        raise Killed

    save = PrealignTrainer._save_checkpoint
    monkeypatch.setattr(PrealignTrainer, "_save_checkpoint", kill_after_checkpoint)
    with pytest.raises(Killed):
        prealign(config(parts), out=tmp_path)
    monkeypatch.setattr(PrealignTrainer, "_save_checkpoint", save)
    checkpoint = tmp_path / "steps" / "checkpoint-2"
    (checkpoint / "rng_state.pth").rename(checkpoint / "rng_state_0.pth")
    (checkpoint / "rng_state_1.pth").touch()  # as two processes leave it
    prealign(config(parts), out=tmp_path, resume=True)
    assert "is of 2 processes and this is 1: each step learns from 0.5 times as many examples" in caplog.text
