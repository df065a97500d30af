"""planning and worldmodel convert pictures alike, although neither imports the other."""

import inspect

import planning.pictures
import worldmodel.data.pictures


def test_the_two_conversions_are_the_same_code():
    ours, theirs = planning.pictures, worldmodel.data.pictures
    for name in ("DEEP_FORMATS", "DIRECT", "WITH_ALPHA"):
        assert getattr(ours, name) == getattr(theirs, name)
    bodies = [inspect.getsource(m.rgb_frame).split('"""')[2] for m in (ours, theirs)]
    assert bodies[0] == bodies[1]
