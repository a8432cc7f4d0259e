"""How much time and memory a maximum likelihood fit takes, ours and the peers' in turn."""
