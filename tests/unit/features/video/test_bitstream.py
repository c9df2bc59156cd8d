from __future__ import annotations

from features.video import bitstream

AVCC = bytes([1, 100, 0, 31, 0xFF])
HVCC = bytes([1, *[0] * 20, 0xFF])


def sized(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def coded(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def test_both_framings_give_the_same_units() -> None:
    units = (bytes([0x67, 1, 2, 3]), bytes([0x65, 9, 8, 7]))
    assert [bytes(unit) for unit in bitstream.units(sized(*units), AVCC, "h264")] == list(units)
    # A zero before a start code of four bytes cannot be told from one at the unit's end.
    found = [bytes(unit).rstrip(b"\0") for unit in bitstream.units(coded(*units), None, "h264")]
    assert found == list(units)


def test_only_an_idr_picture_is_one() -> None:
    # Type 5 is an IDR slice, 1 another slice, 6 a recovery point's message.
    assert bitstream.is_idr(sized(bytes([0x06, 5, 1]), bytes([0x65, 1, 2])), AVCC)
    assert not bitstream.is_idr(sized(bytes([0x06, 6, 1]), bytes([0x41, 1, 2])), AVCC)


def test_the_layer_is_that_of_the_first_picture_unit() -> None:
    # Second byte: three low bits are the temporal layer plus one. Type 35 is a delimiter.
    delimiter, slice_of_layer_2 = bytes([35 << 1, 1, 0]), bytes([0 << 1, 3, 0])
    assert bitstream.temporal_layer(sized(delimiter, slice_of_layer_2), HVCC) == 2
    assert bitstream.temporal_layer(coded(delimiter, slice_of_layer_2), None) == 2


def test_lengths_that_lie_end_the_search() -> None:
    assert list(bitstream.units(b"\xff\xff\xff\xff\x65\x01", AVCC, "h264")) == [b"\x65\x01"]
    assert list(bitstream.units(b"\0\0\0", AVCC, "h264")) == []
    assert list(bitstream.units(b"\0\0\0\0\x65\x01", AVCC, "h264")) == [b"\x65\x01"]
    assert list(bitstream.units(b"\0\0\1\0\0\1\x65\x01", None, "h264"))[-1] == b"\x65\x01"


def test_parameters_are_told_from_pictures() -> None:
    sets = [bytes([0x67, 1, 2]), bytes([0x68, 3, 4])]
    picture = bytes([0x65, 9, 8])
    for packet, record in ((sized(*sets, picture), AVCC), (coded(*sets, picture), None)):
        assert list(bitstream.parameter_sets(packet, record, "h264")) == sets
    hevc = [bytes([kind << 1, 1, 7]) for kind in (32, 33, 34)]
    assert (
        list(bitstream.parameter_sets(sized(*hevc, bytes([19 << 1, 1, 5])), HVCC, "hevc")) == hevc
    )
    layer, frame = bytes([0x20, 8, 9]), bytes([0xB6, 1, 2])
    assert list(bitstream.parameter_sets(coded(layer, frame), None, "mpeg4")) == [layer]
