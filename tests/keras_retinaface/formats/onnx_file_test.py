"""Messages are written by hand here, so that the reader is held to the format and not to a package that writes it."""

import pytest

from keras_retinaface.formats import onnx_file


def _varint(number):
    found = []
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _field(number, value):
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    value = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _value(name, dtype, *sides):
    shape = b"".join(_field(1, _field(2 if isinstance(side, str) else 1, side)) for side in sides)
    return _field(1, name) + _field(2, _field(1, _field(1, dtype) + _field(2, shape)))


def _node(operator, domain="", *attributes):
    return _field(4, operator) + (_field(7, domain) if domain else b"") + b"".join(_field(5, a) for a in attributes)


def _model(*graph, opsets=("",), **others):
    model = b"".join(_field(8, _field(1, domain) + _field(2, 17)) for domain in opsets)
    return model + _field(7, b"".join(graph)) + b"".join(_field(int(key[1:]), value) for key, value in others.items())


def test_parts_worked_example():
    branch = _field(1, _node("Relu")) + _field(5, _field(8, "inner"))
    parts = onnx_file.read(
        _model(
            _field(1, _node("Conv")),
            _field(1, _node("If", "", _field(6, branch))),
            _field(1, _node("Run", "com.example")),
            _field(5, _field(8, "limit") + _field(1, 1)),
            _field(5, _field(8, "weight") + _field(9, b"\0" * 300)),
            _field(11, _value("image", 2, "batch", "height", "width", 3)),
            _field(11, _value("limit", 1, 1)),
            _field(12, _value("boxes", 1, "batch", 750, 4)),
            opsets=("", "com.example"),
            _14=_field(1, "name") + _field(2, "RetinaFace"),
        )
    )
    assert parts.inputs == {
        "image": onnx_file.Value("uint8", ("batch", "height", "width", 3)),
        "limit": onnx_file.Value("float32", (1,)),
    }
    assert parts.outputs == {"boxes": onnx_file.Value("float32", ("batch", 750, 4))}
    assert parts.defaults == {"limit"}  # an initializer that is an input too
    assert parts.operators == {("", "Conv"), ("", "If"), ("", "Relu"), ("com.example", "Run")}
    assert parts.domains == {"", "com.example"} and parts.metadata == {"name": "RetinaFace"}
    assert not parts.has_functions and not parts.has_external


@pytest.mark.parametrize(
    "graph",
    [
        _field(5, _field(8, "a") + _field(14, 1)),
        _field(5, _field(8, "a") + _field(13, _field(1, "location"))),
        _field(1, _node("Constant", "", _field(5, _field(14, 1)))),
        _field(1, _node("If", "", _field(6, _field(5, _field(14, 1))))),
    ],
    ids=["by kind", "by place", "of a node", "in a branch"],
)
def test_weights_in_other_files_are_seen_wherever_they_are_named(graph):
    assert onnx_file.read(_model(graph)).has_external
    assert not onnx_file.read(_model(_field(5, _field(8, "a") + _field(14, 0)))).has_external


def test_functions_are_seen():
    assert onnx_file.read(_model(_25=b"")).has_functions and onnx_file.read(_model(_20=b"")).has_functions


def _nested(depth):
    graph = _field(1, _node("Relu"))
    for _ in range(depth):
        graph = _field(1, _node("If", "", _field(6, graph)))
    return graph


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an ONNX file"),
        (_field(7, b""), "not an ONNX file"),
        (_model(_nested(5)), "branches inside branches, more than 4 deep"),
        (_model(_field(15, b"")), "sparse tensors"),
        (_model(_field(1, _node("Constant", "", _field(22, b"")))), "sparse tensors"),
        (_model(_field(1, _node("Relu")))[:-1], "ends too early"),
        (b"\x3a" + b"\xff" * 11, "a number of too many bytes"),
        (_field(7, 3), "a number where a message should be"),
        (b"\x3b", "not an ONNX file"),
    ],
    ids=["empty", "no operators", "deep", "sparse", "sparse node", "cut", "varint", "number", "kind"],
)
def test_what_is_no_file_of_ours_is_named(content, message):
    with pytest.raises(onnx_file.DAMAGE, match=message):
        onnx_file.read(content)
    assert onnx_file.read(_model(_nested(4))).operators == {("", "If"), ("", "Relu")}


def test_the_seal_holds_for_every_byte():
    plain = _model(_field(1, _node("Relu")))
    sealed = onnx_file.seal(plain)
    assert sealed.startswith(plain) and set(onnx_file.read(sealed).metadata) == {"checksum"}
    assert onnx_file.check_seal(sealed) and not onnx_file.check_seal(plain) and not onnx_file.check_seal(b"")
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        try:
            assert not onnx_file.check_seal(changed)
            assert place >= len(plain)  # the entry's own name: then the file is one without a checksum
        except ValueError as error:
            assert str(error) == "damaged: its checksum is another"
