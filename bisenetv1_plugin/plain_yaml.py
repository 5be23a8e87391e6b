"""Read YAML with plain values from untrusted files, with a limit on the size after aliases are expanded."""

from __future__ import annotations

import itertools
from typing import Any

import yaml

_VALUES = 100_000  # at most, with aliases expanded


class NotPlain(ValueError):
    """The content is not YAML with plain values; the message says why."""


def parse(content: str | bytes, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The value of a file's content.

    Raises:
        NotPlain: it is not YAML, has an unknown tag, is nested too deeply, or expands to too many values.
    """
    try:
        made = loader(content)
        node = made.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return made.construct_document(node)
    except RecursionError as error:
        raise NotPlain("its values are nested too deeply") from error
    except NotPlain:
        raise
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise NotPlain(str(error)) from error  # PyYAML raises the others for a value that does not fit its tag


def _count(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """The number of values in a node with all aliases expanded."""
    if id(node) in counts:
        known = counts[id(node)]
        if known is None:
            raise NotPlain("an alias contains itself")
        return known
    counts[id(node)] = None
    inner = {yaml.SequenceNode: node.value, yaml.MappingNode: itertools.chain.from_iterable(node.value)}
    total = 1 + sum(_count(child, counts) for child in inner.get(type(node), ()))
    if total > _VALUES:
        raise NotPlain(f"it has more than {_VALUES} values with its aliases expanded")
    counts[id(node)] = total
    return total
