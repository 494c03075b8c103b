import re

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_retinaface.formats import tflite_file
from tests.fuzz import tiny_model


def _opened(content):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))


def test_equal_weights_of_several_models_are_stored_once():
    single = tflite_file.merge({"vga": tiny_model.part()}, {"name": "a"})
    content = tflite_file.merge({"vga": tiny_model.part(), "hd": tiny_model.part()}, {"name": "a"})
    merged = _opened(content)
    assert [signature.signatureKey for signature in merged.signatureDefs] == [b"vga", b"hd"]
    assert [signature.subgraphIndex for signature in merged.signatureDefs] == [0, 1]
    assert len(merged.buffers) == len(_opened(single).buffers) and merged.buffers[0].data is None
    for first, second in zip(*(subgraph.tensors for subgraph in merged.subgraphs)):
        assert first.buffer == second.buffer
    (landmarks,) = (tensor for tensor in merged.subgraphs[1].tensors if tensor.name == b"landmarks")
    held = np.asarray(merged.buffers[landmarks.buffer].data, np.uint8).tobytes()
    assert held == np.arange(20, dtype=np.float32).tobytes()
    assert content.count(held) == 1 and content.index(held) % 16 == 0  # runtimes map weights where they lie


def test_metadata_comes_back_with_a_checksum(tmp_path):
    said = {"name": "Gesicht ä", "signatures": {"vga": {"height": 480}}}
    (tmp_path / "a.tflite").write_bytes(tflite_file.merge({"vga": tiny_model.part()}, said))
    found = tflite_file.read_metadata(tmp_path / "a.tflite")
    assert re.fullmatch("sha256:[0-9a-f]{64}", found.pop("checksum")) and found == said
    (tmp_path / "b.tflite").write_bytes(tiny_model.part())
    assert tflite_file.read_metadata(tmp_path / "b.tflite") == {}
    (tmp_path / "c.tflite").write_bytes(b"no model at all")
    with pytest.raises(ValueError, match="c.tflite: not a .tflite file"):
        tflite_file.read_metadata(tmp_path / "c.tflite")


def test_merging_again_keeps_one_metadata():
    once = tflite_file.merge({"vga": tiny_model.part()}, {"name": "a"})
    again = tflite_file.merge({"vga": once}, {"name": "b"})
    assert [entry.name for entry in _opened(again).metadata] == [tflite_file.METADATA.encode()]
    assert tflite_file.metadata(schema.Model.GetRootAs(again))["name"] == "b" and tflite_file.check_seal(again)


def test_a_model_of_several_signatures_is_no_part():
    both = tflite_file.merge({"vga": tiny_model.part(), "hd": tiny_model.part()}, {})
    with pytest.raises(ValueError, match="`models` must have one subgraph and one signature each. Received: 'all'"):
        tflite_file.merge({"all": both}, {})


def test_the_seal_holds_for_every_byte():
    sealed = tiny_model.tflite()
    assert tflite_file.check_seal(sealed) and not tflite_file.check_seal(tiny_model.part())
    own = sealed.index(b'"checksum": "sha256:')
    for place in range(0, len(sealed), 7):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        if own <= place < own + 20:
            assert not tflite_file.check_seal(changed)  # then it looks like one without a checksum
        else:
            try:
                assert not tflite_file.check_seal(changed) and own <= place < own + 85
            except ValueError as error:
                assert "by the checksum in its metadata" in str(error)
