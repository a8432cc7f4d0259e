"""What phylogenetic mixed models cost against the number of species."""
