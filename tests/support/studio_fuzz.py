"""Messages that no page sends: random mixtures of what is right and what is not."""

import json
import random
from typing import Any

from support.studio import HOLD, MOVE, new_id


NUMBERS = (0, 1, -1, 3, 7, 40, 0.5, -0.0, 1e9, -1e308, 2**31, 2**53, 2**63, 10**40, True, None)
TEXTS = ("", "a", "move", "hold", "ü" * 40, "../x", "0" * 32, "0" * 16, "\0", "<script>", "x" * 3000)
KINDS = (
    *("flow", "render", "steer", "pause", "pull", "best", "cancel", "enlarge"),
    *("joints", "segment", "propose", "save", "hello", "none"),
)


class Fuzzer:
    """
    Random messages, the same for the same seed.

    Args:
        seed: Of the random numbers.
        nodes: Ids of nodes that exist.
    """

    def __init__(self, seed: int, nodes: list[str]):
        self.chance, self.nodes = random.Random(seed), nodes

    def message(self) -> str:
        """One message: nearly right, quite wrong, or not JSON at all."""
        chance = self.chance.random()
        if chance < 0.05:
            return self.chance.choice(("", "{", "[]", "null", "1", '"x"', "[" * 5000, '{"type": NaN}', "\ufeff{}"))
        if chance < 0.15:
            text = json.dumps(self.right())
            at = self.chance.randrange(len(text))
            return text[:at] + self.chance.choice(("", "\0", '"', "}", "1e999", "ü")) + text[at + 1 :]
        message = self.right()
        for _ in range(self.chance.choice((0, 0, 1, 1, 2, 4))):
            message[self.chance.choice([*message, "more"])] = self.anything(2)
        return json.dumps(message)

    def right(self) -> dict[str, Any]:
        """A message that could be one of a page."""
        node = self.chance.choice([*self.nodes, new_id()])
        fields = {
            "type": self.chance.choice(KINDS),
            "rev": self.chance.randrange(100),
            "node": node,
            "parent": self.chance.choice([None, None, *self.nodes]),
            "at": self.chance.choice((0, 0, 1, 2, 50)),
            "frame": self.chance.choice((0, 1, 2, 99)),
            "strokes": [self.stroke() for _ in range(self.chance.choice((0, 1, 2, 5)))],
            "num_frames": self.chance.choice((2, 4, 4, 5, 300)),
            "fps": self.chance.choice((8, 24.0, 1e-9)),
            "size": self.chance.choice((None, 32, 40, 33, 4096)),
            "regions": self.chance.choice((None, "0" * 16)),
            "settings": self.chance.choice((None, {}, {"seed": 3, "steps": 1}, {"size": 512}, {"output": "image"})),
            "preview": self.chance.choice((True, False)),
            "endless": self.chance.choice((False, False, True)),
            "paused": self.chance.choice((True, False)),
            "start": self.chance.choice((None, [self.number(), self.number()])),
            "to": [self.number(), self.number()],
            "down": self.chance.choice((True, False)),
            "ids": [new_id() for _ in range(self.chance.choice((1, 2, 9)))],
            "points": [[self.number(), self.number()]],
            "labels": [self.chance.choice((0, 1))],
            "document": {"version": 1, "x": self.anything(3)},
            "token": None,
        }
        allowed = {
            "flow": ("rev", "node", "frame", "strokes", "num_frames", "size"),
            "render": (
                "rev",
                "node",
                "parent",
                "at",
                "strokes",
                "num_frames",
                "fps",
                "settings",
                "preview",
                "endless",
            ),
            "steer": ("rev", "node", "strokes"),
            "pause": ("rev", "node", "paused"),
            "pull": ("rev", "node", "start", "to", "down"),
            "best": ("rev", "node", "ids"),
            "cancel": ("node",),
            "enlarge": ("rev", "node"),
            "joints": ("rev", "node", "frame"),
            "segment": ("rev", "points", "labels"),
            "propose": ("rev", "strokes"),
            "save": ("rev", "document"),
            "hello": ("token",),
        }.get(fields["type"], tuple(fields))
        return {"type": fields["type"]} | {name: fields[name] for name in allowed}

    def stroke(self) -> Any:
        """A stroke, often a wrong one."""
        if self.chance.random() < 0.5:
            return self.chance.choice((MOVE, HOLD))
        stroke = dict(self.chance.choice((MOVE, HOLD)))
        for _ in range(self.chance.randrange(1, 3)):
            field = self.chance.choice(("kind", "points", "frames", "start_frame", "region", "more"))
            stroke[field] = self.anything(3)
        if self.chance.random() < 0.5:
            stroke["points"] = [[self.number(), self.number()] for _ in range(self.chance.randrange(6))]
        return stroke

    def number(self) -> Any:
        return self.chance.choice((*NUMBERS, *(self.chance.uniform(-60, 60) for _ in range(8))))

    def anything(self, depth: int) -> Any:
        """Any JSON value."""
        kind = self.chance.randrange(4 if depth else 2)
        if kind == 0:
            return self.number()
        if kind == 1:
            return self.chance.choice(TEXTS)
        if kind == 2:
            return [self.anything(depth - 1) for _ in range(self.chance.randrange(4))]
        return {self.chance.choice(TEXTS): self.anything(depth - 1) for _ in range(self.chance.randrange(4))}


def answers_to(page: Any, messages: list[str]) -> list[dict[str, Any]]:
    """Sends messages, then a right one; returns the headers that came until the answer to that one."""
    from support.studio import STROKES

    for message in messages:
        page.socket.send_text(message)
    rev = 10**6
    page.socket.send_text(json.dumps({"type": "flow", "rev": rev, "strokes": STROKES, "num_frames": 4}))
    headers = []
    while not headers or headers[-1].get("rev") != rev:
        headers.append(page.next()[0])
    page.received.clear()
    return headers
