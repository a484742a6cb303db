"""Wave quantization: how a matrix product is cut into tiles, and tiles into waves.

A kernel computes C in tiles, one block of threads each, and the streaming multiprocessors (SM) take
the blocks in waves. A last wave that is not full takes as long as a full one, so the same
multiplication can be 10 % slower with one more column of tiles. This is arithmetic: nothing here
touches a GPU. Source: NVIDIA, Matrix Multiplication Background User's Guide, "Wave Quantization".
"""

from __future__ import annotations

from collections.abc import Sequence

from mlk8s.errors import UsageError

#: Tile of C that one block computes, rows × columns: the largest in cuBLAS's choice for 16-bit
#: types since Ampere. A library may choose another, so a wave count is a model until measured.
TILE = (128, 256)
#: Lengths of the sums to try: the longer, the less the start and the end of a tile weigh.
DEPTHS = (16384, 13312)


def tiles(m: int, n: int, tile: tuple[int, int] = TILE) -> int:
    """Blocks of a product whose result is m × n: ⌈m / rows⌉ · ⌈n / columns⌉."""
    return -(-m // tile[0]) * -(-n // tile[1])


def waves(m: int, n: int, sm_count: int, tile: tuple[int, int] = TILE) -> float:
    """Blocks divided by SMs, one resident block an SM; 2.0 is two full waves, 2.1 takes three."""
    return tiles(m, n, tile) / sm_count


def fill(m: int, n: int, sm_count: int, tile: tuple[int, int] = TILE) -> float:
    """Share of the SM time of all waves that computes the result, 0 to 1.

    Padding of a tile that hangs over the edge of C counts as lost.
    """
    rounds = -(-tiles(m, n, tile) // sm_count)
    return m * n / (rounds * sm_count * tile[0] * tile[1])


def shapes(
    sm_count: int,
    tile: tuple[int, int] = TILE,
    depths: Sequence[int] = DEPTHS,
    most_waves: int = 8,
) -> list[tuple[int, int, int]]:
    """Shapes (m, n, k) that leave no SM idle, the likeliest fastest first.

    The fullest waves first; between equals two waves before more (one wave shows its start and its
    end), then the squarest, which reads the fewest bytes. Rows of tiles come in pairs: since
    Hopper two blocks form a cluster that shares an operand, and an odd row out cost up to a third
    of the rate on an H100 (4224×2048×16384, two full waves with 33 rows of tiles: 506 TFLOP/s,
    against 835 for 5632×1536 with 44).

    Args:
        sm_count: streaming multiprocessors of the device.
        tile: rows and columns of a tile of C.
        depths: values of k.
        most_waves: waves of the largest shape.

    Raises:
        UsageError: a device without SMs.
    """
    if sm_count < 1:
        raise UsageError(f"A device has at least one SM, not {sm_count}.", "pass its SM count.")
    rows, columns = tile
    found = []
    for down in range(2, most_waves * sm_count + 1, 2):
        for across in range(1, most_waves * sm_count // down + 1):
            m, n = down * rows, across * columns
            aspect, full = max(m, n) / min(m, n), fill(m, n, sm_count, tile)
            if aspect <= 4 and full >= 0.95:
                rounds = -(-down * across // sm_count)
                found.append((-full, (rounds - 2) % most_waves, aspect, m, n))
    return [(m, n, k) for k in depths for *_, m, n in sorted(found)]
