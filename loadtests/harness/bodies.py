"""Request bodies as clients send them, the same in every run."""

import json
import random

WORDS = (
    "the river carries water past a wall of stone and measures what it lets through while rain "
    "falls upstream in the hills so that nobody below is flooded when spring comes again with snow"
).split()
SMALL_BYTES = 600
# Four bytes per token, as English text has with the usual vocabularies.
PROMPT_TOKENS = 100_000
PROMPT_BYTES = 4 * PROMPT_TOKENS


def text(size, seed=1):
    """English-like text of so many bytes as JSON, with what makes scanners stumble: quotes, line
    ends, accents, backslashes."""
    source = random.Random(seed)
    parts, length = [], 0
    while length < size:
        word = source.choice(WORDS)
        chance = source.random()
        if chance < 0.01:
            word = f'"{word}"'
        elif chance < 0.02:
            word = f"{word}\n"
        elif chance < 0.025:
            word = f"{word}é\\"
        parts.append(word)
        length += len(json.dumps(word, ensure_ascii=False).encode()) - 1
    return " ".join(parts)


def prose(size, seed=1):
    """So many bytes that compress as a text does: made-up words, common ones as often as common
    ones are in a language (Zipf's law)."""
    source = random.Random(seed)
    vocabulary = [
        "".join(source.choice("etaoinshrdlucmfwypvbgk") for _ in range(source.randint(2, 9)))
        for _ in range(2_000)
    ]
    weights = [1 / rank for rank in range(1, len(vocabulary) + 1)]
    words = source.choices(vocabulary, weights, k=size // 2)
    for index in range(9, len(words), 10):
        words[index] += "."
    return " ".join(words)[:size]


def chat(model, size, place="first", **more):
    """A chat request of about `size` bytes with the model's name first, in the middle, or last."""
    empty = len(json.dumps({"model": model, "messages": [], **more}))
    content = text(max(size - empty - 60, 1))
    head, tail = content[: len(content) // 2], content[len(content) // 2 :]

    def messages(*contents):
        return [{"role": "user", "content": part} for part in contents]

    if place == "first":
        body = {"model": model, **more, "messages": messages(content)}
    elif place == "last":
        body = {"messages": messages(content), **more, "model": model}
    else:
        body = {"messages": messages(head), "model": model, **more, "prediction": tail}
    return json.dumps(body, ensure_ascii=False).encode()


def exact_chat(model, size):
    """A chat request of exactly `size` bytes."""
    shape = {"model": model, "messages": [{"role": "user", "content": ""}], "max_tokens": 64}
    room = size - len(json.dumps(shape))
    content = (" ".join(WORDS) + " ") * (room // 100 + 1)
    shape["messages"][0]["content"] = content[:room]
    return json.dumps(shape).encode()
