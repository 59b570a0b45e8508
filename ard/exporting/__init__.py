"""From weights to an artefact that was checked, within what it may cost in robustness."""
