"""Questions asked of a model or a fit, one file a question."""
