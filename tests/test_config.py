"""--set is typed by annotations, and a recipe comes back from its JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideo import config
from tideo.types import UserError


@dataclass(frozen=True, kw_only=True)
class Adapter:
    length: int = 50
    gate_bias: float | None = None


@dataclass(frozen=True, kw_only=True)
class Lora:
    rank: int = 8


@dataclass(frozen=True, kw_only=True)
class Train:
    lr: float = 5e-3
    steps: int = 100
    shuffle: bool = True
    betas: tuple[float, float] = (0.9, 0.95)
    tasks: tuple[str, ...] = ("mcqa",)
    schedule: Literal["cosine", "constant"] = "cosine"
    frames: Literal[5, 10] = 10
    name: str | None = None
    warmup: int | float = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    llm: str = "llama"
    train: Train = field(default_factory=Train)
    adapter: Adapter | Lora = field(default_factory=Adapter)
    extra: Adapter | None = None
    weights: dict[str, float] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr=1e-4", 1e-4),
        ("lr=3", 3.0),
        ("steps=7", 7),
        ("shuffle=false", False),
        ("shuffle=Yes", True),
        ("betas=0.8,0.9", (0.8, 0.9)),
        ("betas=(0.8, 0.9)", (0.8, 0.9)),
        ("tasks=a,b , c", ("a", "b", "c")),
        ("tasks=one,", ("one",)),
        ("tasks=", ()),
        ("schedule=constant", "constant"),
        ("frames=5", 5),
        ("name=none", None),
        ("name=a=b", "a=b"),
        ("name=", ""),
        ("warmup=2", 2),
        ("warmup=0.5", 0.5),
    ],
)
def test_set_is_typed(setting: str, value: object) -> None:
    key = setting.partition("=")[0]
    got = getattr(config.override(Recipe(), [f"train.{setting}"]).train, key)
    assert (got, type(got)) == (value, type(value))


def test_set_leaves_the_rest_and_the_last_one_holds() -> None:
    changed = config.override(Recipe(), ["train.lr=1", "llm=x", "train.lr=2", "adapter.length=3"])
    assert changed == Recipe(llm="x", train=Train(lr=2.0), adapter=Adapter(length=3))


@dataclass(frozen=True, kw_only=True)
class Length:
    steps: int | None = 100
    epochs: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UserError("give either steps or epochs")


@pytest.mark.parametrize("settings", [["steps=none", "epochs=2"], ["epochs=2", "steps=none"]])
def test_what_is_set_together_is_judged_together(settings: list[str]) -> None:
    assert config.override(Length(), settings) == Length(steps=None, epochs=2.0)
    for setting in settings:
        with pytest.raises(UserError, match="give either steps or epochs"):
            config.override(Length(), [setting])


def test_a_part_that_is_none_is_made_of_its_keys() -> None:
    assert config.override(Recipe(), ["extra.length=3"]).extra == Adapter(length=3)
    assert config.override(Recipe(extra=Adapter(length=3)), ["extra.gate_bias=1"]).extra == Adapter(
        length=3, gate_bias=1.0
    )
    assert config.override(Recipe(extra=Adapter()), ["extra.length=3", "extra=none"]).extra is None
    with pytest.raises(UserError, match="unknown key 'rank'"):
        config.override(Recipe(), ["extra.rank=3"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.lr", r"^--set train.lr: expected key=value, as in train.lr=1e-4$"),
        ("=3", r"expected key=value"),
        ("train.stepz=3", r"unknown key 'stepz'; did you mean steps\?"),
        ("zzz=3", r"unknown key 'zzz'; known: llm, train, adapter, extra, weights"),
        ("train.lr=fast", r"^--set train.lr=fast: expected a finite number, not 'fast'$"),
        ("train.lr=nan", r"expected a finite number, not 'nan'"),
        ("train.lr=inf", r"expected a finite number, not 'inf'"),
        ("train.steps=1e3", r"expected a whole number, not '1e3'"),
        ("train.steps=0", r"^--set train.steps=0: steps must be at least 1, not 0$"),
        ("train.shuffle=maybe", r"expected true or false, not 'maybe'"),
        ("train.betas=0.9", r"expected 2 values, not 1"),
        ("train.schedule=linear", r"expected one of cosine, constant, not 'linear'"),
        ("train=3", r"set its keys one by one: lr, steps"),
        ("train.lr.x=3", r"lr has no keys of its own, so there is no 'x'"),
        ("llm.name=3", r"llm has no keys of its own, so there is no 'name'"),
        ("adapter.rank=3", r"unknown key 'rank'; known: length, gate_bias"),
        ("adapter.gate_bias=x", r"expected a finite number, not 'x'; expected none, not 'x'"),
        ("weights=a", r"cannot be read from 'a'"),
    ],
)
def test_set_refuses(setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.override(Recipe(), [setting])


numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(alphabet=st.characters(exclude_characters=",()"), min_size=1).map(str.strip).filter(bool)


@given(lr=numbers, steps=st.integers(1), betas=st.tuples(numbers, numbers), tasks=st.lists(words))
def test_what_is_printed_is_read_as_the_same(
    lr: float, steps: int, betas: tuple[float, float], tasks: list[str]
) -> None:
    settings = [f"lr={lr}", f"steps={steps}", f"betas={betas}", f"tasks={','.join(tasks)}"]
    assert config.override(Train(), settings) == Train(lr=lr, steps=steps, betas=betas, tasks=tuple(tasks))


recipes = st.builds(
    Recipe,
    llm=st.text(),
    train=st.builds(
        Train,
        lr=numbers,
        steps=st.integers(1),
        tasks=st.lists(st.text()).map(tuple),
        name=st.none() | st.text(),
        frames=st.sampled_from([5, 10]),
    ),
    adapter=st.builds(Adapter, length=st.integers(), gate_bias=st.none() | numbers) | st.builds(Lora),
    extra=st.none() | st.builds(Adapter),
    weights=st.dictionaries(st.text(), numbers),
)


@given(recipe=recipes)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    plain = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert config.from_plain(Recipe, plain) == recipe


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"train": {"steps": "7"}}, r"^this is no valid Recipe: expected int, not '7'$"),
        ({"train": {"steps": True}}, r"expected int, not True"),
        ({"train": {"steps": 1.5}}, r"expected int, not 1.5"),
        ({"train": {"shuffle": 1}}, r"expected bool, not 1"),
        ({"train": {"betas": 0.9}}, r"expected a list, not 0.9"),
        ({"train": {"steps": 0}}, r"steps must be at least 1"),
        ({"train": 3}, r"expected the keys of Train, not 3"),
        ({"trian": {}}, r"Recipe has no trian; known: llm, train, adapter, extra, weights"),
    ],
)
def test_json_of_another_type_is_refused(plain: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.from_plain(Recipe, plain)
