"""Nested options by their dotted names."""

from worldmodel.dotted_names import dotted


def test_leaves_keep_their_order_and_get_dotted_names():
    tree = {"b": {"x": 1, "deep": {"y": [2, {"z": 3}]}}, "a": None, "none": {}}
    assert list(dotted(tree)) == [("b.x", 1), ("b.deep.y", [2, {"z": 3}]), ("a", None)]
