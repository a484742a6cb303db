"""Waves: NVIDIA's own examples, arithmetic done by hand, and what the list of shapes promises."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest

from mlk8s.bench import waves
from mlk8s.errors import UsageError

A100 = 108  # streaming multiprocessors
H100_PCIE = 114
H100_SXM = 132

#: SM counts: T4, A30, L4, A100, H100 PCIe, H100 SXM, L40S, B200 and RTX 5090 (their datasheets),
#: slices of A100 (14, 28, 42, 98) and of H100 (16, 26, 32, 60), one prime and one odd number.
SM_COUNTS = [14, 16, 26, 28, 32, 40, 42, 56, 58, 60, 98, 108, 113, 114, 132, 142, 147, 148, 170]


def test_a_tile_that_hangs_over_the_edge_counts_whole() -> None:
    # Matrix Multiplication Background User's Guide, "Tile Quantization": 256 × 256 is four tiles
    # of 128 × 128, one row more makes six.
    assert waves.tiles(256, 256, (128, 128)) == 4
    assert waves.tiles(257, 256, (128, 128)) == 6
    assert waves.tiles(1, 1, (128, 128)) == 1


@pytest.mark.parametrize(
    ("n", "tiles", "expected"),
    [
        # The same guide, "Wave Quantization": M = 2304, 108 SMs of an A100, tiles of 256 × 128,
        # one block an SM, so that a wave is 108 tiles. By hand: 2304 rows are 9 tiles, N = 1536
        # are 12, which makes 108; one column more is a thirteenth column of tiles.
        (128, 9, 9 / 108),
        (1536, 108, 1.0),
        (1537, 117, 13 / 12),
        (3072, 216, 2.0),
        (3073, 225, 25 / 12),
        (4608, 324, 3.0),
    ],
)
def test_the_waves_of_nvidias_example(n: int, tiles: int, expected: float) -> None:
    assert waves.tiles(2304, n, (256, 128)) == tiles
    assert waves.waves(2304, n, A100, (256, 128)) == pytest.approx(expected)


def test_twelve_blocks_on_eight_sms() -> None:
    # GPU Performance Background User's Guide, figure 3: 12 thread blocks on a GPU of 8 SMs run in
    # two waves, the second of which uses half of it.
    assert waves.waves(12, 1, 8, (1, 1)) == 1.5
    assert waves.fill(12, 1, 8, (1, 1)) == pytest.approx((1 + 0.5) / 2)


def test_one_tile_more_than_a_wave_takes_as_long_as_two() -> None:
    # Colfax Research, "CUTLASS Tutorial: Persistent Kernels and Stream-K": on the 114 SMs of an
    # H100 PCIe, 115 work units need two waves, as 228 do.
    assert ceil(waves.waves(115, 1, H100_PCIE, (1, 1))) == 2
    assert waves.waves(228, 1, H100_PCIE, (1, 1)) == 2
    assert waves.fill(115, 1, H100_PCIE, (1, 1)) == pytest.approx(115 / 228)
    assert waves.fill(228, 1, H100_PCIE, (1, 1)) == 1


def test_padding_is_lost() -> None:
    # By hand: 1793 × 1793 is 8 × 15 = 120 tiles of 256 × 128, two waves of 108; the SMs could
    # have computed 216 tiles of 32768 elements in that time.
    assert waves.tiles(1793, 1793, (256, 128)) == 120
    assert waves.fill(1793, 1793, A100, (256, 128)) == pytest.approx(1793**2 / (216 * 32768))
    # 1792 = 7 · 256 = 14 · 128 pads nothing: 98 tiles of one wave.
    assert waves.fill(1792, 1792, A100, (256, 128)) == pytest.approx(98 / 108)


@pytest.mark.parametrize("sm_count", [1, 8, A100, H100_SXM])
def test_one_tile_for_each_sm_is_one_full_wave(sm_count: int) -> None:
    rows, columns = waves.TILE
    assert waves.waves(rows * sm_count, columns, sm_count) == 1
    assert waves.fill(rows * sm_count, columns, sm_count) == 1


# --- the shapes to try --------------------------------------------------------------------------


def test_two_full_waves_come_first_the_squarest_ahead() -> None:
    # By hand: two waves of 132 are 264 tiles = 22·12 = 24·11 = 12·22 = 44·6 of 128 × 256, with an
    # even number of rows; the next, 66·4, is more than four times as high as wide.
    first = [(2816, 3072), (3072, 2816), (1536, 5632), (5632, 1536)]
    found = waves.shapes(H100_SXM)
    assert [(m, n) for m, n, _ in found[:4]] == first
    # Then three waves, 396 tiles, as square as they come: 22·18 and 36·11.
    assert [(m, n) for m, n, _ in found[4:6]] == [(2816, 4608), (4608, 2816)]


def test_one_wave_comes_after_the_others() -> None:
    full = [
        (m, n) for m, n, _ in waves.shapes(H100_SXM, depths=[512]) if m * n % (132 * 2**15) == 0
    ]
    rounds = [m * n // (132 * 2**15) for m, n in full]
    assert list(dict.fromkeys(rounds)) == [2, 3, 4, 5, 6, 7, 8, 1]


def test_an_odd_row_of_tiles_is_left_out() -> None:
    # 33·8 tiles are two full waves of 132 as well. 4224×2048 reached 506 TFLOP/s on an H100 SXM,
    # where 5632×1536, of as many tiles, reached 835.
    found = {shape[:2] for shape in waves.shapes(H100_SXM)}
    assert waves.waves(4224, 2048, H100_SXM) == waves.waves(5632, 1536, H100_SXM) == 2
    assert (5632, 1536) in found and (4224, 2048) not in found


@pytest.mark.parametrize(
    ("m", "n", "full"), [(5632, 1536, 2), (6144, 2816, 4), (9216, 2816, 6), (2816, 3072, 2)]
)
def test_the_fastest_shapes_of_an_h100_are_among_those_tried(m: int, n: int, full: int) -> None:
    # The fastest of 800 bf16 shapes that were measured on an H100 SXM.
    assert waves.waves(m, n, H100_SXM) == full
    assert (m, n, 16384) in waves.shapes(H100_SXM)


@pytest.mark.parametrize("sm_count", SM_COUNTS)
def test_no_shape_wastes_a_twentieth(sm_count: int) -> None:
    for m, n, _ in waves.shapes(sm_count):
        assert m % (2 * 128) == 0 and n % 256 == 0, "whole tiles, their rows in pairs"
        blocks = (m // 128) * (n // 256)
        rounds = ceil(blocks / sm_count)
        assert 1 <= rounds <= 8
        assert blocks >= 0.95 * rounds * sm_count
        assert max(m, n) <= 4 * min(m, n)


@pytest.mark.parametrize("sm_count", SM_COUNTS)
def test_no_shape_is_tried_twice(sm_count: int) -> None:
    found = waves.shapes(sm_count)
    assert len(found) == len(set(found))


def test_every_device_has_shapes_to_try() -> None:
    fewest = min(len(set(waves.shapes(sm_count, depths=[16384]))) for sm_count in range(1, 200))
    assert fewest >= 4, "as many as a search measures at length"


def test_the_list_is_the_same_at_every_depth() -> None:
    found = waves.shapes(H100_SXM, depths=[4096, 512])
    half = len(found) // 2
    assert {k for *_, k in found[:half]} == {4096} and {k for *_, k in found[half:]} == {512}
    assert [shape[:2] for shape in found[:half]] == [shape[:2] for shape in found[half:]]


@pytest.mark.parametrize("sm_count", SM_COUNTS)
def test_the_fullest_then_the_squarest_are_tried_first(sm_count: int) -> None:
    def place(m: int, n: int) -> tuple[Fraction, int, Fraction]:
        """Lost share, waves with a single one last, ratio of the sides: all exact."""
        blocks = (m // 128) * (n // 256)
        rounds = ceil(Fraction(blocks, sm_count))
        lost = 1 - Fraction(blocks, rounds * sm_count)
        return lost, 9 if rounds == 1 else rounds, Fraction(max(m, n), min(m, n))

    places = [place(m, n) for m, n, _ in waves.shapes(sm_count, depths=[512])]
    assert places == sorted(places)


def test_fills_that_differ_by_less_than_a_percent_are_told_apart() -> None:
    # By hand for 113 SMs: seven waves are 791 tiles and eight are 904. 22·36 = 792 tiles leave 112
    # of 904 idle, too many; 30·30 = 900 leave 4 (99.6 %), 22·41 = 902 leave 2 (99.8 %).
    found = [(m // 128, n // 256) for m, n, _ in waves.shapes(113, depths=[512])]
    assert (22, 36) not in found
    assert found.index((22, 41)) < found.index((30, 30))


def test_the_number_of_waves_and_the_tile_can_be_chosen() -> None:
    found = waves.shapes(8, (64, 32), [256], most_waves=1)
    # By hand: 8 tiles of 64 × 32 with an even number of rows and sides in a ratio up to 4: 2·4,
    # which is square, and 4·2 (8·1 is 16 : 1).
    assert found == [(128, 128, 256), (256, 64, 256)]


@pytest.mark.parametrize("sm_count", [0, -1])
def test_a_device_without_sms_is_refused(sm_count: int) -> None:
    with pytest.raises(UsageError, match=f"at least one SM, not {sm_count}") as caught:
        waves.shapes(sm_count)
    assert caught.value.next_step == "pass its SM count."
