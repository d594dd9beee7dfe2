"""Damage to files, the same for the same seed."""

import math
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def mutated(content: bytes, generator: random.Random) -> bytes:
    """
    One to four changes of a file: bytes that are set, removed, inserted or repeated, or an end that is missing.

    Args:
        content (`bytes`): The file; at least one byte.
        generator (`random.Random`): Decides what is changed. Half of the changes are in the first 256 bytes, where
            most formats have their header.
    """
    changed = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        if not changed:
            break
        place = generator.randrange(min(len(changed), 256) if generator.random() < 0.5 else len(changed))
        kind = generator.randrange(5)
        if kind == 0:
            changed[place] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
        elif kind == 1:
            changed[place] ^= 1 << generator.randrange(8)
        elif kind == 2:
            del changed[place : place + generator.randint(1, 16)]
        elif kind == 3:
            changed[place:place] = generator.randbytes(generator.randint(1, 16))
        elif generator.random() < 0.5:
            del changed[place:]
        else:
            changed[place:place] = changed[place : place + 32]
    return bytes(changed)


def refusals(path: Path, read: Callable[[Path], object], number: int) -> list[str]:
    """
    Reads a file that is damaged in many ways. Each time it has to be read, or refused in one sentence that names it.

    Args:
        path (`Path`): The file, which is overwritten.
        read (`Callable`): Reads it, and raises `ValueError` to refuse it.
        number (`int`): How often it is damaged, each time from its content at the beginning.

    Returns:
        `list[str]`: the messages of the refusals.
    """
    content, generator, messages = path.read_bytes(), random.Random(0), []
    for _ in range(number):
        path.write_bytes(mutated(content, generator))
        try:
            read(path)
        except ValueError as error:
            messages.append(str(error))
            assert str(path) in messages[-1] and "\n" not in messages[-1]
    return messages


def damage_member(shard: Path, name: str) -> None:
    """Overwrites a member of a tar file, such as `clip_0.flow_00.png`."""
    with tarfile.open(shard) as tar:
        member = tar.getmember(name)
    content = bytearray(shard.read_bytes())
    content[member.offset_data : member.offset_data + member.size] = b"\xff" * member.size
    shard.write_bytes(content)


# What may stand for a value of a configuration.
STRANGE_VALUES = (
    *(None, True, "", "x", [], {}, 0, -1, 3, 10**6, 10**11, 10**30, 0.5, math.nan, math.inf, [8], [8, 10**12], ["x"]),
    *([[]], {"a": 1}, "DownBlock2D", ["DownBlock2D"] * 50),
)


def mutated_config(config: dict[str, Any], generator: random.Random) -> dict[str, Any]:
    """A JSON object in which one to three fields are replaced or removed."""
    changed = dict(config)
    for name in generator.sample(sorted(config), min(len(config), generator.randint(1, 3))):
        if generator.random() < 0.15:
            del changed[name]
        elif isinstance(config[name], list) and config[name] and generator.random() < 0.3:
            changed[name] = [*config[name][1:], generator.choice(STRANGE_VALUES)]
        else:
            changed[name] = generator.choice(STRANGE_VALUES)
    return changed
