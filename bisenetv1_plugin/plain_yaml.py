"""YAML of plain values, of files that may come from anywhere: small, and no larger once its aliases are spelt out."""

from __future__ import annotations

import itertools
from typing import Any

import yaml

_VALUES = 100_000  # with the aliases spelt out


class NotPlain(ValueError):
    """The content is no YAML of plain values; the message says why."""


def parse(content: str | bytes, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The value of a file's content.

    Raises:
        NotPlain: it is no YAML, has an odd tag, nests too deeply, or grows too large.
    """
    try:
        made = loader(content)
        node = made.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return made.construct_document(node)
    except RecursionError as error:
        raise NotPlain("it nests its values too deeply") from error
    except NotPlain:
        raise
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise NotPlain(str(error)) from error  # the others: what PyYAML raises for a tag whose value does not fit it


def _count(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """How many values a node of YAML is once every alias is spelt out, as whoever prints or checks them does."""
    if id(node) in counts:
        known = counts[id(node)]
        if known is None:
            raise NotPlain("an alias stands inside of what it names")
        return known
    counts[id(node)] = None
    inner = {yaml.SequenceNode: node.value, yaml.MappingNode: itertools.chain.from_iterable(node.value)}
    total = 1 + sum(_count(child, counts) for child in inner.get(type(node), ()))
    if total > _VALUES:
        raise NotPlain(f"its aliases make more than {_VALUES} values")
    counts[id(node)] = total
    return total
