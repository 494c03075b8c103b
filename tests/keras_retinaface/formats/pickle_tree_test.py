import collections
import io
import pickle

import pytest

from keras_retinaface.formats import pickle_tree, torch_file


def test_plain_values_of_a_pickle_come_back():
    value = {"a": [1, -2.5, None, True], "b": ((), ("y",), (1, 2, 3, 4)), "c": {"d": 1 << 70}}
    for protocol in (2, 3, 4, 5):
        assert pickle_tree.read(io.BytesIO(pickle.dumps(value, protocol)), {}) == value


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.",  # a tuple in a tuple ... as a key: hashing it ends Python
        b"\x80\x02}N" + b"q\x00h\x00\x86" * 40 + b"Ns.",  # each twice the one before: 2^40 when it is hashed or shown
        b"\x80\x02}]Ns.",
        b"\x80\x02" + b"(" * 1_000_000 + b".",
        # A list of a million, copied by each of many calls.
        b"\x80\x02ccollections\nOrderedDict\nq\x00](" + b"N" * 1_000_000 + b"eq\x01" + b"h\x00h\x01\x85R" * 1000 + b".",
    ],
    ids=["deep", "doubling", "no_key", "marks", "copies"],
)
def test_small_files_take_little(content):
    with pytest.raises(ValueError, match="pickle|pairs|steps"):
        pickle_tree.read(io.BytesIO(content), torch_file._FUNCTIONS)


def test_a_schedule_beside_the_weights_is_no_fault():
    content = pickle.dumps({"schedule": collections.Counter({80: 1}), "epoch": 3}, 2)
    assert pickle_tree.read(io.BytesIO(content), torch_file._FUNCTIONS) == {"schedule": {80: 1}, "epoch": 3}
