"""The report: from records to tables, charts and pages."""
