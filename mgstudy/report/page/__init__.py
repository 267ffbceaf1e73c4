"""The report: a study as one HTML page that needs nothing else to be read."""
