"""How the cost of our maximum likelihood fits grows with the rows and with the levels."""
