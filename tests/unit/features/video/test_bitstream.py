from __future__ import annotations

from features.video import bitstream

AVCC = bytes([1, 100, 0, 31, 0xFF])
HVCC = bytes([1, *[0] * 20, 0xFF])


def with_lengths(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def with_start_codes(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def test_lengths_and_start_codes_give_the_same_units() -> None:
    units = (bytes([0x67, 1, 2, 3]), bytes([0x65, 9, 8, 7]))
    assert [bytes(unit) for unit in bitstream.units(with_lengths(*units), AVCC, "h264")] == list(
        units
    )
    # A zero at the end of a unit may belong to the next start code of four bytes.
    found = [
        bytes(unit).rstrip(b"\0")
        for unit in bitstream.units(with_start_codes(*units), None, "h264")
    ]
    assert found == list(units)


def test_only_an_idr_slice_makes_an_idr_frame() -> None:
    # Type 5 is an IDR slice, 1 another slice, 6 a message (such as a recovery point).
    assert bitstream.is_idr(with_lengths(bytes([0x06, 5, 1]), bytes([0x65, 1, 2])), AVCC)
    assert not bitstream.is_idr(with_lengths(bytes([0x06, 6, 1]), bytes([0x41, 1, 2])), AVCC)


def test_the_temporal_layer_is_that_of_the_first_slice() -> None:
    # Second byte: three low bits are the temporal layer plus one. Type 35 is a delimiter.
    delimiter, slice_of_layer_2 = bytes([35 << 1, 1, 0]), bytes([0 << 1, 3, 0])
    assert bitstream.temporal_layer(with_lengths(delimiter, slice_of_layer_2), HVCC) == 2
    assert bitstream.temporal_layer(with_start_codes(delimiter, slice_of_layer_2), None) == 2


def test_wrong_lengths_end_the_search() -> None:
    assert list(bitstream.units(b"\xff\xff\xff\xff\x65\x01", AVCC, "h264")) == [b"\x65\x01"]
    assert list(bitstream.units(b"\0\0\0", AVCC, "h264")) == []
    assert list(bitstream.units(b"\0\0\0\0\x65\x01", AVCC, "h264")) == [b"\x65\x01"]
    assert list(bitstream.units(b"\0\0\1\0\0\1\x65\x01", None, "h264"))[-1] == b"\x65\x01"


def test_parameter_sets_are_separated_from_slices() -> None:
    sets = [bytes([0x67, 1, 2]), bytes([0x68, 3, 4])]
    picture = bytes([0x65, 9, 8])
    for packet, record in (
        (with_lengths(*sets, picture), AVCC),
        (with_start_codes(*sets, picture), None),
    ):
        assert list(bitstream.parameter_sets(packet, record, "h264")) == sets
    hevc = [bytes([kind << 1, 1, 7]) for kind in (32, 33, 34)]
    assert (
        list(bitstream.parameter_sets(with_lengths(*hevc, bytes([19 << 1, 1, 5])), HVCC, "hevc"))
        == hevc
    )
    layer, frame = bytes([0x20, 8, 9]), bytes([0xB6, 1, 2])
    assert list(bitstream.parameter_sets(with_start_codes(layer, frame), None, "mpeg4")) == [layer]
