"""The model as its likelihood sees it: without priors of several parameters together."""

from dataclasses import replace

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.another import changed
from glmm_bayes.parameters import Block


def plain(model: Model) -> Model:
    """
    Put default priors in place of those of several parameters together.

    With these go the parameters that coefficients are a function of. The model itself, where
    there are none; else one whose `whole` is the model.
    """
    if not any(prior.is_whole for block in model.blocks for prior in block.priors):
        return model
    given = {block.name: block for block in model.blocks}
    made = {name for each in model.dependents for name in each.own}
    blocks = tuple(
        _plain(given[default.name], default)
        for default in model.defaults
        if default.name not in made
    )
    return changed(model, blocks=blocks, dependents=(), whole=model)


def _plain(block: Block, default: Block) -> Block:
    pairs = zip(block.priors, default.priors, strict=True)
    return replace(block, priors=tuple(own if p.is_whole else p for p, own in pairs))


def refuse_dependents(model: Model) -> None:
    """
    Refuse what needs the density of the coefficients themselves.

    Raises
    ------
    NotSupportedError
        If coefficients are a function of other parameters.
    """
    for each in model.dependents:
        raise NotSupportedError(
            f"{each.text} coefficients functions of other parameters, around whose common mode "
            f"there is nothing like a normal distribution; use fit('nuts')."
        )
