"""How relevant each moment of a video is to a question, and which frames were chosen, as a small picture in SVG."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 600, 48


def relevance_strip(
    relevance: Sequence[tuple[float, float]],
    *,
    pts_s: Sequence[float],
    evidence_s: Sequence[tuple[float, float]] = (),
) -> str:
    """An `<svg>`: the relevance (times, 0 to 1) as an area, the chosen frames as lines, the evidence as a band.

    Empty without a relevance. Its colours are those of the report's style sheet.
    """
    if not relevance:
        return ""
    ends = [time_s for time_s, _ in relevance] + list(pts_s)
    start_s, end_s = min(ends), max(ends)
    length_s = max(end_s - start_s, 1e-6)

    def x(time_s: float) -> float:
        return round(min(max((time_s - start_s) / length_s, 0), 1) * WIDTH, 1)

    curve = " ".join(f"{x(t)},{round((1 - value) * HEIGHT, 1)}" for t, value in relevance)
    left, right = x(relevance[0][0]), x(relevance[-1][0])
    bands = "".join(
        f'<rect class="evidence" x="{x(a)}" y="0" width="{max(1.5, x(b) - x(a)):.1f}" height="{HEIGHT}"/>'
        for a, b in evidence_s
        if b >= start_s and a <= end_s
    )
    lines = "".join(f'<path class="frame" d="M{x(t)} 0V{HEIGHT}"/>' for t in pts_s)
    words = f"relevance from {start_s:.0f} to {end_s:.0f} s, {len(pts_s)} frames chosen"
    return (
        f'<svg class="relevance" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}"><title>{words}</title>{bands}'
        f'<polygon points="{left},{HEIGHT} {curve} {right},{HEIGHT}"/>{lines}</svg>'
    )
