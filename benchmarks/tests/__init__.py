"""Small-sample tests of linear mixed models, beside lmerTest and pbkrtest."""
