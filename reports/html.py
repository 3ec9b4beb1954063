"""A report as one page that needs no network and no script: charts are drawn into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from siderostat.reports.charts import charts, svg
from siderostat.reports.document import CaseSet, Document
from siderostat.reports.labels import capital

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Figure:
    """A drawn chart."""

    title: str
    caption: str
    svg: Markup


def text(document: Document) -> str:
    """Return the report as HTML. Whatever comes from records or manifests is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["capital"] = capital
    figures = [_figures(case_set, f"s{i}") for i, case_set in enumerate(document.sets)]
    return environment.get_template("report.html.j2").render(document=document, figures=figures)


def _figures(case_set: CaseSet, prefix: str) -> list[Figure]:
    """Draw the charts of one workload, variant and mode."""
    return [
        # Vega escapes the texts it draws.
        Figure(chart.title, chart.caption, Markup(svg(chart, f"{prefix}-{chart.name}")))
        for chart in charts(case_set.rows, case_set.curves)
    ]
