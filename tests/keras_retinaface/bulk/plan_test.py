import pytest

from keras_retinaface.bulk import plan, source

try:
    import pyarrow  # noqa: F401
except ImportError as error:
    pytest.skip(f"no usable pyarrow: {error}", allow_module_level=True)


@pytest.mark.parametrize(("num", "size"), [(1, 8), (100, 8), (1000, 16), (10_000_000, 4096)])
def test_units_are_enough_for_many_and_none_is_long(num, size):
    assert plan.unit_size(num) == size


def test_each_image_is_in_one_unit_and_the_plan_is_read_by_units(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "_CHUNK", 64)  # so that units and repeats cross chunks
    entries = [source.Entry(f"{index}.jpg", "a.tar", index, 7) for index in range(999)] + [
        source.Entry("odd\udcff.jpg")
    ]
    given = entries[:300] + entries[:200] + entries[250:] + entries[-1:]
    assert plan.write(tmp_path, given) == (1000, 251)
    written = plan.Plan(tmp_path)
    assert (written.num_images, written.num_units, written.size(0), written.size(62)) == (1000, 63, 16, 8)
    assert [entry for unit in range(63) for entry in written.read(unit)] == entries
    (tmp_path / plan.part_name(5)).touch()
    assert plan.missing(tmp_path, 7) == [0, 1, 2, 3, 4, 6]
    assert {path.name for path in tmp_path.iterdir()} == {plan.PLAN, plan.part_name(5)}


def test_rows_of_one_name_are_different_images_and_a_container_given_twice_is_found(tmp_path):
    shards = [source.Entry("0.jpg", shard, row, -1) for shard in ("a.parquet", "b.parquet") for row in range(2)]
    assert plan.write(tmp_path, shards + shards[:2]) == (4, 2)
    assert plan.Plan(tmp_path).read(0) == shards
