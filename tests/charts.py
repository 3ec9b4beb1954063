"""What holds for the charts of every reproduction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from siderostat.reports import theme
from siderostat.reports.charts import Chart


def published_among(charts: Iterable[Chart]) -> int:
    """Assert that each series says whether it was measured and that published ones alone are grey; count these."""
    published = 0
    for chart in charts:
        scales = re.findall(r'"domain": (\[[^]]*\]), "range": (\[[^]]*#[^]]*\])', json.dumps(chart.spec))
        assert scales, chart.name
        for names, colours in ((json.loads(names), json.loads(colours)) for names, colours in scales):
            for name, colour in zip(names, colours, strict=True):
                assert name.endswith(("(measured)", "(published)"))
                assert (colour in theme.PUBLISHED_GREYS) == name.endswith("(published)")
                published += name.endswith("(published)")
    return published
