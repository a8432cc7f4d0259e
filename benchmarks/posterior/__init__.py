"""How much work, time and memory a posterior takes: ours, its fair control's and the peers'."""
