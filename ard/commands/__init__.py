"""The commands that need torch: flags in, stages called, sentences and tables out."""
