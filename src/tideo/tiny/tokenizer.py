"""The tokenizer of the tiny models: byte-level BPE whose merges may cross spaces.

Text is cut only at punctuation and a few function words, so that a frequent phrase ("pouring tea") becomes one token
(superword BPE, arXiv 2503.13423). Stories become three times shorter, so a model of two million parameters can learn
from them on a CPU. Any other text can be encoded too, byte by byte if necessary.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tideo.dollhouse import world

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
_PERSON = "|".join(sorted({actor.noun for actor in world.ACTORS.values()}))
_COLOR, _COUNT = "|".join(world.SHIRTS), "|".join(world.COUNTS)
_ITEM = "|".join(f"{item[:-1]}s?" for item in world.SHELF_ITEMS)
# Text is cut before and after these: a person, an option's letter, a frame's number, and words for looks, counts and
# the weather are tokens of their own. So question and story share the token of a thing, next to that of the answer.
# With merged phrases ("three vases on the shelf") they had no token in common, and the model did not learn to match.
_CUT = Regex(
    rf"\n|[.,?:]| ?\([a-e]\)| ?[0-9]+| (?:a|the) (?:{_PERSON})(?=[ ?,.])"
    r"| (?:is|are|in|with|from|after|before|right after|right before|while)(?= |\?)| on(?= an? )| for(?= )"
    rf"| (?:{_COLOR})(?= shirt)|(?<={_COLOR}) shirt| shirt(?= of|:)| outside| lies there| at the side"
    rf"| (?:{_COUNT})(?= (?:{_ITEM}))|(?<={_COUNT}|many) (?:{_ITEM})"
)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int = 4096) -> PreTrainedTokenizerFast:
    """Learn the merges from `texts`, in one pass. All text becomes lower case."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_CUT, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS)
