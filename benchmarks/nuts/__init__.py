"""How soon, how fast and in how much memory a posterior comes, ours and bambi's."""
