"""Batches of indexes: which rule makes which cell. Patterns are checked by asking them for every path of a small grid."""

import itertools
import re

from mentionforge.dag.together import SINGLE, batches, pattern_of


def owners(cells, names="a|b|c.c"):
    """For each path CORPUS/GENERATOR/LINKER/INDEX of a grid: the batches whose rule would make it."""
    grid = itertools.product(["a", "b", "c.c"], ["g", "g2"], ["l", "l+"], ["i", "j", "k"])
    result = {}
    for path in grid:
        *_, index = path
        fitting = []
        for batch in batches(cells):
            of_rule = "[^/]+" if batch.indexes == SINGLE else "|".join(batch.indexes)
            if re.fullmatch(f"(?P<corpus>{batch.first_level(names)})/[^/]+/[^/]+/(?:{of_rule})/predictions", "/".join([*path, "predictions"])):
                fitting.append(batch)
        (result[path],) = [(batch.indexes if batch.suffix else (index,)) for batch in fitting]
    return result


def test_every_cell_has_one_rule_and_is_made_with_the_indexes_it_is_asked_with():
    cells = {("a", "g", "l"): ["i", "j"], ("b", "g", "l"): ["j", "i"], ("c.c", "g", "l"): ["i", "j", "k"], ("a", "g2", "l+"): {"k"}}
    expected = {}
    for path in owners(cells):
        *levels, index = path
        asked = tuple(sorted(cells.get(tuple(levels), ())))
        expected[path] = asked if len(asked) > 1 and index in asked else (index,)
    assert owners(cells) == expected
    assert expected["b", "g", "l", "i"] == ("i", "j") and expected["b", "g", "l", "k"] == ("k",) and expected["c.c", "g", "l", "k"] == ("i", "j", "k")
    assert [batch.suffix for batch in batches(cells)] == ["", "_together", "_together_2"]
    assert batches(cells)[1].indexes == ("i", "j"), "the set of most cells comes first"


def test_without_shared_indexes_there_is_one_rule():
    assert [(batch.indexes, batch.suffix, batch.pattern) for batch in batches({("a", "g", "l"): ["i"], ("b", "g", "l"): ["j"]})] == [(SINGLE, "", "")]
    assert set(owners({}).values()) == {("i",), ("j",), ("k",)}


def test_a_dot_in_a_name_is_no_wildcard():
    assert not re.match(pattern_of({("c.c", "g")}), "cxc/g/") and re.match(pattern_of({("c.c", "g")}), "c.c/g/")


def test_the_pattern_of_a_grid_is_as_long_as_its_names():
    """Snakemake asks it for each of thousands of paths: 50 strategies by 40 linkers must not be 2,000 alternatives."""
    strategies, linkers = [f"strategy{i}" for i in range(50)], [f"linker{i}" for i in range(40)]
    pattern = pattern_of(set(itertools.product(["a", "b"], ["g"], strategies, linkers)))
    assert len(pattern) < 2 * len("".join(strategies + linkers))


def test_logs_of_several_indexes_lie_above_those_of_one():
    single, several = batches({("a", "g", "l"): ["i", "j"]})
    assert single.job("normalization/a/g/l") == "normalization/a/g/l/{index}" and several.job("normalization/a/g/l") == "normalization/a/g/l"
