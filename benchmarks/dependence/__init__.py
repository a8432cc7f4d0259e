"""What effects along time, in space and along trees cost, against their number."""
