"""Messages: what is packed comes back, as with openpi's packing; hostile bytes are refused."""

import contextlib
import pickle
import time
import tracemalloc

import msgpack
import numpy as np
import pytest

from planning.errors import PlanError
from planning.remote.wire import DTYPES, MAX_LIST, MAX_OBJECTS, pack, unpack
from tests.planning.remote.serving import pack_array, unpack_array


def array(**changes):
    good = {b"__ndarray__": True, b"data": bytes(12), b"dtype": "<f4", b"shape": [3]}
    return msgpack.packb({"x": good | {key.encode(): value for key, value in changes.items()}})


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (1, 0, 5)])
def test_arrays_come_back_and_openpi_reads_and_writes_the_same_bytes(dtype, shape):
    rng = np.random.default_rng(0)
    x = np.asarray(rng.random(shape) * 100).astype(dtype)
    data = pack({"x": x, "n": 3, "text": "a", "none": None, "list": [1, [2.5]]})
    assert data == msgpack.packb(
        {"x": x, "n": 3, "text": "a", "none": None, "list": [1, [2.5]]}, default=pack_array
    )
    for read in (unpack(data), msgpack.unpackb(data, object_hook=unpack_array)):
        assert read["x"].dtype == x.dtype
        assert np.array_equal(read["x"], x)
        assert (read["n"], read["text"], read["none"], read["list"]) == (3, "a", None, [1, [2.5]])


def test_scalars_come_back_as_numbers():
    assert unpack(pack({"x": np.float32(0.5), "n": np.int64(7)})) == {"x": 0.5, "n": 7}


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.zeros(2, complex), {1, 2}])
def test_what_is_no_number_is_not_sent(value):
    with pytest.raises(PlanError, match="cannot be sent"):
        pack({"x": value})


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


LIE = msgpack.packb([0] * MAX_LIST)[:3]
HOSTILE = {
    "empty": b"",
    "half": pack({"x": np.zeros(9)})[:-5],
    "two": pack({"x": 1}) * 2,
    "no map": msgpack.packb([1, 2]),
    "number": msgpack.packb(3),
    "pickle": pickle.dumps(Trap()),
    "pickle as bytes of objects": array(dtype="|O", data=pickle.dumps(Trap())),
    "structured type": array(dtype="f4,f4"),
    "void": array(dtype="|V12"),
    "long type": array(dtype="<f4" * 10_000),
    "type is a list": array(dtype=[["x", "<f4"]]),
    "byte order": array(dtype=">f4"),
    "too few bytes": array(shape=[4]),
    "too many bytes": array(shape=[2]),
    "negative": array(shape=[-3]),
    "huge": array(shape=[2**31 - 1] * 8),
    "many dimensions": array(shape=[1] * 40),
    "shape is a text": array(shape="3"),
    "shape of booleans": array(shape=[True, True, True]),
    "data is a list": array(data=[0] * 12),
    "scalar of text": msgpack.packb({"x": {b"__npgeneric__": True, b"data": "rm"}}),
    "byte keys": msgpack.packb({b"x": 1}),
    "keys of numbers": msgpack.packb({1: 2}),
    "nested lists": msgpack.packb({"x": 1})[:3] + b"\x91" * 100_000,
    "nested maps": b"\x81\xa1x" * 100_000,
    "declared long": b"\x81\xa1x\xdd\xff\xff\xff\xff",
    "declared long, nested": b"\x81\xa1x" + (b"\xdc\xff\xff" * 10_000),
    "long list": msgpack.packb({"x": [0] * (MAX_LIST + 1)}),
    "many lists": msgpack.packb({"x": [[[]] * MAX_LIST] * MAX_LIST}),
    "extension": msgpack.packb({"x": msgpack.ExtType(5, b"abc")}),
    "time": msgpack.packb({"x": msgpack.Timestamp(1, 1)}),
    "long text": msgpack.packb({"x": "a" * 100_000}),
    "not UTF-8": b"\x81\xa1x\xa2\xff\xfe",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_soon_and_in_little_memory(name):
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(PlanError, match="message"):
        unpack(HOSTILE[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20
    assert time.process_time() - began < 5


def test_many_small_values_are_bounded():
    rows = [[0.5] * MAX_LIST] * (MAX_OBJECTS // MAX_LIST + 1)
    with pytest.raises(PlanError, match="more than"):
        unpack(msgpack.packb({"x": rows}))


def test_random_bytes_never_raise_anything_else():
    rng = np.random.default_rng(1)
    good = pack({"image": np.zeros((4, 4, 3), np.uint8), "state": [0.1] * 7, "n": {"a": None}})
    for _ in range(3000):
        data = bytearray(good)
        for place in rng.integers(0, len(good), rng.integers(1, 6)):
            data[place] = rng.integers(0, 256)
        with contextlib.suppress(PlanError):
            assert isinstance(unpack(bytes(data)), dict)
