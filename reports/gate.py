"""What the gate says, as a page, a comment for a pull request, plain lines and data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import siderostat
from siderostat.gate import Verdict
from siderostat.reports.labels import about, number, seconds
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.verdicts import CPU, MODEL, WALL, Exact, Outcome, Series

if TYPE_CHECKING:
    from siderostat.reports.charts import Chart

SCHEMA = 1
"""Of ``gate.json``."""
_BASES = {WALL: "clock", CPU: "CPU time", MODEL: "model"}
_WORDS = {
    Verdict.PASS: "PASS",
    Verdict.FAIL: "FAIL",
    Verdict.INCONCLUSIVE: "INCONCLUSIVE",
    Verdict.NOT_COMPARABLE: "NOT COMPARABLE",
}
_KINDS = {Verdict.PASS: "plain", Verdict.FAIL: "failed"}
_ROW = 30  # height of a series in the chart, pixels
_ORDER = (Verdict.FAIL, Verdict.NOT_COMPARABLE, Verdict.INCONCLUSIVE, Verdict.PASS)


def word(verdict: Verdict) -> str:
    """Return a verdict as it is printed."""
    return _WORDS[verdict]


def change(ratio: float) -> str:
    """Return a ratio of times as a change: "+3.2 %"."""
    return f"{(ratio - 1) * 100:+.1f} %"


def lines(of: Outcome) -> Iterator[str]:
    """Yield one line for each series and figure, in a form that stays the same for scripts: ``key=value`` pairs."""
    for one in of.series:
        yield f"gate: {_line(one)}"
        for figure in one.exact:
            if figure.base != figure.head:
                yield (
                    f"gate: verdict={figure.verdict.value} series={_quoted(one)} figure={json.dumps(figure.name)} "
                    f"base={figure.base:.12g} head={figure.head:.12g}"
                )


def _line(one: Series) -> str:
    words = [f"verdict={one.verdict.value}", f"series={_quoted(one)}"]
    slowdown = one.slowdown
    if slowdown is not None:
        words.append(f"slowdown={slowdown.value - 1:+.4f}")
        if slowdown.low is not None and slowdown.high is not None:
            words += [f"low={slowdown.low - 1:+.4f}", f"high={slowdown.high - 1:+.4f}"]
        words += [f"detectable={one.detectable:.4f}"] if one.detectable is not None else []
        words += [f"pairs={one.pairs}", f"basis={one.basis}"]
    return " ".join([*words, *([f"reason={json.dumps(one.reason)}"] if one.reason else [])])


def _quoted(one: Series) -> str:
    return json.dumps(one.name, ensure_ascii=False)


def headlines(of: Outcome) -> list[str]:
    """Return the sentences that matter."""
    parts = [f"{len(of.of(v))} series {word(v)}" for v in _ORDER if of.of(v)]
    found = [f"{of.head} against {of.base}: {', '.join(parts)}."]
    for one in of.of(Verdict.FAIL):
        found.append(f"{one.name}: {_why(one)}.")
    unclear = of.of(Verdict.INCONCLUSIVE)
    if unclear:
        seen = [one.detectable for one in unclear if one.detectable is not None]
        found.append(f"Inconclusive series never block; {_reach(seen)}.")
    return found


def _reach(seen: Sequence[float]) -> str:
    """Say what slowdowns inconclusive series could see."""
    if not seen:
        return "nothing says what they could see"
    least, most = about(min(seen)), about(max(seen))
    worst = "" if least == most else f", the worst of them from {most} on"
    return f"they could see slowdowns from {least} on{worst}"


def _why(one: Series) -> str:
    """Say why a series fails."""
    because = []
    slowdown = one.slowdown
    if one.time is Verdict.FAIL and slowdown is not None:
        because.append(f"takes {_interval(one)} longer".replace("+", ""))
    because += [
        f"{figure.name} rose from {figure.base:,.12g} to {figure.head:,.12g}"
        for figure in one.exact
        if figure.verdict is Verdict.FAIL
    ]
    return " and ".join(because)


def section(of: Outcome) -> Section:
    """Return the page."""
    parts = [Part("Verdicts", headlines(of), lambda: _charts(of), _table(of), _notes(of))]
    if any(one.exact for one in of.series):
        parts.append(_exact_part(of))
    if of.untraced:
        parts.append(Part("Steps that could not be traced", list(of.untraced)))
    return Section("gate", "Did this change make anything slower?", parts)


def texts(of: Outcome) -> dict[str, str]:
    """Return what is written to a folder, by file name; the page only where what draws it is installed."""
    from siderostat.reports import markdown

    whole = section(of)
    made = f"Measured in lock-step by siderostat {siderostat.__version__}; every process is in first/ and fresh/."
    found = {"gate.json": to_json(of), "gate.md": markdown.section_text(whole, made)}
    try:
        from siderostat.reports import html

        found["gate.html"] = html.section_text(whole, made)
    except ModuleNotFoundError:  # a runner in CI need not have what draws charts
        pass
    return found


def to_json(of: Outcome) -> str:
    """Return the outcome as data; times in seconds per item, changes as 0.03 for 3 %."""
    data = {
        "schema": SCHEMA,
        "base": of.base,
        "head": of.head,
        "floor": of.floor,
        "series": [_datum(one) for one in of.series],
        "untraced": list(of.untraced),
    }
    return json.dumps(data, indent=1) + "\n"


def _datum(one: Series) -> dict[str, Any]:
    slowdown = one.slowdown
    return {
        "series": one.name,
        "key": one.cell.key(),
        "verdict": one.verdict.value,
        "time_verdict": one.time.value,
        "reason": one.reason,
        "basis": one.basis,
        "pairs": one.pairs,
        "fresh_pairs": one.fresh,
        "slowdown": None if slowdown is None else slowdown.value - 1,
        "slowdown_low": None if slowdown is None or slowdown.low is None else slowdown.low - 1,
        "slowdown_high": None if slowdown is None or slowdown.high is None else slowdown.high - 1,
        "detectable": one.detectable,
        "base_seconds_per_item": one.base_s.value if one.base_s else None,
        "head_seconds_per_item": one.head_s.value if one.head_s else None,
        "exact": [
            {"name": figure.name, "base": figure.base, "head": figure.head, "verdict": figure.verdict.value}
            for figure in one.exact
        ],
        "flags": list(one.flags),
    }


def _table(of: Outcome) -> Table:
    head = ["Series", "Verdict", "Time of the head", "Could see", "Base", "Head", "Judged by", "Notes"]
    ranked = sorted(of.series, key=lambda one: _ORDER.index(one.verdict))
    caption = (
        "time of the head: over that of the base, with the 95 % interval; could see: the least slowdown that most such "
        "measurements would find; base and head: time per work unit"
    )
    rows = [TableRow(_cells(one), _KINDS.get(one.verdict, "open")) for one in ranked]
    return Table(head, rows, caption, frozenset({2, 3, 4, 5}))


def _cells(one: Series) -> list[str]:
    pairs = [f"{one.pairs} {'fresh ' if one.pairs == one.fresh else ''}pairs"] if one.pairs else []
    notes = [one.reason, *pairs, *one.flags]
    return [
        one.name,
        word(one.verdict),
        _interval(one) if one.slowdown is not None else "",
        change(1 + one.detectable) if one.detectable is not None else "",
        seconds(one.base_s.value if one.base_s else None),
        seconds(one.head_s.value if one.head_s else None),
        _BASES[one.basis],
        "; ".join(note for note in notes if note),
    ]


def _interval(one: Series) -> str:
    """Return "+3.2 % (+1.0 % to +5.5 %)"."""
    slowdown = one.slowdown
    assert slowdown is not None
    if slowdown.low is None or slowdown.high is None:
        return change(slowdown.value)
    return f"{change(slowdown.value)} ({change(slowdown.low)} to {change(slowdown.high)})"


def _exact_part(of: Outcome) -> Part:
    """Return the figures that differ, and how many do not."""
    title, held = "Figures that a machine cannot disturb", [(one, figure) for one in of.series for figure in one.exact]
    rows = [TableRow(_exact_cells(one, f), _KINDS[f.verdict]) for one, f in held if f.base != f.head]
    if not rows:
        return Part(title, [f"All {len(held)} of them are the same on both sides."])
    caption = f"{len(held) - len(rows)} of {len(held)} such figures are the same on both sides and left out here"
    table = Table(["Series", "Figure", "Verdict", "Base", "Head", "Change"], rows, caption, frozenset({3, 4, 5}))
    return Part(title, table=table)


def _exact_cells(one: Series, figure: Exact) -> list[str]:
    changed = change(figure.head / figure.base) if figure.base else ""
    values = [f"{value:,.0f}" if float(value).is_integer() else number(value) for value in (figure.base, figure.head)]
    return [one.name, figure.name, word(figure.verdict), *values, changed]


def _notes(of: Outcome) -> list[str]:
    return [
        f"FAIL: slower in a first stage, and in fresh pairs again, there by more than {about(of.floor)}. PASS: the "
        f"95 % interval ends below half of that, {about(of.floor / 2)}. All else is INCONCLUSIVE and does not block.",
        "Both revisions were alive and warm together and took turns, so that whatever the machine did, it did to both.",
    ]


def _charts(of: Outcome) -> Iterator[Chart]:
    """Yield the slowdowns with their intervals and the floor."""
    import altair as alt

    from siderostat.reports import theme
    from siderostat.reports.charts import Chart

    points = [_point(one) for one in of.series if one.slowdown is not None]
    if not points:
        return
    ends = [value for p in points for value in (p["low"], p["high"], p["change"]) if value is not None]
    reach = max(abs(value) for value in (*ends, of.floor)) * 1.1
    names = [word(verdict) for verdict in (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)]
    colours = alt.Scale(domain=names, range=[theme.OKABE_ITO[2], theme.OKABE_ITO[0], theme.OKABE_ITO[1]])
    title = "Change of the time, head against base, in %"
    x = alt.X("change:Q", title=title, scale=alt.Scale(domain=[-reach, reach]))
    y = alt.Y("series:N", title=None, sort=None, axis=alt.Axis(labelLimit=420))
    base = alt.Chart(alt.InlineData(values=points)).encode(y=y)
    colour = alt.Color("verdict:N", scale=colours, legend=alt.Legend(title=None, orient="top"))
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q", color=colour)
    dots = base.mark_point(filled=True, size=70).encode(x=x, color=colour)
    rules = [
        alt.Chart(alt.InlineData(values=[{"at": at}])).mark_rule(strokeDash=dash, color=theme.MUTED).encode(x="at:Q")
        for at, dash in ((0.0, [1, 0]), (100 * of.floor, [4, 3]))
    ]
    chart = alt.layer(*rules, bars, dots).properties(width=theme.WIDTH, height=_ROW * len(points))
    spec = {**chart.to_dict(), "config": theme.CONFIG}
    caption = f"Points with 95 % intervals over pairs; dashed: {about(of.floor)}, up to which nothing fails."
    yield Chart("slowdowns", "Slowdowns", caption, spec)


def _point(one: Series) -> dict[str, Any]:
    slowdown = one.slowdown
    assert slowdown is not None
    ends = [None if end is None else 100 * (end - 1) for end in (slowdown.low, slowdown.high)]
    return {
        "series": one.name, "verdict": word(one.time), "change": 100 * (slowdown.value - 1),
        "low": ends[0], "high": ends[1],
    }  # fmt: skip
