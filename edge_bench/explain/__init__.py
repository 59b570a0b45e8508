"""Where a runtime departs from the one that validated an artefact, layer by layer."""
