"""No module and no room of the four packages imports itself by way of others."""

import grimp
import pytest

PACKAGES = ("worldmodel", "planning", "robot", "envs")


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of names that reach each other, by Kosaraju's two passes without recursion."""
    names = set(edges).union(*edges.values())
    forward = {name: edges.get(name, set()) for name in names}
    backward: dict[str, set[str]] = {name: set() for name in names}
    for name, found in forward.items():
        for other in found:
            backward[other].add(name)

    def walk(start, graph, seen):
        stack, order = [(start, iter(sorted(graph[start])))], []
        seen.add(start)
        while stack:
            name, rest = stack[-1]
            following = next((n for n in rest if n not in seen), None)
            if following is None:
                order.append(name)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(sorted(graph[following]))))
        return order

    seen: set[str] = set()
    finished = [n for name in sorted(names) if name not in seen for n in walk(name, forward, seen)]
    seen = set()
    groups = [walk(name, backward, seen) for name in reversed(finished) if name not in seen]
    return [sorted(group) for group in groups if len(group) > 1]


def test_the_search_finds_cycles_and_no_others():
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "f": {"g"}, "g": {"f"}}
    assert sorted(cycles(edges)) == [["a", "b", "c"], ["f", "g"]]


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def test_no_module_imports_itself_by_way_of_others(imports):
    assert len(imports) > 150
    assert cycles(imports) == []


def test_no_room_imports_itself_by_way_of_others(imports):
    def room(name):
        return ".".join(name.split(".")[:2])

    edges: dict[str, set[str]] = {}
    for name, found in imports.items():
        edges.setdefault(room(name), set()).update(room(n) for n in found if room(n) != room(name))
    assert cycles(edges) == []
