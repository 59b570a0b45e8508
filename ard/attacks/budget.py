"""The budget (epsilon) that a model is attacked with, where none is given."""

from __future__ import annotations

from edge_bench.core.errors import InputError
from edge_bench.core.spec import NORMS, ModelCard, parse_epsilon, usual_epsilon


def recipe_epsilon(card: ModelCard) -> float:
    """The budget that a model was trained against; the usual one where its recipe names none.

    Raises:
        InputError: the card's is no budget.
    """
    value = card.recipe.get("epsilon")
    if value is None:
        return usual_epsilon(card.input_shape)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(
            f"model card: expected an epsilon of 0 to 1, came {value!r}; give "
            "--epsilon, or make the weights again"
        )
    return float(value)


def budget_of(epsilon: str | None, norm: str, card: ModelCard) -> float:
    """The value of --epsilon in --norm; by default the L-inf budget of the model's training."""
    if norm not in NORMS:
        raise InputError(f"--norm {norm}: expected {' or '.join(NORMS)}")
    if epsilon:
        return parse_epsilon(epsilon, norm=norm)
    if norm != "linf":
        raise InputError(f"--norm {norm}: no budget of training is in this norm; give --epsilon")
    return recipe_epsilon(card)
