"""A report as one page that needs no network and no script: charts are drawn into it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from siderostat.reports.charts import Chart, charts, quality_charts, svg
from siderostat.reports.document import Document
from siderostat.reports.labels import capital
from siderostat.reports.quality import Learned, grid_png
from siderostat.reports.section import Section

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Figure:
    """A drawn chart."""

    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Picture:
    """A grid of pictures."""

    title: str
    png_base64: str
    count: int


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["capital"] = capital
    environment.filters["grid_base64"] = _grid_base64
    return environment


def section_text(section: Section, made: str) -> str:
    """Return a section as a page of its own.

    Args:
        section: what it shows.
        made: its last line.
    """
    drawn = [_figures(part.charts(), f"{section.name}{i}") for i, part in enumerate(section.parts)]
    return _environment().get_template("section.html.j2").render(section=section, drawn=drawn, made=made)


def text(document: Document) -> str:
    """Return the report as HTML. Whatever comes from records or manifests is escaped."""
    figures = [_figures(charts(s.rows, s.curves), f"s{i}") for i, s in enumerate(document.sets)]
    sections = {
        section.name: [_figures(part.charts(), f"{section.name}{i}") for i, part in enumerate(section.parts)]
        for section in document.sections
    }
    learned = [_figures(quality_charts(part.learned), f"q{i}") for i, part in enumerate(document.learned)]
    pictures = [_pictures(part.learned) for part in document.learned]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(document=document, sections=sections, figures=figures, learned=learned, pictures=pictures)
    )


def _figures(drawn: Iterable[Chart], prefix: str) -> list[Figure]:
    """Draw charts."""
    return [
        # Vega escapes the texts it draws.
        Figure(chart.title, chart.caption, Markup(svg(chart, f"{prefix}-{chart.name}")))
        for chart in drawn
    ]


def _pictures(of: Learned) -> list[Picture]:
    """Return the pictures that the first process made."""
    return [
        Picture(name, _grid_base64(packed), packed["shape"][0]) for name, packed in of.qualities[0].pictures.items()
    ]


def _grid_base64(packed: dict[str, Any]) -> str:
    """Return pictures, as a record holds them, as one picture for a page."""
    return base64.b64encode(grid_png(packed)).decode()
