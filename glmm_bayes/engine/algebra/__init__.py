"""The Hessian of the effects, factored or solved: one interface, and what it is made of."""
