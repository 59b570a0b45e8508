"""A twin of an artefact that shows what lies between its layers, and what it showed here."""
