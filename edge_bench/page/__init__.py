"""Reports for people: one page, Markdown or a table of figures, each from the same parts."""
