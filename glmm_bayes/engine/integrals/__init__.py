"""The marginal likelihood of nested effects by adaptive quadrature."""
